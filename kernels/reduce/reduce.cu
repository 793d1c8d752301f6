// Mean, max or sum over the tokens of [B,N,D]. A block has 128 columns of a sample; its eight warps take every eighth token and are
// combined in their order.
#include "kernels/reduce/reduce.h"

#include "kernels/cuda/four.cuh"
#include "kernels/reduce/tokens.cuh"

namespace theia::THEIA_DEVICE {

namespace {

struct Forward {
  Stream x, y;
  int64_t x_sample, x_token, y_sample;  // elements between samples, tokens
  int64_t batch, tokens, width;
  bool mean, max;
};

/// NaN wins and stays.
__device__ __forceinline__ float larger(float kept, float v) { return v > kept || v != v ? v : kept; }

template <bool kWide>
__global__ void __launch_bounds__(kReduceThreads) reduce_tokens(const __grid_constant__ Forward a) {
  THEIA_SHARED(float, parts, [kReduceWarps][kReducePiece]);
  constexpr int kTogether = 4;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t pieces = ceil_div(a.width, kReducePiece);
  for (int64_t item = blockIdx.x; item < a.batch * pieces; item += gridDim.x) {
    const int64_t sample = item / pieces, column = (item - sample * pieces) * kReducePiece, left = a.width - column;
    const int64_t start = sample * a.x_sample + column;
    float sum[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) sum[k] = a.max ? -INFINITY : -0.0f;  // -0 + v is v, whatever v
    for (int64_t token = warp; token < a.tokens; token += kTogether * kReduceWarps) {
      Four raw[kTogether];
#pragma unroll
      for (int t = 0; t < kTogether; ++t) {
        const int64_t at = token + t * kReduceWarps;
        raw[t] = fetch<kWide, kWarp>(a.x, start + at * a.x_token, lane, at < a.tokens ? left : 0);
      }
#pragma unroll
      for (int t = 0; t < kTogether; ++t) {
        if (token + t * kReduceWarps >= a.tokens) break;
        float v[4];
        unpack<kWide>(a.x, raw[t], v);
#pragma unroll
        for (int k = 0; k < 4; ++k) sum[k] = a.max ? larger(sum[k], v[k]) : sum[k] + v[k];
      }
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) parts[warp][element_at<kWide, kWarp>(lane, k)] = sum[k];
    __syncthreads();
    const int mine = threadIdx.x;
    if (mine < kReducePiece && mine < left) {
      float total = parts[0][mine];
#pragma unroll
      for (int w = 1; w < kReduceWarps; ++w) total = a.max ? larger(total, parts[w][mine]) : total + parts[w][mine];
      if (a.mean) total /= static_cast<float>(a.tokens);
      put_one(a.y, sample * a.y_sample + column + mine, total);
    }
    __syncthreads();
  }
}

}  // namespace

void reduce(const ReduceArgs& a, const DeviceContext& context) {
  const Forward f{stream_of(a.x),
                  stream_of(a.y),
                  a.x.stride[0],
                  a.x.stride[1],
                  a.y.stride[0],
                  a.x.size[0],
                  a.x.size[1],
                  a.x.size[2],
                  a.kind == static_cast<int64_t>(Reduction::mean),
                  a.kind == static_cast<int64_t>(Reduction::max)};
  launch("reduce", in_fours(a.x) ? reduce_tokens<true> : reduce_tokens<false>, dim3(fold(f.batch * ceil_div(f.width, kReducePiece))),
         dim3(kReduceThreads), 0, context, f);
}

}  // namespace theia::THEIA_DEVICE
