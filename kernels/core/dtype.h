// Element types. bf16 and f16 are storage: two bytes that convert to float32, where all arithmetic is done.
#pragma once
#include <bit>
#include <cstdint>

namespace theia {

enum class DType : uint8_t { f32, f64, bf16, f16, u8, i32, i64 };
inline constexpr int kDTypes = 7;

/// Names as TypeScript uses them, in enum order.
inline constexpr const char* kDTypeNames[kDTypes] = {"float32", "float64", "bfloat16", "float16", "uint8", "int32", "int64"};
inline constexpr int kDTypeBytes[kDTypes] = {4, 8, 2, 2, 1, 4, 8};

constexpr const char* name(DType t) { return kDTypeNames[static_cast<int>(t)]; }
constexpr int bytes_of(DType t) { return kDTypeBytes[static_cast<int>(t)]; }

/// A set of element types, as field lists declare it.
using DTypes = uint16_t;
constexpr DTypes set_of(DType t) { return static_cast<DTypes>(1u << static_cast<int>(t)); }
inline constexpr DTypes kF32 = set_of(DType::f32);
inline constexpr DTypes kF64 = set_of(DType::f64);
inline constexpr DTypes kReal = set_of(DType::f32) | set_of(DType::f64);
inline constexpr DTypes kStored = kReal | set_of(DType::bf16) | set_of(DType::f16);
/// What arithmetic runs on. Backends with tensor cores (cuda, simt) take bfloat16 as well, with float32 sums; the CPU takes it as storage
/// only.
inline constexpr DTypes kDeviceBf16 = 1u << 15;
inline constexpr DTypes kActivation = kReal | kDeviceBf16;
inline constexpr DTypes kU8 = set_of(DType::u8);
inline constexpr DTypes kI32 = set_of(DType::i32);
inline constexpr DTypes kI64 = set_of(DType::i64);

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

constexpr float to_float(float x) { return x; }
constexpr double to_float(double x) { return x; }
constexpr float to_float(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

/// Exact: every half is a float32, subnormals included.
constexpr float to_float(f16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t exponent = (x.bits >> 10) & 31u, mantissa = x.bits & 1023u;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

/// Round to nearest even; a NaN keeps its sign and becomes quiet.
constexpr bf16 to_bf16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

}  // namespace theia
