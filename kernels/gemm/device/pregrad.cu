#include "kernels/gemm/device/pregrad.h"

#include <algorithm>

#include "kernels/gemm/device/epilogue.cuh"

namespace theia::THEIA_DEVICE {

namespace {

constexpr int kColumns = 4 * kWarp, kLanes = 8;  // a warp takes a row of the block's columns, four a lane
constexpr int kThreads = kWarp * kLanes;

__device__ __forceinline__ float4 add(const float4& a, const float4& b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }

/// Each block: kColumns columns of `part` rows. partial[block row][column], or null.
__global__ void __launch_bounds__(kThreads)
    pregrad_kernel(const __grid_constant__ DevicePregrad p, float* partial, int64_t part, bool vector) {
  THEIA_SHARED(float4, sums, [kLanes][kWarp]);
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + lane * 4;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * part, end = begin + part < p.rows ? begin + part : p.rows;
  const int count = p.columns - column >= 4 ? 4 : p.columns > column ? static_cast<int>(p.columns - column) : 0;
  const bool whole = vector && count == 4;
  float sum[4] = {0, 0, 0, 0};
  if (count > 0) {
#pragma unroll 2
    for (int64_t row = begin + warp; row < end; row += kLanes) {
      float d[4], f[4];
      load4(p.dy, line_offset(p.dy.rows, row) + column, count, whole, d);
      if (p.multiply != Multiply::none) {
        load4(p.factor, line_offset(p.factor.rows, row) + column, count, whole, f);
#pragma unroll
        for (int i = 0; i < 4; ++i) d[i] = p.multiply == Multiply::value ? d[i] * f[i] : f[i] > 0.0f ? d[i] : 0.0f;
      }
      if (p.dpre.data) save4(p.dpre, line_offset(p.dpre.rows, row) + column, count, whole, d);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] += d[i];
    }
  }
  if (!partial) return;
  sums[warp][lane] = make_float4(sum[0], sum[1], sum[2], sum[3]);
  __syncthreads();
  if (warp > 0 || count == 0) return;
  float4 all = sums[0][lane];
#pragma unroll
  for (int i = 1; i < kLanes; ++i) all = add(all, sums[i][lane]);
  const float v[4] = {all.x, all.y, all.z, all.w};
  save4({partial, DType::f32, {}}, static_cast<int64_t>(blockIdx.y) * p.columns + column, count, p.columns % 4 == 0 && count == 4, v);
}

/// A block sums 32 columns: each of its warps every kLanes-th row, then the warps' sums in order.
__global__ void __launch_bounds__(kThreads)
    add_up_rows_kernel(const float* data, int64_t rows, int64_t columns, int64_t stride, float* out, bool accumulate) {
  THEIA_SHARED(float, sums, [kLanes][kWarp]);
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarp + lane;
  float sum = 0;
  if (column < columns) {
#pragma unroll 4
    for (int64_t row = warp; row < rows; row += kLanes) sum += data[row * stride + column];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || column >= columns) return;
#pragma unroll
  for (int i = 1; i < kLanes; ++i) sum += sums[i][lane];
  out[column] = accumulate ? out[column] + sum : sum;
}

/// Rows a block takes: enough blocks for eight on every multiprocessor, and at most 256 partial sums a column.
int64_t part_of(const DevicePregrad& p, const DeviceInfo& info) {
  const int64_t across = ceil_div(p.columns, kColumns), wanted = ceil_div(8 * info.multiprocessors, across);
  const int64_t down = std::clamp<int64_t>(std::min(wanted, ceil_div(p.rows, 4 * kLanes)), 1, 256);
  return round_up(ceil_div(p.rows, down), kLanes);
}

}  // namespace

bool pregrad_needed(const DevicePregrad& p) { return p.columns > 0 && (p.dbias || (p.dpre.data && p.rows > 0)); }

int64_t pregrad_workspace(const DevicePregrad& p, const DeviceInfo& info) {
  if (!pregrad_needed(p) || !p.dbias || p.rows == 0) return 0;
  return ceil_div(p.rows, part_of(p, info)) * p.columns * static_cast<int64_t>(sizeof(float));
}

void pregrad(const char* name, const DevicePregrad& p, const DeviceContext& context) {
  if (!pregrad_needed(p)) return;
  float* const partial = p.dbias ? reinterpret_cast<float*>(context.workspace) : nullptr;
  const int64_t part = p.rows > 0 ? part_of(p, *context.info) : 1, down = ceil_div(p.rows, part);
  const bool vector = takes_vectors(p.dy) && takes_vectors(p.factor) && takes_vectors(p.dpre);
  if (down > 0)
    launch(name, pregrad_kernel, dim3(static_cast<unsigned>(ceil_div(p.columns, kColumns)), static_cast<unsigned>(down)), dim3(kThreads), 0,
           context, p, partial, part, vector);
  if (p.dbias) add_up_rows(name, partial, down, p.columns, p.columns, p.dbias, p.accumulate, context);
}

void add_up_rows(const char* name, const float* data, int64_t rows, int64_t columns, int64_t stride, float* out, bool accumulate,
                 const DeviceContext& context) {
  if (columns == 0) return;
  launch(name, add_up_rows_kernel, dim3(static_cast<unsigned>(ceil_div(columns, kWarp))), dim3(kThreads), 0, context, data, rows, columns,
         stride, out, accumulate);
}

}  // namespace theia::THEIA_DEVICE
