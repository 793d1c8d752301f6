// Stores to global memory that stay whole. Written as an assignment through a float4*, a store in one branch whose other branch stores
// single elements is split by nvcc into four (seen in SASS: STG.E at +0, +4, +8, +12 for STG.E.128), each of which touches as many sectors.
// The address is a multiple of the size.
#pragma once
#include "kernels/cuda/runtime.h"

namespace theia::THEIA_DEVICE::ptx {

#ifdef __CUDACC__

__device__ __forceinline__ void store_16(void* global, const uint4& v) {
  asm volatile("st.global.v4.b32 [%0], {%1,%2,%3,%4};" ::"l"(__cvta_generic_to_global(global)), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}
__device__ __forceinline__ void store_8(void* global, const uint2& v) {
  asm volatile("st.global.v2.b32 [%0], {%1,%2};" ::"l"(__cvta_generic_to_global(global)), "r"(v.x), "r"(v.y) : "memory");
}

#else

__device__ __forceinline__ void store_16(void* global, const uint4& v) { *static_cast<uint4*>(global) = v; }
__device__ __forceinline__ void store_8(void* global, const uint2& v) { *static_cast<uint2*>(global) = v; }

#endif

}  // namespace theia::THEIA_DEVICE::ptx
