// Compiled once per instruction set: the including file defines THEIA_ISA.
#include "kernels/core/pool.h"
#include "kernels/layernorm/run_simd.h"
#include "kernels/layernorm_map/layernorm_map.h"

namespace theia::THEIA_ISA {

// The statistics of a sample are needed before its first element can be written, so x is read twice. What was read last is still in cache:
// the second pass goes backwards, and samples that fit the caches together take both passes together.

void layernorm_map(const LayernormMapArgs& a, const Context& context) {
  constexpr int64_t kGroup = 1 << 20;  // elements: 4 MB of x
  const int64_t batch = a.x.size[0], length = a.x.size[1], runs = map_runs(length);
  const int64_t samples = length >= kGroup ? 1 : kGroup / length;
  const float* gamma = a.gamma.ptr<float>();
  const float* beta = a.beta.ptr<float>();
  MapPartial* partials = reinterpret_cast<MapPartial*>(context.workspace);
  MapTotal* totals = reinterpret_cast<MapTotal*>(partials + batch * runs);

  for (int64_t first = 0; first < batch; first += samples) {
    const int64_t count = batch - first < samples ? batch - first : samples;
    const float* x = a.x.ptr<float>() + first * length;
    float* y = a.y.ptr<float>() + first * length;
    context.pool->run(count * runs, [&](int64_t chunk, int) {
      const int64_t begin = chunk % runs * kMapRun, n = length - begin < kMapRun ? length - begin : kMapRun;
      const Moments m = moments(x + chunk / runs * length + begin, n);
      partials[chunk] = {m.mean, m.squares};
    });
    for (int64_t b = 0; b < count; ++b) totals[first + b] = combine_moments(partials + b * runs, length, a.eps);
    context.pool->run(count * runs, [&](int64_t chunk, int) {
      const int64_t at = count * runs - 1 - chunk, b = at / runs;
      const int64_t begin = at % runs * kMapRun, n = length - begin < kMapRun ? length - begin : kMapRun;
      const float mean = totals[first + b].first, rstd = totals[first + b].second;
      const float *from = x + b * length + begin, *scale = gamma + begin, *shift = beta + begin;
      float* to = y + b * length + begin;
      int64_t i = 0;
      for (; i + kLanes <= n; i += kLanes) store(to + i, fma((load(from + i) - mean) * rstd, load(scale + i), load(shift + i)));
      if (const int m = static_cast<int>(n - i); m > 0)
        store_n(to + i, fma((load_n(from + i, m) - mean) * rstd, load_n(scale + i, m), load_n(shift + i, m)), m);
    });
  }
  if (a.mean.present())
    for (int64_t b = 0; b < batch; ++b) {
      a.mean.ptr<float>()[b] = totals[b].first;
      a.rstd.ptr<float>()[b] = totals[b].second;
    }
}

/// A sample's part of a run in backward.
struct MapRun {
  const float *x, *dy;
  float mean, rstd;
};

/// Σg and Σ g·xhat of the same run of kSamples samples, which share one trip of gamma, dgamma and dbeta; these two are added to.
template <int kSamples, bool kSums>
static void map_sums(const MapRun* run, const float* gamma, float* dgamma, float* dbeta, bool fresh, int64_t n, MapPartial* out,
                     int64_t step) {
  vf s[kSamples] = {}, p[kSamples] = {};
  for (int64_t i = 0; i < n; i += kLanes) {
    const int m = n - i < kLanes ? static_cast<int>(n - i) : kLanes;
    const vf scale = load_some(gamma + i, m);
    vf sum_gamma = {}, sum_beta = {};
    if (kSums && !fresh) {
      sum_gamma = load_some(dgamma + i, m);
      sum_beta = load_some(dbeta + i, m);
    }
    for (int k = 0; k < kSamples; ++k) {
      const vf dy = load_some(run[k].dy + i, m);
      const vf xhat = (load_some(run[k].x + i, m) - run[k].mean) * run[k].rstd;
      const vf g = dy * scale;
      s[k] += g;
      p[k] = fma(g, m == kLanes ? xhat : keep(xhat, m), p[k]);
      if (kSums) {
        sum_gamma = fma(dy, xhat, sum_gamma);
        sum_beta += dy;
      }
    }
    if (kSums) {
      store_some(dgamma + i, sum_gamma, m);
      store_some(dbeta + i, sum_beta, m);
    }
  }
  for (int k = 0; k < kSamples; ++k) out[k * step] = {reduce_add(s[k]), reduce_add(p[k])};
}

THEIA_INLINE vf map_slope(vf x, vf dy, vf gamma, const MapTotal& row, const MapTotal& c, vi relu) {
  const vf xhat = (x - row.first) * row.second;
  const vf d = fnma(xhat, set1(c.second), fma(dy, gamma, set1(-c.first))) * row.second;
  return (x <= 0.0f) & relu ? vf{} : d;  // not `x > 0 ? d : 0`: NaN passes on
}

using MapSums = void (*)(const MapRun*, const float*, float*, float*, bool, int64_t, MapPartial*, int64_t);

void layernorm_map_grad(const LayernormMapGradArgs& a, const Context& context) {
  constexpr int kTogether = 4;
  const bool sums = a.dgamma.present();
  const MapSums one = sums ? map_sums<1, true> : map_sums<1, false>;
  const MapSums four = sums ? map_sums<kTogether, true> : map_sums<kTogether, false>;
  const int64_t batch = a.x.size[0], length = a.x.size[1], runs = map_runs(length);
  const float* gamma = a.gamma.ptr<float>();
  const float* mean = a.mean.ptr<float>();
  const float* rstd = a.rstd.ptr<float>();
  MapPartial* partials = reinterpret_cast<MapPartial*>(context.workspace);
  MapTotal* totals = reinterpret_cast<MapTotal*>(partials + batch * runs);

  // A run of all samples at a time, so that gamma, dgamma and dbeta pass once, and the samples add up in their order.
  context.pool->run(runs, [&](int64_t chunk, int) {
    const int64_t begin = chunk * kMapRun, n = length - begin < kMapRun ? length - begin : kMapRun;
    float* dgamma = sums ? a.dgamma.ptr<float>() + begin : nullptr;
    float* dbeta = sums ? a.dbeta.ptr<float>() + begin : nullptr;
    bool fresh = !a.accumulate;
    MapRun group[kTogether];
    for (int64_t b = 0; b < batch;) {
      const int count = batch - b >= kTogether ? kTogether : 1;
      for (int k = 0; k < count; ++k) {
        const int64_t at = (b + k) * length + begin;
        group[k] = {a.x.ptr<float>() + at, a.dy.ptr<float>() + at, mean[b + k], rstd[b + k]};
      }
      (count == 1 ? one : four)(group, gamma + begin, dgamma, dbeta, fresh, n, partials + b * runs + chunk, runs);
      fresh = false;
      b += count;
    }
    // No sample: the sum is 0.
    for (int64_t i = 0; sums && fresh && i < n; ++i) dgamma[i] = dbeta[i] = 0;
  });
  for (int64_t b = 0; b < batch; ++b) totals[b] = combine_means(partials + b * runs, length);

  const vi relu = vi{} - (a.relu ? 1 : 0);  // the mask of all lanes, or of none
  context.pool->run(runs, [&](int64_t chunk, int) {
    const int64_t begin = (runs - 1 - chunk) * kMapRun, n = length - begin < kMapRun ? length - begin : kMapRun;
    for (int64_t b = batch - 1; b >= 0; --b) {
      const float *x = a.x.ptr<float>() + b * length + begin, *dy = a.dy.ptr<float>() + b * length + begin, *scale = gamma + begin;
      float* dx = a.dx.ptr<float>() + b * length + begin;
      const MapTotal row = {mean[b], rstd[b]}, c = totals[b];
      int64_t i = 0;
      for (; i + kLanes <= n; i += kLanes) store(dx + i, map_slope(load(x + i), load(dy + i), load(scale + i), row, c, relu));
      if (const int m = static_cast<int>(n - i); m > 0)
        store_n(dx + i, map_slope(load_n(x + i, m), load_n(dy + i, m), load_n(scale + i, m), row, c, relu), m);
    }
  });
}

}  // namespace theia::THEIA_ISA
