// Conversions and approximations that have an instruction of their own.
#pragma once
#include <bit>

#include "kernels/core/dtype.h"
#include "kernels/cuda/runtime.h"

namespace theia::THEIA_DEVICE::ptx {

#ifdef __CUDACC__

/// Two float32 as bf16, round to nearest even: `low` in the low half, which is the lower address.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
__device__ __forceinline__ uint32_t pack_f16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
__device__ __forceinline__ float unpack_f16(uint32_t half) {  // the low 16 bits
  float value;
  asm("{ .reg .b16 h; cvt.u16.u32 h, %1; cvt.f32.f16 %0, h; }" : "=f"(value) : "r"(half));
  return value;
}
/// Rounded (to nearest, ties away) to the 10 bits of mantissa that tensor cores read of a float32.
__device__ __forceinline__ uint32_t to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}
/// 2^x within 2 units in the last place, subnormal results to zero.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#endif

/// The two halves of a packed pair of bf16 as float32: exact.
__device__ __forceinline__ float low_bf16(uint32_t packed) { return std::bit_cast<float>(packed << 16); }
__device__ __forceinline__ float high_bf16(uint32_t packed) { return std::bit_cast<float>(packed & 0xffff0000u); }

}  // namespace theia::THEIA_DEVICE::ptx
