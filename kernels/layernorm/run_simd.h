// What both LayerNorms do with a run of floats: vectors at its ragged end, mean and squared deviations. Included by ISA files only.
#pragma once
#include "kernels/core/simd.h"

namespace theia::THEIA_ISA {

/// The first n lanes of x, 0 in the others.
THEIA_INLINE vf keep(vf x, int n) { return as_float(as_int(x) & (lane_index() < n)); }

/// The first n elements, 1 <= n <= kLanes. Where n is known to be kLanes no mask is left: masked stores are slow on some AVX2 machines.
THEIA_INLINE vf load_some(const float* p, int n) { return n == kLanes ? load(p) : load_n(p, n); }
THEIA_INLINE void store_some(float* p, vf x, int n) {
  if (n == kLanes)
    store(p, x);
  else
    store_n(p, x, n);
}

struct Moments {
  double mean;     // of the n values
  double squares;  // Σ (x - mean)²
};

/// Two passes. The second one also sums the deviations themselves: what rounding left in the first mean is taken out of both results, so
/// that a constant run far from zero has variance 0 and not that of the rest. n >= 1.
THEIA_INLINE Moments moments(const float* x, int64_t n) {
  vf s[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    for (int k = 0; k < 4; ++k) s[k] += load(x + i + k * kLanes);
  for (; i + kLanes <= n; i += kLanes) s[0] += load(x + i);
  if (i < n) s[1] += load_n(x + i, static_cast<int>(n - i));
  const float about = reduce_add((s[0] + s[1]) + (s[2] + s[3])) / static_cast<float>(n);

  vf d[4] = {}, q[4] = {};
  for (i = 0; i + 4 * kLanes <= n; i += 4 * kLanes)
    for (int k = 0; k < 4; ++k) {
      const vf v = load(x + i + k * kLanes) - about;
      d[k] += v;
      q[k] = fma(v, v, q[k]);
    }
  for (; i + kLanes <= n; i += kLanes) {
    const vf v = load(x + i) - about;
    d[0] += v;
    q[0] = fma(v, v, q[0]);
  }
  if (i < n) {
    const vf v = keep(load_n(x + i, static_cast<int>(n - i)) - about, static_cast<int>(n - i));
    d[1] += v;
    q[1] = fma(v, v, q[1]);
  }
  const double rest = static_cast<double>(reduce_add((d[0] + d[1]) + (d[2] + d[3]))) / static_cast<double>(n);
  const double squares = static_cast<double>(reduce_add((q[0] + q[1]) + (q[2] + q[3]))) - rest * rest * static_cast<double>(n);
  return {static_cast<double>(about) + rest, squares < 0 ? 0 : squares};
}

}  // namespace theia::THEIA_ISA
