// Backward of reduce: each token gets dy (of a sum), dy / N (of a mean), or dy where it was the first maximum and 0 elsewhere.
#include "kernels/cuda/four.cuh"
#include "kernels/reduce/reduce.h"
#include "kernels/reduce/tokens.cuh"

namespace theia::THEIA_DEVICE {

namespace {

struct Backward {
  Stream x, y, dy, dx;  // x and y: max only
  int64_t x_sample, x_token, y_sample, dy_sample, dx_sample, dx_token;
  int64_t batch, tokens, width;
  float divisor;
};

/// Tokens of a block where nothing has to be looked for.
constexpr int kChunk = 8 * kReduceWarps;

template <bool kWide>
__global__ void __launch_bounds__(kReduceThreads) spread(const __grid_constant__ Backward a) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t pieces = ceil_div(a.width, kReducePiece), chunks = ceil_div(a.tokens, kChunk);
  for (int64_t item = blockIdx.x; item < a.batch * chunks * pieces; item += gridDim.x) {
    const int64_t row = item / pieces, column = (item - row * pieces) * kReducePiece, left = a.width - column;
    const int64_t sample = row / chunks, first = (row - sample * chunks) * kChunk;
    const int64_t end = first + kChunk < a.tokens ? first + kChunk : a.tokens;
    float v[4];
    unpack<kWide>(a.dy, fetch<kWide, kWarp>(a.dy, sample * a.dy_sample + column, lane, left), v);
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] /= a.divisor;
    for (int64_t token = first + warp; token < end; token += kReduceWarps)
      put<kWide, kWarp>(a.dx, sample * a.dx_sample + token * a.dx_token + column, lane, left, v);
  }
}

/// A block has all tokens of its columns: each warp finds the first maximum among its own, the first of those is it.
template <bool kWide>
__global__ void __launch_bounds__(kReduceThreads) spread_max(const __grid_constant__ Backward a) {
  THEIA_SHARED(int64_t, found, [kReduceWarps][kReducePiece]);
  constexpr int kTogether = 4;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t pieces = ceil_div(a.width, kReducePiece);
  for (int64_t item = blockIdx.x; item < a.batch * pieces; item += gridDim.x) {
    const int64_t sample = item / pieces, column = (item - sample * pieces) * kReducePiece, left = a.width - column;
    float y[4], dy[4];
    unpack<kWide>(a.y, fetch<kWide, kWarp>(a.y, sample * a.y_sample + column, lane, left), y);
    unpack<kWide>(a.dy, fetch<kWide, kWarp>(a.dy, sample * a.dy_sample + column, lane, left), dy);
    int64_t first[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) first[k] = a.tokens;
    for (int64_t token = warp; token < a.tokens; token += kTogether * kReduceWarps) {
      Four raw[kTogether];
#pragma unroll
      for (int t = 0; t < kTogether; ++t) {
        const int64_t at = token + t * kReduceWarps;
        raw[t] = fetch<kWide, kWarp>(a.x, sample * a.x_sample + at * a.x_token + column, lane, at < a.tokens ? left : 0);
      }
#pragma unroll
      for (int t = 0; t < kTogether; ++t) {
        const int64_t at = token + t * kReduceWarps;
        if (at >= a.tokens) break;
        float v[4];
        unpack<kWide>(a.x, raw[t], v);
#pragma unroll
        for (int k = 0; k < 4; ++k)
          if (first[k] == a.tokens && (v[k] == y[k] || (v[k] != v[k] && y[k] != y[k]))) first[k] = at;
      }
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) found[warp][element_at<kWide, kWarp>(lane, k)] = first[k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
      for (int w = 0; w < kReduceWarps; ++w) {
        const int64_t there = found[w][element_at<kWide, kWarp>(lane, k)];
        first[k] = there < first[k] ? there : first[k];
      }
    for (int64_t token = warp; token < a.tokens; token += kReduceWarps) {
      float v[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) v[k] = token == first[k] ? dy[k] : 0.0f;
      put<kWide, kWarp>(a.dx, sample * a.dx_sample + token * a.dx_token + column, lane, left, v);
    }
    __syncthreads();
  }
}

}  // namespace

void reduce_grad(const ReduceGradArgs& a, const DeviceContext& context) {
  Backward b{};
  b.x = stream_of(a.x);
  b.y = stream_of(a.y);
  b.dy = stream_of(a.dy);
  b.dx = stream_of(a.dx);
  b.x_sample = a.x.stride[0];
  b.x_token = a.x.stride[1];
  b.y_sample = a.y.stride[0];
  b.dy_sample = a.dy.stride[0];
  b.dx_sample = a.dx.stride[0];
  b.dx_token = a.dx.stride[1];
  b.batch = a.dx.size[0];
  b.tokens = a.dx.size[1];
  b.width = a.dx.size[2];
  b.divisor = a.kind == static_cast<int64_t>(Reduction::mean) ? static_cast<float>(b.tokens) : 1.0f;
  const int64_t pieces = ceil_div(b.width, kReducePiece);
  const bool wide = in_fours(a.dy) && in_fours(a.dx);
  if (a.kind == static_cast<int64_t>(Reduction::max))
    launch("reduce_grad", wide && in_fours(a.x) && in_fours(a.y) ? spread_max<true> : spread_max<false>, dim3(fold(b.batch * pieces)),
           dim3(kReduceThreads), 0, context, b);
  else
    launch("reduce_grad", wide ? spread<true> : spread<false>, dim3(fold(b.batch * ceil_div(b.tokens, kChunk) * pieces)),
           dim3(kReduceThreads), 0, context, b);
}

}  // namespace theia::THEIA_DEVICE
