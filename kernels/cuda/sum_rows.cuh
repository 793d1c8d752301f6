// Partial sums of many blocks, one matrix row each, added up in the order of the rows: how gradients of parameters come together without
// atomics, the same bits every time.
#pragma once
#include "kernels/cuda/four.cuh"

namespace theia::THEIA_DEVICE {

namespace {

/// The rows of a matrix that one thread of sum_rows takes one after the other are this many apart.
constexpr int kSumRows = 32;

/// first[c] and second[c] (c < width): the sums of columns c and width + c of a packed [rows, 2 * width] matrix, added to what is there if
/// `accumulate`. A warp takes 32 columns and every 32nd row; the 32 warps of a block are added up in their order.
__global__ void __launch_bounds__(kWarp* kSumRows)
    sum_rows(const float* matrix, int64_t rows, int64_t width, float* first, float* second, bool accumulate) {
  THEIA_SHARED(float, sums, [kSumRows][kWarp]);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t columns = 2 * width, blocks = ceil_div(columns, kWarp);
  for (int64_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    const int64_t column = block * kWarp + lane;
    float sum = 0;
    if (column < columns)
#pragma unroll 4
      for (int64_t r = warp; r < rows; r += kSumRows) sum += matrix[r * columns + column];
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && column < columns) {
#pragma unroll
      for (int w = 1; w < kSumRows; ++w) sum += sums[w][lane];
      float* to = column < width ? first + column : second + (column - width);
      *to = accumulate ? *to + sum : sum;
    }
    __syncthreads();
  }
}

}  // namespace

/// Enqueues sum_rows.
inline void launch_sum_rows(const char* name, const float* matrix, int64_t rows, int64_t width, float* first, float* second,
                            bool accumulate, const DeviceContext& context) {
  launch(name, sum_rows, dim3(fold(ceil_div(2 * width, kWarp))), dim3(kWarp * kSumRows), 0, context, matrix, rows, width, first, second,
         accumulate);
}

}  // namespace theia::THEIA_DEVICE
