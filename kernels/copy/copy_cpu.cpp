#include "kernels/copy/copy.h"

#include <cstring>
#include <type_traits>

namespace theia {

namespace {

/// Round to nearest even; what is too large becomes infinite, NaN keeps its sign and the upper bits of its payload and becomes quiet, as
/// the conversion of the CPU does.
f16 to_f16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const uint32_t sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu))};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // from 65520 on
  if (magnitude >= 0x38800000u) {                                                // 2^-14: a normal half
    const uint32_t rebased = magnitude - 0x38000000u;
    return {static_cast<uint16_t>(sign | ((rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13))};
  }
  // Subnormal: adding 1/2 leaves the multiples of 2^-24 in the last bits of the sum, rounded by the addition.
  const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
  return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u))};
}

template <class S, class D>
D convert(S v) {
  if constexpr (std::is_same_v<S, D>)
    return v;
  else if constexpr (std::is_same_v<D, bf16>)
    return to_bf16(static_cast<float>(to_float(v)));
  else if constexpr (std::is_same_v<D, f16>)
    return to_f16(static_cast<float>(to_float(v)));
  else if constexpr (std::is_same_v<S, bf16> || std::is_same_v<S, f16>)
    return static_cast<D>(to_float(v));
  else
    return static_cast<D>(v);
}

template <class S, class D, bool kAdd>
void put(D& to, S v) {
  if constexpr (kAdd)
    to += convert<S, D>(v);
  else
    to = convert<S, D>(v);
}

template <class S, class D, bool kAdd>
void packed(const std::byte* from, std::byte* to, int64_t n) {
  const S* src = reinterpret_cast<const S*>(from);
  D* dst = reinterpret_cast<D*>(to);
  if constexpr (std::is_same_v<S, D> && !kAdd)
    std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(D));
  else
    for (int64_t i = 0; i < n; ++i) put<S, D, kAdd>(dst[i], src[i]);
}

template <class S, class D, bool kAdd>
void strided(const std::byte* from, int64_t src_step, std::byte* to, int64_t dst_step, int64_t n) {
  const S* src = reinterpret_cast<const S*>(from);
  D* dst = reinterpret_cast<D*>(to);
  if (src_step == 0 && dst_step == 1) {  // a broadcast: one value, which the compiler can keep
    const S v = src[0];
    for (int64_t i = 0; i < n; ++i) put<S, D, kAdd>(dst[i], v);
    return;
  }
  for (int64_t i = 0; i < n; ++i) put<S, D, kAdd>(dst[i * dst_step], src[i * src_step]);
}

template <class S, class D, bool kAdd>
void tile(const std::byte* from, int64_t src_row, int64_t src_column, std::byte* to, int64_t dst_row, int64_t dst_column, int64_t rows,
          int64_t columns) {
  constexpr int64_t kBlock = 16;  // columns at a time: a cache line of dst stays until it is full
  const S* src = reinterpret_cast<const S*>(from);
  D* dst = reinterpret_cast<D*>(to);
  for (int64_t begin = 0; begin < columns; begin += kBlock) {
    const int64_t end = begin + kBlock < columns ? begin + kBlock : columns;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = begin; c < end; ++c) put<S, D, kAdd>(dst[r * dst_row + c * dst_column], src[r * src_row + c * src_column]);
  }
}

template <class S, class D, bool kAdd = false>
constexpr CopyKernels of() {
  return {packed<S, D, kAdd>, strided<S, D, kAdd>, tile<S, D, kAdd>};
}

template <class S>
CopyKernels to_real(DType dst, bool accumulate) {
  if (dst == DType::f64) return accumulate ? of<S, double, true>() : of<S, double>();
  return accumulate ? of<S, float, true>() : of<S, float>();
}

}  // namespace

CopyKernels plain_copy(DType src, DType dst, bool accumulate) {
  if (src == dst && !accumulate) switch (bytes_of(src)) {
      case 1:
        return of<uint8_t, uint8_t>();
      case 2:
        return of<uint16_t, uint16_t>();
      case 4:
        return of<uint32_t, uint32_t>();
      default:
        return of<uint64_t, uint64_t>();
    }
  switch (src) {
    case DType::f64:
      return to_real<double>(dst, accumulate);
    case DType::bf16:
      return dst == DType::f16 ? of<bf16, f16>() : to_real<bf16>(dst, accumulate);
    case DType::f16:
      return dst == DType::bf16 ? of<f16, bf16>() : to_real<f16>(dst, accumulate);
    case DType::u8:
      return to_real<uint8_t>(dst, accumulate);
    default:
      break;  // f32; check() lets no other type come here
  }
  if (dst == DType::bf16) return of<float, bf16>();
  if (dst == DType::f16) return of<float, f16>();
  return to_real<float>(dst, accumulate);
}

namespace cpu {

template <class T>
void copy(const CopyArgs& a, const Context& context) {
  walk(a, context, plain_copy(a.src.dtype, a.dst.dtype, a.accumulate != 0));
}

template void copy<float>(const CopyArgs&, const Context&);
template void copy<double>(const CopyArgs&, const Context&);

}  // namespace cpu

}  // namespace theia
