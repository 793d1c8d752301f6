// CUDA's device functions under their own names: bit casts, approximations (here the exact function), shuffles and votes, atomics.
// All lie in namespace theia::simt, so that nothing of them leaks into the rest of the program.
#pragma once
#include <bit>
#include <climits>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/simt/emulator.h"

namespace theia::simt {

inline constexpr int warpSize = 32;

// ---- barriers, fences -------------------------------------------------------------------------------------------------------------
inline void __syncthreads(Site site = Site::here()) { barrier(Combine::none, 0, site); }
inline int __syncthreads_or(int p, Site site = Site::here()) { return barrier(Combine::any, p, site); }
inline int __syncthreads_and(int p, Site site = Site::here()) { return barrier(Combine::all, p, site); }
inline int __syncthreads_count(int p, Site site = Site::here()) { return barrier(Combine::count, p, site); }
inline void __syncwarp(unsigned mask = 0xffffffffu, Site site = Site::here()) { sync_warp(mask, site); }
// Threads run one at a time: the compiler is all that could reorder.
inline void __threadfence_block() { asm volatile("" ::: "memory"); }
inline void __threadfence() { asm volatile("" ::: "memory"); }

// ---- bit casts and bits -------------------------------------------------------------------------------------------------------------
constexpr unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
constexpr int __float_as_int(float x) { return std::bit_cast<int>(x); }
constexpr float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
constexpr float __int_as_float(int x) { return std::bit_cast<float>(x); }
constexpr long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
constexpr double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
constexpr int __popc(unsigned x) { return std::popcount(x); }
constexpr int __popcll(unsigned long long x) { return std::popcount(x); }
constexpr int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
constexpr int __ffs(int x) { return x ? std::countr_zero(static_cast<unsigned>(x)) + 1 : 0; }
constexpr unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32); }
constexpr unsigned __brev(unsigned x) {
  unsigned y = 0;
  for (int i = 0; i < 32; ++i) y |= (x >> i & 1u) << (31 - i);
  return y;
}
/// Four bytes of (y:x), each chosen by the low three bits of a nibble of `selector`.
constexpr unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t all = static_cast<uint64_t>(y) << 32 | x;
  unsigned r = 0;
  for (int i = 0; i < 4; ++i) r |= static_cast<unsigned>(all >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
  return r;
}

