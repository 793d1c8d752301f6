#include "kernels/layernorm/layernorm.h"

#include <cmath>

namespace theia::cpu {

template <class T>
void layernorm(const LayernormArgs& a, const Context&) {
  const int64_t width = a.x.size[1];
  const T* gamma = a.gamma.ptr<T>();
  const T* beta = a.beta.ptr<T>();
  for (int64_t r = 0; r < a.x.size[0]; ++r) {
    const T* x = a.x.ptr<T>() + r * a.x.stride[0];
    T* y = a.y.ptr<T>() + r * a.y.stride[0];
    T sum = 0;
    for (int64_t i = 0; i < width; ++i) sum += x[i];
    const T about = sum / static_cast<T>(width);
    // The second pass also finds what rounding left in the mean: without it a constant row far from zero has the variance of that rest,
    // which eps = 1e-12 would not hide.
    T rest = 0, squares = 0;
    for (int64_t i = 0; i < width; ++i) {
      const T d = x[i] - about;
      rest += d;
      squares += d * d;
    }
    rest /= static_cast<T>(width);
    const T mean = about + rest;
    const T variance = squares / static_cast<T>(width) - rest * rest;
    const T rstd = static_cast<T>(1.0 / std::sqrt((variance < 0 ? 0.0 : static_cast<double>(variance)) + a.eps));
    for (int64_t i = 0; i < width; ++i) y[i] = (x[i] - mean) * rstd * gamma[i] + beta[i];
    if (a.mean.present()) {
      a.mean.ptr<T>()[r] = mean;
      a.rstd.ptr<T>()[r] = rstd;
    }
  }
}

template <class T>
void layernorm_grad(const LayernormGradArgs& a, const Context&) {
  const int64_t width = a.x.size[1];
  const T* gamma = a.gamma.ptr<T>();
  T* dgamma = a.dgamma.present() ? a.dgamma.ptr<T>() : nullptr;
  T* dbeta = dgamma ? a.dbeta.ptr<T>() : nullptr;
  for (int64_t i = 0; dgamma && !a.accumulate && i < width; ++i) dgamma[i] = dbeta[i] = 0;
  for (int64_t r = 0; r < a.x.size[0]; ++r) {
    const T* x = a.x.ptr<T>() + r * a.x.stride[0];
    const T* dy = a.dy.ptr<T>() + r * a.dy.stride[0];
    const T* add = a.add.present() ? a.add.ptr<T>() + r * a.add.stride[0] : nullptr;
    T* dx = a.dx.ptr<T>() + r * a.dx.stride[0];
    const T mean = a.mean.ptr<T>()[r], rstd = a.rstd.ptr<T>()[r];
    // dx = rstd · (g - mean(g) - xhat · mean(g · xhat)) with g = dy · gamma
    T c1 = 0, c2 = 0;
    for (int64_t i = 0; i < width; ++i) {
      const T g = dy[i] * gamma[i];
      c1 += g;
      c2 += g * ((x[i] - mean) * rstd);
    }
    c1 /= static_cast<T>(width);
    c2 /= static_cast<T>(width);
    for (int64_t i = 0; i < width; ++i) {
      const T xhat = (x[i] - mean) * rstd;
      const T d = rstd * (dy[i] * gamma[i] - c1 - xhat * c2);
      dx[i] = add ? d + add[i] : d;
      if (!dgamma) continue;
      dgamma[i] += dy[i] * xhat;
      dbeta[i] += dy[i];
    }
  }
}

template void layernorm<float>(const LayernormArgs&, const Context&);
template void layernorm<double>(const LayernormArgs&, const Context&);
template void layernorm_grad<float>(const LayernormGradArgs&, const Context&);
template void layernorm_grad<double>(const LayernormGradArgs&, const Context&);

}  // namespace theia::cpu
