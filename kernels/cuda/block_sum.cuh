// Sums over a block, in an order that its size alone fixes.
#pragma once
#include "kernels/cuda/runtime.h"

namespace theia::THEIA_DEVICE {

/// Over a warp; every lane gets the same bits.
__device__ __forceinline__ double warp_sum(double x) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(kFullMask, x, distance);
  return x;
}

/// Over a block of whole warps: thread 0 gets the sums, the others' values are used up. `shared` holds warps x kCount doubles and may be
/// used again at once.
template <int kCount>
__device__ __forceinline__ void block_sum(double (&x)[kCount], double* shared) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, warps = static_cast<int>(blockDim.x) / kWarp;
#pragma unroll
  for (int k = 0; k < kCount; ++k) x[k] = warp_sum(x[k]);
  if (threadIdx.x % kWarp == 0)
    for (int k = 0; k < kCount; ++k) shared[warp * kCount + k] = x[k];
  __syncthreads();
  if (threadIdx.x == 0)
    for (int w = 1; w < warps; ++w)
      for (int k = 0; k < kCount; ++k) x[k] += shared[w * kCount + k];
  __syncthreads();
}

}  // namespace theia::THEIA_DEVICE