// ---- arithmetic ---------------------------------------------------------------------------------------------------------------------
/// Of any two arithmetic types, as CUDA's overloads: a NaN loses against a number.
template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  const T x = static_cast<T>(a), y = static_cast<T>(b);
  return y < x || x != x ? y : x;
}
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  const T x = static_cast<T>(a), y = static_cast<T>(b);
  return x < y || x != x ? y : x;
}
inline float rsqrtf(float x) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(x))); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __exp2f(float x) { return std::exp2(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __tanhf(float x) { return std::tanh(x); }
constexpr float __fdividef(float x, float y) { return x / y; }
constexpr float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.f) : 0.f; }
// The forms that are never contracted. The volatile keeps this compiler from fusing them too.
inline float __fmul_rn(float x, float y) {
  volatile float p = x * y;
  return p;
}
inline float __fadd_rn(float x, float y) {
  volatile float s = x + y;
  return s;
}
inline float __fsub_rn(float x, float y) {
  volatile float s = x - y;
  return s;
}
inline double __dmul_rn(double x, double y) {
  volatile double p = x * y;
  return p;
}
inline double __dadd_rn(double x, double y) {
  volatile double s = x + y;
  return s;
}
constexpr float __fdiv_rn(float x, float y) { return x / y; }
constexpr float __frcp_rn(float x) { return 1.f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline double __fma_rn(double x, double y, double z) { return std::fma(x, y, z); }
constexpr float __int2float_rn(int x) { return static_cast<float>(x); }
constexpr float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
constexpr float __double2float_rn(double x) { return static_cast<float>(x); }
/// Saturating, NaN to zero: what the GPU does where C++ leaves it undefined.
constexpr int saturated_int(double x) {
  if (x != x) return 0;
  return x >= 2147483647.0 ? INT_MAX : x <= -2147483648.0 ? INT_MIN : static_cast<int>(x);
}
inline int __float2int_rn(float x) { return saturated_int(std::nearbyint(x)); }
inline int __float2int_rd(float x) { return saturated_int(std::floor(x)); }
inline int __float2int_ru(float x) { return saturated_int(std::ceil(x)); }
inline int __float2int_rz(float x) { return saturated_int(std::trunc(x)); }

// ---- loads and stores with a cache hint ---------------------------------------------------------------------------------------------
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
void __stcg(T* p, T v) {
  *p = v;
}
template <class T>
void __stcs(T* p, T v) {
  *p = v;
}

// ---- shuffles and votes -------------------------------------------------------------------------------------------------------------
template <class T>
T shuffle_of(Shuffle kind, unsigned mask, T v, int argument, int width, Site site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles exchange 4 or 8 bytes");
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  return std::bit_cast<T>(static_cast<Bits>(shuffle(kind, mask, std::bit_cast<Bits>(v), argument, width, site)));
}
template <class T>
T __shfl_sync(unsigned mask, T v, int lane, int width = 32, Site site = Site::here()) {
  return shuffle_of(Shuffle::index, mask, v, lane, width, site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, Site site = Site::here()) {
  return shuffle_of(Shuffle::up, mask, v, static_cast<int>(delta), width, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, Site site = Site::here()) {
  return shuffle_of(Shuffle::down, mask, v, static_cast<int>(delta), width, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32, Site site = Site::here()) {
  return shuffle_of(Shuffle::xor_, mask, v, lanes, width, site);
}
inline unsigned __ballot_sync(unsigned mask, int p, Site site = Site::here()) { return ballot(mask, p != 0, site); }
inline int __any_sync(unsigned mask, int p, Site site = Site::here()) { return ballot(mask, p != 0, site) != 0; }
inline int __all_sync(unsigned mask, int p, Site site = Site::here()) { return ballot(mask, p != 0, site) == mask; }

// ---- atomics, on global or shared memory --------------------------------------------------------------------------------------------
template <class T, class F>
T atomic_update(T* p, F next) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  Bits* const word = reinterpret_cast<Bits*>(p);
  Bits old = __atomic_load_n(word, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(word, &old, std::bit_cast<Bits>(static_cast<T>(next(std::bit_cast<T>(old)))), false, __ATOMIC_ACQ_REL,
                                      __ATOMIC_RELAXED)) {
  }
  return std::bit_cast<T>(old);
}
template <class T>
T atomicAdd(T* p, std::type_identity_t<T> v) {
  return atomic_update(p, [v](T old) { return old + v; });
}
template <class T>
T atomicSub(T* p, std::type_identity_t<T> v) {
  return atomic_update(p, [v](T old) { return old - v; });
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> v) {
  static_assert(std::is_integral_v<T>);
  return atomic_update(p, [v](T old) { return old < v ? v : old; });
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> v) {
  static_assert(std::is_integral_v<T>);
  return atomic_update(p, [v](T old) { return v < old ? v : old; });
}
template <class T>
T atomicOr(T* p, std::type_identity_t<T> v) {
  return atomic_update(p, [v](T old) { return old | v; });
}
template <class T>
T atomicAnd(T* p, std::type_identity_t<T> v) {
  return atomic_update(p, [v](T old) { return old & v; });
}
template <class T>
T atomicExch(T* p, std::type_identity_t<T> v) {
  return atomic_update(p, [v](T) { return v; });
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
  return atomic_update(p, [=](T old) { return old == expected ? v : old; });
}
/// (old >= limit) ? 0 : old + 1
inline unsigned atomicInc(unsigned* p, unsigned limit) {
  return atomic_update(p, [limit](unsigned old) { return old >= limit ? 0u : old + 1u; });
}

}  // namespace theia::simt
