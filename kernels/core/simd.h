// Vectors of floats for the files that are compiled once per instruction set. Such a file defines THEIA_ISA as avx512 or avx2 before it
// includes this header; everything here then lies in that namespace and has internal linkage, so that the linker can never hand the
// AVX-512 copy of a helper to an AVX2 caller. For the same reason ISA files call no inline or template function of std or of other
// headers. kLanes floats make a vector: 16 or 8.
//
// Vectors are GCC vector extensions: + - * / and comparisons work on them, also with a float on one side; `mask ? a : b` selects.
#pragma once
#if !defined(THEIA_ISA)
#error "define THEIA_ISA as avx512 or avx2 before including simd.h"
#endif
#include <immintrin.h>

#include <cstdint>

#include "kernels/core/dtype.h"

// GCC 12 warns about its own AVX-512 headers, in which "undefined" operands are variables set to themselves.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

namespace theia::THEIA_ISA {

#define THEIA_INLINE static inline __attribute__((always_inline, unused))

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#else
inline constexpr int kLanes = 8;
#endif
using vf = float __attribute__((vector_size(kLanes * 4)));
using vi = int32_t __attribute__((vector_size(kLanes * 4)));

THEIA_INLINE vf set1(float x) { return x - vf{}; }  // x - 0 keeps -0 and NaN, and folds to one broadcast
THEIA_INLINE vi lane_index() {
#if defined(__AVX512F__)
  return vi{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#else
  return vi{0, 1, 2, 3, 4, 5, 6, 7};
#endif
}
THEIA_INLINE vi as_int(vf x) { return (vi)x; }
THEIA_INLINE vf as_float(vi x) { return (vf)x; }

// ---- memory. `_n` variants touch only the first n elements, 0 <= n <= kLanes; the lanes above load as 0. No alignment is needed.

#if defined(__AVX512F__)

THEIA_INLINE __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
THEIA_INLINE vf load(const float* p) { return (vf)_mm512_loadu_ps(p); }
THEIA_INLINE void store(float* p, vf x) { _mm512_storeu_ps(p, x); }
THEIA_INLINE vf load_n(const float* p, int n) { return (vf)_mm512_maskz_loadu_ps(first_lanes(n), p); }
THEIA_INLINE void store_n(float* p, vf x, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), x); }

THEIA_INLINE vf widen_bf16(__m256i h) { return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16); }
/// Round to nearest even; a NaN keeps its sign and becomes quiet (as to_bf16 in dtype.h).
THEIA_INLINE __m256i narrow_bf16(vf x) {
  const __m512i u = (__m512i)x;
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
  return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet));
}
THEIA_INLINE vf load(const bf16* p) { return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
THEIA_INLINE vf load_n(const bf16* p, int n) { return widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(n), p)); }
THEIA_INLINE void store(bf16* p, vf x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(x)); }
THEIA_INLINE void store_n(bf16* p, vf x, int n) { _mm256_mask_storeu_epi16(p, first_lanes(n), narrow_bf16(x)); }
THEIA_INLINE vf load(const f16* p) { return (vf)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
THEIA_INLINE vf load_n(const f16* p, int n) { return (vf)_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p)); }
THEIA_INLINE void store(f16* p, vf x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
THEIA_INLINE void store_n(f16* p, vf x, int n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
THEIA_INLINE vf load(const uint8_t* p) {
  return (vf)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
THEIA_INLINE vf load_n(const uint8_t* p, int n) {
  return (vf)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first_lanes(n), p)));
}

