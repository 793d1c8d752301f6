// Sums over a warp and over a block, always in the same order: no atomics, the same bits every time.
#pragma once
#include "kernels/cuda/runtime.h"

namespace theia::THEIA_DEVICE {

/// The sum over the lanes, in every lane. The lanes agree to the last bit: each step adds the same two numbers on both sides.
__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) v += __shfl_xor_sync(kFullMask, v, offset);
  return v;
}
__device__ __forceinline__ double warp_sum(double v) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) v += __shfl_xor_sync(kFullMask, v, offset);
  return v;
}

/// Eight sums at once: a lane gets the sum of v[lane / 4]. Each step halves the values that a lane keeps, so it takes 9 shuffles, not 40.
__device__ __forceinline__ float warp_sum_of_8(float (&v)[8], int lane) {
#pragma unroll
  for (int n = 4, offset = 16; n > 0; n /= 2, offset /= 2)
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const bool upper = (lane & offset) != 0;
      const float away = upper ? v[i] : v[i + n];
      const float kept = upper ? v[i + n] : v[i];
      v[i] = kept + __shfl_xor_sync(kFullMask, away, offset);
    }
  float sum = v[0];
#pragma unroll
  for (int offset = 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(kFullMask, sum, offset);
  return sum;
}

/// Sums over a block of kWarps warps, in every thread; `scratch` holds kWarps numbers for each of them. Every thread of the block calls it.
template <int kWarps, class T>
__device__ __forceinline__ void block_sum(T& first, T& second, T* scratch) {
  const int warp = threadIdx.x / kWarp;
  first = warp_sum(first);
  second = warp_sum(second);
  if (threadIdx.x % kWarp == 0) {
    scratch[warp] = first;
    scratch[kWarps + warp] = second;
  }
  __syncthreads();
  first = scratch[0];
  second = scratch[kWarps];
#pragma unroll
  for (int w = 1; w < kWarps; ++w) {
    first += scratch[w];
    second += scratch[kWarps + w];
  }
  __syncthreads();  // before anybody writes the next ones
}

}  // namespace theia::THEIA_DEVICE
