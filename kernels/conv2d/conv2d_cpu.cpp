#include "kernels/conv2d/conv2d.h"
#include "kernels/conv2d/window_cpu.h"

namespace theia::cpu {

template <class T>
void conv2d(const Conv2dArgs& a, const Context& context) {
  gather<T>(forward_product(a), window_of(a), context);
}

template <class T>
void conv2d_grad(const Conv2dGradArgs& a, const Context& context) {
  const WeightGrad weights = weight_product(a);
  if (a.dx.present()) gather<T>(input_product(a), window_of(a), context);
  if (a.dw.present()) weight_grad<T>(weights, window_of(a), context);
  if (a.dbias.present()) channel_sums<T>(a.dy, weights.mask, a.dbias, weights.accumulate, context);
}

template void conv2d<float>(const Conv2dArgs&, const Context&);
template void conv2d<double>(const Conv2dArgs&, const Context&);
template void conv2d_grad<float>(const Conv2dGradArgs&, const Context&);
template void conv2d_grad<double>(const Conv2dGradArgs&, const Context&);

}  // namespace theia::cpu