THEIA_INLINE vf fma(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps(a, b, c); }
THEIA_INLINE vf fnma(vf a, vf b, vf c) { return (vf)_mm512_fnmadd_ps(a, b, c); }  // c - a·b
/// If either is NaN the result is b.
THEIA_INLINE vf vmin(vf a, vf b) { return (vf)_mm512_min_ps(a, b); }
THEIA_INLINE vf vmax(vf a, vf b) { return (vf)_mm512_max_ps(a, b); }
THEIA_INLINE vf vround(vf x) { return (vf)_mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
THEIA_INLINE vf vsqrt(vf x) { return (vf)_mm512_sqrt_ps(x); }
/// x · 2^n for whole n, right where the result is subnormal, zero or infinite.
THEIA_INLINE vf scale2(vf x, vf n) { return (vf)_mm512_scalef_ps(x, n); }
/// 1/x within 2 ulp for normal x whose reciprocal is normal: three cheap operations where a division takes 16 cycles.
THEIA_INLINE vf reciprocal(vf x) {
  const vf r = (vf)_mm512_rcp14_ps(x);
  return fma(fnma(x, r, set1(1.0f)), r, r);
}

#else

THEIA_INLINE __m256i first_lanes(int n) { return (__m256i)(lane_index() < n); }
THEIA_INLINE vf load(const float* p) { return (vf)_mm256_loadu_ps(p); }
THEIA_INLINE void store(float* p, vf x) { _mm256_storeu_ps(p, x); }
THEIA_INLINE vf load_n(const float* p, int n) { return (vf)_mm256_maskload_ps(p, first_lanes(n)); }
THEIA_INLINE void store_n(float* p, vf x, int n) { _mm256_maskstore_ps(p, first_lanes(n), x); }

THEIA_INLINE vf widen_bf16(__m128i h) { return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16); }
/// Round to nearest even; a NaN keeps its sign and becomes quiet (as to_bf16 in dtype.h).
THEIA_INLINE __m128i narrow_bf16(vf x) {
  const __m256i u = (__m256i)x;
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(0x40));
  const __m256i r = _mm256_blendv_epi8(rounded, quiet, (__m256i)_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}
