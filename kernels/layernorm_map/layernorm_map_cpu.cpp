#include "kernels/layernorm_map/layernorm_map.h"

#include <algorithm>
#include <cmath>

namespace theia::cpu {

namespace {

/// Σ f(i) over [0, n), 128 at a time: with runs of 4096 in a single float the 64x64 heads were 1.6e-5 off.
template <class T, class F>
T sum_of(int64_t n, F f) {
  constexpr int64_t kRun = 128;
  T total = 0;
  for (int64_t begin = 0; begin < n; begin += kRun) {
    T part = 0;
    for (int64_t i = begin; i < std::min(n, begin + kRun); ++i) part += f(i);
    total += part;
  }
  return total;
}

}  // namespace

template <class T>
void layernorm_map(const LayernormMapArgs& a, const Context&) {
  const int64_t length = a.x.size[1];
  const T n = static_cast<T>(length);
  const T* gamma = a.gamma.ptr<T>();
  const T* beta = a.beta.ptr<T>();
  for (int64_t b = 0; b < a.x.size[0]; ++b) {
    const T* x = a.x.ptr<T>() + b * length;
    T* y = a.y.ptr<T>() + b * length;
    const T about = sum_of<T>(length, [&](int64_t i) { return x[i]; }) / n;
    // What rounding left in the mean, as in layernorm.
    const T rest = sum_of<T>(length, [&](int64_t i) { return x[i] - about; }) / n;
    const T squares = sum_of<T>(length, [&](int64_t i) { return (x[i] - about) * (x[i] - about); });
    const T mean = about + rest;
    const T variance = squares / n - rest * rest;
    const T rstd = static_cast<T>(1.0 / std::sqrt((variance < 0 ? 0.0 : static_cast<double>(variance)) + a.eps));
    for (int64_t i = 0; i < length; ++i) y[i] = (x[i] - mean) * rstd * gamma[i] + beta[i];
    if (a.mean.present()) {
      a.mean.ptr<T>()[b] = mean;
      a.rstd.ptr<T>()[b] = rstd;
    }
  }
}

template <class T>
void layernorm_map_grad(const LayernormMapGradArgs& a, const Context&) {
  const int64_t length = a.x.size[1];
  const T n = static_cast<T>(length);
  const T* gamma = a.gamma.ptr<T>();
  T* dgamma = a.dgamma.present() ? a.dgamma.ptr<T>() : nullptr;
  T* dbeta = dgamma ? a.dbeta.ptr<T>() : nullptr;
  for (int64_t i = 0; dgamma && !a.accumulate && i < length; ++i) dgamma[i] = dbeta[i] = 0;
  for (int64_t b = 0; b < a.x.size[0]; ++b) {
    const T* x = a.x.ptr<T>() + b * length;
    const T* dy = a.dy.ptr<T>() + b * length;
    T* dx = a.dx.ptr<T>() + b * length;
    const T mean = a.mean.ptr<T>()[b], rstd = a.rstd.ptr<T>()[b];
    // dx = rstd · (g - mean(g) - xhat · mean(g · xhat)) with g = dy · gamma
    const T c1 = sum_of<T>(length, [&](int64_t i) { return dy[i] * gamma[i]; }) / n;
    const T c2 = sum_of<T>(length, [&](int64_t i) { return dy[i] * gamma[i] * ((x[i] - mean) * rstd); }) / n;
    for (int64_t i = 0; i < length; ++i) {
      const T xhat = (x[i] - mean) * rstd;
      const T d = rstd * (dy[i] * gamma[i] - c1 - xhat * c2);
      dx[i] = a.relu && x[i] <= 0 ? 0 : d;
      if (!dgamma) continue;
      dgamma[i] += dy[i] * xhat;
      dbeta[i] += dy[i];
    }
  }
}

template void layernorm_map<float>(const LayernormMapArgs&, const Context&);
template void layernorm_map<double>(const LayernormMapArgs&, const Context&);
template void layernorm_map_grad<float>(const LayernormMapGradArgs&, const Context&);
template void layernorm_map_grad<double>(const LayernormMapGradArgs&, const Context&);

}  // namespace theia::cpu
