// LayerNorm over the last axis. Up to 1280 columns a warp keeps a row in registers and looks at it three times (mean, deviations, output)
// without going back to memory; wider rows are a block's, which reads them again from L1 and L2.
#include "kernels/layernorm/layernorm.h"

#include "kernels/cuda/four.cuh"
#include "kernels/cuda/sums.cuh"
#include "kernels/layernorm/rows.cuh"

namespace theia::THEIA_DEVICE {

namespace {

struct Forward {
  Stream x, y;
  int64_t x_row, y_row;  // elements between rows
  const float *gamma, *beta;
  float *mean, *rstd;  // null: not saved
  int64_t rows, width;
  float eps;
};

struct Moments {
  float mean, rstd;
};

/// From a first mean, Σ(x - about) and Σ(x - about)². The second look takes out of both results what rounding left in the first mean: a
/// constant row far from zero has variance 0, which eps = 1e-12 would not hide otherwise. NaN stays NaN.
__device__ __forceinline__ Moments moments(float about, float deviations, float squares, int64_t width, float eps) {
  const float rest = deviations / static_cast<float>(width);
  const float variance = squares / static_cast<float>(width) - rest * rest;
  return {about + rest, 1.0f / sqrtf((variance < 0 ? 0.0f : variance) + eps)};
}

/// y of a thread's four elements at `column`, in their place.
template <bool kWide, int kThreads>
__device__ __forceinline__ void normalise(const Forward& a, const Moments& m, int64_t row, int64_t column, int thread, float (&v)[4]) {
  float gamma[4], beta[4];
  read<kWide, kThreads>(a.gamma, column, thread, a.width - column, gamma);
  read<kWide, kThreads>(a.beta, column, thread, a.width - column, beta);
#pragma unroll
  for (int k = 0; k < 4; ++k) v[k] = fmaf((v[k] - m.mean) * m.rstd, gamma[k], beta[k]);
  put<kWide, kThreads>(a.y, row * a.y_row + column, thread, a.width - column, v);
}

template <int kSteps, bool kWide>
__global__ void __launch_bounds__(kRowThreads) layernorm_warp(const __grid_constant__ Forward a) {
  const int lane = threadIdx.x % kWarp;
  const int width = static_cast<int>(a.width);
  for (int64_t r = int64_t{blockIdx.x} * kRowWarps + threadIdx.x / kWarp; r < a.rows; r += int64_t{gridDim.x} * kRowWarps) {
    float v[kSteps][4];
    {
      Four raw[kSteps];
#pragma unroll
      for (int s = 0; s < kSteps; ++s) raw[s] = fetch<kWide, kWarp>(a.x, r * a.x_row + s * kRowPiece, lane, width - s * kRowPiece);
#pragma unroll
      for (int s = 0; s < kSteps; ++s) unpack<kWide>(a.x, raw[s], v[s]);
    }
    float sum = 0;
#pragma unroll
    for (int s = 0; s < kSteps; ++s) sum += (v[s][0] + v[s][1]) + (v[s][2] + v[s][3]);  // 0 where there is no column
    const float about = warp_sum(sum) / static_cast<float>(width);
    float deviations = 0, squares = 0;
#pragma unroll
    for (int s = 0; s < kSteps; ++s)
#pragma unroll
      for (int k = 0; k < 4; ++k)
        if (s * kRowPiece + element_at<kWide, kWarp>(lane, k) < width) {
          const float d = v[s][k] - about;
          deviations += d;
          squares = fmaf(d, d, squares);
        }
    deviations = warp_sum(deviations);
    squares = warp_sum(squares);
    const Moments m = moments(about, deviations, squares, width, a.eps);
#pragma unroll
    for (int s = 0; s < kSteps; ++s) normalise<kWide, kWarp>(a, m, r, s * kRowPiece, lane, v[s]);
    if (lane == 0 && a.mean) {
      a.mean[r] = m.mean;
      a.rstd[r] = m.rstd;
    }
  }
}

template <bool kWide>
__global__ void __launch_bounds__(kLongThreads) layernorm_block(const __grid_constant__ Forward a) {
  THEIA_SHARED(float, scratch, [2 * kLongThreads / kWarp]);
  constexpr int kPiece = 4 * kLongThreads;
  const int thread = threadIdx.x;
  for (int64_t r = blockIdx.x; r < a.rows; r += gridDim.x) {
    float sum = 0, none = 0;
    for (int64_t column = 0; column < a.width; column += kPiece) {
      float v[4];
      unpack<kWide>(a.x, fetch<kWide, kLongThreads>(a.x, r * a.x_row + column, thread, a.width - column), v);
      sum += (v[0] + v[1]) + (v[2] + v[3]);
    }
    block_sum<kLongThreads / kWarp>(sum, none, scratch);
    const float about = sum / static_cast<float>(a.width);
    float deviations = 0, squares = 0;
    for (int64_t column = 0; column < a.width; column += kPiece) {
      float v[4];
      unpack<kWide>(a.x, fetch<kWide, kLongThreads>(a.x, r * a.x_row + column, thread, a.width - column), v);
#pragma unroll
      for (int k = 0; k < 4; ++k)
        if (column + element_at<kWide, kLongThreads>(thread, k) < a.width) {
          const float d = v[k] - about;
          deviations += d;
          squares = fmaf(d, d, squares);
        }
    }
    block_sum<kLongThreads / kWarp>(deviations, squares, scratch);
    const Moments m = moments(about, deviations, squares, a.width, a.eps);
    for (int64_t column = 0; column < a.width; column += kPiece) {
      float v[4];
      unpack<kWide>(a.x, fetch<kWide, kLongThreads>(a.x, r * a.x_row + column, thread, a.width - column), v);
      normalise<kWide, kLongThreads>(a, m, r, column, thread, v);
    }
    if (thread == 0 && a.mean) {
      a.mean[r] = m.mean;
      a.rstd[r] = m.rstd;
    }
  }
}

}  // namespace

void layernorm(const LayernormArgs& a, const DeviceContext& context) {
  const Forward f{stream_of(a.x),
                  stream_of(a.y),
                  a.x.stride[0],
                  a.y.stride[0],
                  a.gamma.ptr<float>(),
                  a.beta.ptr<float>(),
                  a.mean.present() ? a.mean.ptr<float>() : nullptr,
                  a.mean.present() ? a.rstd.ptr<float>() : nullptr,
                  a.x.size[0],
                  a.x.size[1],
                  static_cast<float>(a.eps)};
  const bool wide = in_fours(a.x) && in_fours(a.y) && in_fours(a.gamma) && in_fours(a.beta);
  if (f.width > kRowPiece * kRowSteps) {
    launch("layernorm", wide ? layernorm_block<true> : layernorm_block<false>, dim3(fold(f.rows)), dim3(kLongThreads), 0, context, f);
    return;
  }
  const dim3 grid(fold(ceil_div(f.rows, kRowWarps)));
  with_steps(f.width, wide, [&](auto steps, auto four) {
    launch("layernorm", layernorm_warp<steps.value, four.value>, grid, dim3(kRowThreads), 0, context, f);
  });
}

}  // namespace theia::THEIA_DEVICE