THEIA_INLINE __m128i halves_n(const void* p, int n) {
  uint16_t h[8] = {};
  __builtin_memcpy(h, p, static_cast<size_t>(n) * 2);
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(h));
}
THEIA_INLINE void put_halves_n(void* p, __m128i x, int n) {
  uint16_t h[8];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(h), x);
  __builtin_memcpy(p, h, static_cast<size_t>(n) * 2);
}
THEIA_INLINE vf load(const bf16* p) { return widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
THEIA_INLINE vf load_n(const bf16* p, int n) { return widen_bf16(halves_n(p, n)); }
THEIA_INLINE void store(bf16* p, vf x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_bf16(x)); }
THEIA_INLINE void store_n(bf16* p, vf x, int n) { put_halves_n(p, narrow_bf16(x), n); }
THEIA_INLINE vf load(const f16* p) { return (vf)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
THEIA_INLINE vf load_n(const f16* p, int n) { return (vf)_mm256_cvtph_ps(halves_n(p, n)); }
THEIA_INLINE void store(f16* p, vf x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
THEIA_INLINE void store_n(f16* p, vf x, int n) { put_halves_n(p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), n); }
THEIA_INLINE vf load(const uint8_t* p) {
  return (vf)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
THEIA_INLINE vf load_n(const uint8_t* p, int n) {
  uint8_t u[8] = {};
  __builtin_memcpy(u, p, static_cast<size_t>(n));
  return load(u);
}

THEIA_INLINE vf fma(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps(a, b, c); }
THEIA_INLINE vf fnma(vf a, vf b, vf c) { return (vf)_mm256_fnmadd_ps(a, b, c); }  // c - a·b
/// If either is NaN the result is b.
THEIA_INLINE vf vmin(vf a, vf b) { return (vf)_mm256_min_ps(a, b); }
THEIA_INLINE vf vmax(vf a, vf b) { return (vf)_mm256_max_ps(a, b); }
THEIA_INLINE vf vround(vf x) { return (vf)_mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
THEIA_INLINE vf vsqrt(vf x) { return (vf)_mm256_sqrt_ps(x); }
/// x · 2^n for whole n in -250..250, in two steps so that subnormal, zero and infinite results come out right.
THEIA_INLINE vf scale2(vf x, vf n) {
  const vi whole = (vi)_mm256_cvtps_epi32(n), half = whole >> 1;
  return x * as_float((half + 127) << 23) * as_float((whole - half + 127) << 23);
}
/// 1/x. A true division: the 12-bit estimate of AVX2 would need two Newton steps.
THEIA_INLINE vf reciprocal(vf x) { return 1.0f / x; }

#endif

THEIA_INLINE vf vabs(vf x) { return as_float(as_int(x) & 0x7fffffff); }
THEIA_INLINE vf copysign(vf magnitude, vf sign) { return as_float((as_int(magnitude) & 0x7fffffff) | (as_int(sign) & INT32_MIN)); }

// ---- reductions: always the same tree, so always the same bits. They work in halves: lane i with lane i + half.

#if defined(__AVX512F__)
THEIA_INLINE __m256 lower(vf x) { return _mm512_castps512_ps256(x); }
THEIA_INLINE __m256 upper(vf x) { return _mm512_extractf32x8_ps(x, 1); }
#define THEIA_HALVES(op) op(lower(x), upper(x))
#else
#define THEIA_HALVES(op) x
#endif
#define THEIA_REDUCE(name, op256, op128)                                            \
  THEIA_INLINE float name(vf x) {                                                   \
    const __m256 a = (__m256)THEIA_HALVES(op256);                                   \
    const __m128 b = op128(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)); \
    const __m128 c = op128(b, _mm_movehl_ps(b, b));                                 \
    return _mm_cvtss_f32(op128(c, _mm_shuffle_ps(c, c, 1)));                        \
  }
THEIA_REDUCE(reduce_add, _mm256_add_ps, _mm_add_ps)
THEIA_REDUCE(reduce_max, _mm256_max_ps, _mm_max_ps)
THEIA_REDUCE(reduce_min, _mm256_min_ps, _mm_min_ps)
#undef THEIA_REDUCE
#undef THEIA_HALVES

// ---- functions

/// 1/sqrt(x) by a true square root and division.
THEIA_INLINE vf vrsqrt(vf x) { return 1.0f / vsqrt(x); }

/// e^x within 1 ulp; 0 below -104, infinity above 88.73, NaN stays NaN.
THEIA_INLINE vf vexp(vf x) {
  // The bounds come first: where x is NaN, min and max return their second operand.
  x = vmin(set1(89.0f), vmax(set1(-104.0f), x));
  const vf n = vround(x * 1.44269504f);
  const vf r = fnma(n, set1(-2.12194440e-4f), fnma(n, set1(0.693359375f), x));  // ln 2 in two parts, the first of few bits
  vf p = set1(1.3814539978e-3f);                                                // minimax in relative error on |r| <= ln(2)/2: 3e-9
  p = fma(p, r, set1(8.3687451271e-3f));
  p = fma(p, r, set1(4.1668390790e-2f));
  p = fma(p, r, set1(1.6666520397e-1f));
  p = fma(p, r, set1(4.9999993432e-1f));
  return scale2(fma(p, r * r, r) + 1.0f, n);
}

/// e^x within 1 ulp for x in [-87, 88] only: no bounds, and the exponent is added as a number. Outside, and for NaN, anything may come.
THEIA_INLINE vf vexp_bounded(vf x) {
  const vf shifted = fma(x, set1(1.44269504f), set1(12582912.0f));  // 1.5 · 2^23: the rounded whole number stands in the low bits
  const vf n = shifted - 12582912.0f;
  const vf r = fnma(n, set1(-2.12194440e-4f), fnma(n, set1(0.693359375f), x));
  vf p = set1(1.3814539978e-3f);
  p = fma(p, r, set1(8.3687451271e-3f));
  p = fma(p, r, set1(4.1668390790e-2f));
  p = fma(p, r, set1(1.6666520397e-1f));
  p = fma(p, r, set1(4.9999993432e-1f));
  return as_float(as_int(fma(p, r * r, r) + 1.0f) + (as_int(shifted) << 23));
}

/// Natural logarithm within 2 ulp: log(0) = -inf, negative or NaN -> NaN, inf -> inf; subnormals are scaled first.
THEIA_INLINE vf vlog(vf x) {
  const vi tiny = x < 1.17549435e-38f;
  const vf scaled = tiny ? x * 16777216.0f : x;
  // Mantissa in [sqrt(1/2), sqrt(2)): the exponent is taken after moving the boundary there.
  const vi u = as_int(scaled) - 0x3f3504f3;
  const vi e = (u >> 23) - (tiny & 24);
  const vf m = as_float((u & 0x007fffff) + 0x3f3504f3) - 1.0f;
  const vf z = m * m;
  vf p = set1(7.0376836292e-2f);  // Cephes logf
  p = fma(p, m, set1(-1.1514610310e-1f));
  p = fma(p, m, set1(1.1676998740e-1f));
  p = fma(p, m, set1(-1.2420140846e-1f));
  p = fma(p, m, set1(1.4249322787e-1f));
  p = fma(p, m, set1(-1.6668057665e-1f));
  p = fma(p, m, set1(2.0000714765e-1f));
  p = fma(p, m, set1(-2.4999993993e-1f));
  p = fma(p, m, set1(3.3333331174e-1f));
  const vf n = __builtin_convertvector(e, vf);
  vf y = fma(p * m, z, n * -2.12194440e-4f);
  y = fma(n, set1(0.693359375f), m + fma(set1(-0.5f), z, y));
  const vf inf = set1(__builtin_inff());
  y = x == inf ? inf : y;
  y = x == 0.0f ? -inf : y;
  return (x < 0.0f) | (x != x) ? set1(__builtin_nanf("")) : y;
}

/// The upper tail of the normal distribution divided by e^(-z²/2), z >= 0: a polynomial in 1/(1 + z/4), relative error 2.4e-8.
THEIA_INLINE vf scaled_tail(vf z) {
  const vf t = reciprocal(fma(z, set1(0.25f), set1(1.0f)));
  vf p = set1(3.025785799e-2f);
  p = fma(p, t, set1(-1.756293507e-1f));
  p = fma(p, t, set1(3.451845644e-1f));
  p = fma(p, t, set1(-2.645441814e-1f));
  p = fma(p, t, set1(2.445675761e-1f));
  p = fma(p, t, set1(1.353087722e-2f));
  p = fma(p, t, set1(1.090776040e-1f));
  p = fma(p, t, set1(9.770517955e-2f));
  p = fma(p, t, set1(9.984986722e-2f));
  return p * t;
}

/// e^(-a²·scale), scale a power of two: the rounding error of the square, which the exponential would magnify, is put back.
THEIA_INLINE vf gauss(vf a, float scale) {
  const vf s = a * a;
  const vf lost = fma(a, a, -s) * -scale;
  const vf e = vexp(s * -scale);
  return fma(e, lost, e);
}

/// The error function within 2 ulp of its largest value, relative near 0; NaN stays NaN.
THEIA_INLINE vf verf(vf x) {
  const vf a = vmin(set1(4.0f), vabs(x));
  const vf s = a * a;
  vf p = set1(-6.535268583e-4f);
  p = fma(p, s, set1(5.085136204e-3f));
  p = fma(p, s, set1(-2.682081045e-2f));
  p = fma(p, s, set1(1.128311291e-1f));
  p = fma(p, s, set1(-3.761260140e-1f));
  p = fma(p, s, set1(1.128379164f));
  const vf far = fnma(gauss(a, 1.0f) * 2.0f, scaled_tail(a * 1.41421356f), set1(1.0f));
  return copysign(a < 0.8f ? p * a : far, x);
}

/// GELU in the exact erf form, x·Φ(x) = max(x, 0) - |x|·Φ(-|x|), and its derivative Φ(x) + x·φ(x); both share one exponential. NaN stays
/// NaN. N vectors go step by step together: one alone is a chain of a hundred cycles, and the scheduler holds little more than one such
/// chain at a time. As the tail is only ever taken away from x, neither Φ nor a series around 0 is needed: the error is that of the tail,
/// times |x|. The rounding of the square (z²·2e-8) is not put back: Φ as float32 loses more than that to its 0.5·(1 + erf).
template <int N, bool kSlope>
THEIA_INLINE void vgelu_many(vf* x, vf* slope) {
#define THEIA_EACH _Pragma("GCC unroll 4") for (int i = 0; i < N; ++i)
  vf z[N], q[N], shifted[N], r[N], p[N], e[N], t[N];
  // From 12.9 on the tail counts as 0: it is below 3e-38, and the subnormal numbers it would run through cost 150 cycles each.
  THEIA_EACH z[i] = vmin(set1(12.9f), vabs(x[i]));
  // e^(-z²/2) = 2^n · 2^r: the exponent is added as a number (as in vexp_bounded), 2^r is minimax on |r| <= 1/2, relative error 2e-9.
  THEIA_EACH q[i] = z[i] * -0.72134752f;
  THEIA_EACH shifted[i] = fma(q[i], z[i], set1(12582912.0f));
  THEIA_EACH r[i] = fma(q[i], z[i], 12582912.0f - shifted[i]);
  THEIA_EACH p[i] = fma(set1(1.5353362e-4f), r[i], set1(1.3398875e-3f));
  THEIA_EACH p[i] = fma(p[i], r[i], set1(9.618437e-3f));
  THEIA_EACH p[i] = fma(p[i], r[i], set1(5.5503324e-2f));
  THEIA_EACH p[i] = fma(p[i], r[i], set1(2.4022648e-1f));
  THEIA_EACH p[i] = fma(p[i], r[i], set1(6.9314718e-1f));
  THEIA_EACH p[i] = fma(p[i], r[i], set1(1.0f));
  THEIA_EACH e[i] = as_float(as_int(p[i]) + (as_int(shifted[i]) << 23));
  THEIA_EACH e[i] = z[i] == 12.9f ? vf{} : e[i];
  // As scaled_tail(z), fitted anew: relative error 7e-9 up to z = 1.5, 3e-7 in the far tail. With 0.45 in place of 1/4 the rounding of the
  // quotient weighs half as much near 0, where most activations are.
  THEIA_EACH t[i] = reciprocal(fma(z[i], set1(0.45f), set1(1.0f)));
  THEIA_EACH p[i] = fma(set1(3.59518826e-2f), t[i], set1(-2.122986317e-1f));
  THEIA_EACH p[i] = fma(p[i], t[i], set1(5.050246119e-1f));
  THEIA_EACH p[i] = fma(p[i], t[i], set1(-5.673267245e-1f));
  THEIA_EACH p[i] = fma(p[i], t[i], set1(2.270138413e-1f));
  THEIA_EACH p[i] = fma(p[i], t[i], set1(-2.434823895e-3f));
  THEIA_EACH p[i] = fma(p[i], t[i], set1(1.562566012e-1f));
  THEIA_EACH p[i] = fma(p[i], t[i], set1(1.782361716e-1f));
  THEIA_EACH p[i] = fma(p[i], t[i], set1(1.795770675e-1f));
  THEIA_EACH t[i] = p[i] * t[i];
  if constexpr (kSlope) {
    THEIA_EACH p[i] = fnma(z[i], set1(0.398942280f), t[i]) * e[i];
    THEIA_EACH slope[i] = x[i] > 0.0f ? 1.0f - p[i] : p[i];
  }
  THEIA_EACH x[i] = fnma(z[i], t[i] * e[i], vmax(vf{}, x[i]));
#undef THEIA_EACH
}
THEIA_INLINE vf vgelu(vf x, vf& slope) {
  vgelu_many<1, true>(&x, &slope);
  return x;
}

}  // namespace theia::THEIA_ISA
