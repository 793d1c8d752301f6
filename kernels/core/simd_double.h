// Beside simd.h, for files that carry sums of floats on in double: a vf is two vectors of doubles. Same rules: internal linkage, no std.
#pragma once
#include "kernels/core/simd.h"

namespace theia::THEIA_ISA {

using vd = double __attribute__((vector_size(kLanes * 4)));

#if defined(__AVX512F__)
THEIA_INLINE vd widen_lower(vf x) { return (vd)_mm512_cvtps_pd(lower(x)); }
THEIA_INLINE vd widen_upper(vf x) { return (vd)_mm512_cvtps_pd(upper(x)); }
THEIA_INLINE vd fma(vd a, vd b, vd c) { return (vd)_mm512_fmadd_pd(a, b, c); }
THEIA_INLINE __m256d halved(vd x) { return _mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1)); }
#else
THEIA_INLINE vd widen_lower(vf x) { return (vd)_mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
THEIA_INLINE vd widen_upper(vf x) { return (vd)_mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }
THEIA_INLINE vd fma(vd a, vd b, vd c) { return (vd)_mm256_fmadd_pd(a, b, c); }
THEIA_INLINE __m256d halved(vd x) { return x; }
#endif

/// The sum of all lanes, always by the same tree.
THEIA_INLINE double reduce_add(vd x) {
  const __m256d a = halved(x);
  const __m128d b = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
  return _mm_cvtsd_f64(_mm_add_sd(b, _mm_unpackhi_pd(b, b)));
}

}  // namespace theia::THEIA_ISA
