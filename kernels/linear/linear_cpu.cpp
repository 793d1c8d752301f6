// Linear layers in plain C++: the reference of the tests and of gradcheck.
#include "kernels/linear/linear_plan.h"

namespace theia::cpu {

namespace {

/// Sums run over rows in order.
template <class T>
void pregrad(const Pregrad& p) {
  const T* dy = static_cast<const T*>(p.dy);
  const T* factor = static_cast<const T*>(p.factor);
  T* dpre = static_cast<T*>(p.dpre);
  T* dbias = static_cast<T*>(p.dbias);
  for (int64_t j = 0; j < p.columns; ++j) {
    T sum = T(0);
    for (int64_t i = 0; i < p.rows; ++i) {
      T d = dy[i * p.dy_stride + j];
      if (p.multiply != Multiply::none) {
        const T f = factor[i * p.factor_stride + j];
        d = p.multiply == Multiply::value ? d * f : f > T(0) ? d : T(0);
        dpre[i * p.columns + j] = d;
      }
      sum += d;
    }
    if (dbias) dbias[j] = p.accumulate ? dbias[j] + sum : sum;
  }
}

}  // namespace

template <class T>
void linear(const LinearArgs& a, const Context& context) {
  gemm<T>(forward_gemm(a), context);
}

template <class T>
void linear_grad(const LinearGradArgs& a, const Context& context) {
  const LinearGradPlan p = plan_linear_grad(a, context);
  if (p.stream) pregrad<T>(p.pregrad);
  if (a.dx.present()) gemm<T>(p.dx, p.gemm_context);
  if (a.dw.present()) gemm<T>(p.dw, p.gemm_context);
}

template void linear<float>(const LinearArgs&, const Context&);
template void linear<double>(const LinearArgs&, const Context&);
template void linear_grad<float>(const LinearGradArgs&, const Context&);
template void linear_grad<double>(const LinearGradArgs&, const Context&);

}  // namespace theia::cpu
