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

#else

inline uint32_t bf16_bits(float x) { return x != x ? 0x7fffu : to_bf16(x).bits; }  // the instruction has one NaN
inline uint32_t f16_bits(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x), sign = u >> 16 & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fffu;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // 65520 and above round to infinity
  const int exponent = static_cast<int>(magnitude >> 23) - 127;
  if (exponent < -25) return sign;
  // The last bit of the result is worth 2^(exponent - 10), but never less than 2^-24.
  const int drop = exponent >= -14 ? 13 : -1 - exponent;
  const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  const uint32_t kept = mantissa >> drop, rest = mantissa & ((1u << drop) - 1u), half = 1u << (drop - 1);
  const uint32_t rounded = kept + (rest > half || (rest == half && (kept & 1u)));
  // A normal number keeps its leading one in `rounded`: it adds one to the exponent field, and so does a carry.
  return sign | (exponent >= -14 ? (static_cast<uint32_t>(exponent + 14) << 10) + rounded : rounded);
}
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) { return bf16_bits(low) | bf16_bits(high) << 16; }
__device__ __forceinline__ uint32_t pack_f16(float low, float high) { return f16_bits(low) | f16_bits(high) << 16; }
__device__ __forceinline__ float unpack_f16(uint32_t half) { return to_float(f16{static_cast<uint16_t>(half)}); }
__device__ __forceinline__ uint32_t to_tf32(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7f800000u) == 0x7f800000u) return (u & 0x7fffffu) ? 0x7fffffffu : u;
  return (u + 0x1000u) & 0xffffe000u;
}
__device__ __forceinline__ float exp2_approx(float x) {
  const float y = std::exp2(std::fabs(x) < 0x1p-126f ? 0.f : x);
  return y < 0x1p-126f ? 0.f : y;
}

#endif

/// The two halves of a packed pair of bf16 as float32: exact.
__device__ __forceinline__ float low_bf16(uint32_t packed) { return std::bit_cast<float>(packed << 16); }
__device__ __forceinline__ float high_bf16(uint32_t packed) { return std::bit_cast<float>(packed & 0xffff0000u); }

}  // namespace theia::THEIA_DEVICE::ptx
