#include <cmath>
#include <limits>

#include "kernels/attention/attention.h"

namespace theia::cpu {

namespace {

/// The channels of token t of head h in batch entry b.
template <class T>
T* row(const Tensor& x, int64_t b, int64_t t, int64_t h) {
  return x.ptr<T>() + b * x.stride[0] + t * x.stride[1] + h * x.stride[2];
}

template <class T>
T dot(const T* a, const T* b, int64_t n) {
  T sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

template <class Args, class Body>
void each_query(const Args& a, Body body) {
  for (int64_t b = 0; b < a.q.size[0]; ++b)
    for (int64_t h = 0; h < a.q.size[2]; ++h)
      for (int64_t n = 0; n < a.q.size[1]; ++n) body(b, h, n);
}

}  // namespace

template <class T>
void attention(const AttentionArgs& a, const Context& context) {
  const int64_t M = a.k.size[1], hd = a.q.size[3];
  const T scale = static_cast<T>(a.scale);
  T* p = reinterpret_cast<T*>(context.workspace);
  T* lse = a.lse.ptr<T>();
  each_query(a, [&](int64_t b, int64_t h, int64_t n) {
    const T* q = row<T>(a.q, b, n, h);
    T* out = row<T>(a.out, b, n, h);
    T max = -std::numeric_limits<T>::infinity();
    for (int64_t m = 0; m < M; ++m) {
      p[m] = scale * dot(q, row<T>(a.k, b, m, h), hd);
      max = p[m] > max ? p[m] : max;  // a NaN is passed over here and comes back in the sum
    }
    T sum = 0;
    for (int64_t m = 0; m < M; ++m) sum += p[m] = std::exp(p[m] - max);
    for (int64_t d = 0; d < hd; ++d) out[d] = 0;
    for (int64_t m = 0; m < M; ++m) {
      const T* v = row<T>(a.v, b, m, h);
      for (int64_t d = 0; d < hd; ++d) out[d] += p[m] * v[d];
    }
    for (int64_t d = 0; d < hd; ++d) out[d] /= sum;
    *lse++ = max + std::log(sum);
  });
}

// With P = softmax(S), S = scale·q·kᵀ: dV = Pᵀ·dO, dP = dO·Vᵀ, dS = P ∘ (dP − rowsum(dO ∘ O)), dQ = scale·dS·K, dK = scale·dSᵀ·Q.
template <class T>
void attention_grad(const AttentionGradArgs& a, const Context&) {
  const int64_t M = a.k.size[1], hd = a.q.size[3];
  const T scale = static_cast<T>(a.scale);
  const T* lse = a.lse.ptr<T>();
  each_query(a, [&](int64_t b, int64_t h, int64_t n) {
    const T *q = row<T>(a.q, b, n, h), *dout = row<T>(a.dout, b, n, h);
    T* dq = row<T>(a.dq, b, n, h);
    const T delta = dot(dout, row<T>(a.out, b, n, h), hd);
    for (int64_t d = 0; d < hd; ++d) dq[d] = 0;
    for (int64_t m = 0; m < M; ++m) {
      const T* k = row<T>(a.k, b, m, h);
      T *dk = row<T>(a.dk, b, m, h), *dv = row<T>(a.dv, b, m, h);
      const T p = std::exp(scale * dot(q, k, hd) - *lse);
      const T ds = scale * p * (dot(dout, row<T>(a.v, b, m, h), hd) - delta);
      for (int64_t d = 0; d < hd; ++d) {
        dq[d] += ds * k[d];
        dk[d] = (n == 0 ? 0 : dk[d]) + ds * q[d];
        dv[d] = (n == 0 ? 0 : dv[d]) + p * dout[d];
      }
    }
    ++lse;
  });
}

template void attention<float>(const AttentionArgs&, const Context&);
template void attention<double>(const AttentionArgs&, const Context&);
template void attention_grad<float>(const AttentionGradArgs&, const Context&);
template void attention_grad<double>(const AttentionGradArgs&, const Context&);

}  // namespace theia::cpu
