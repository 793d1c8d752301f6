#include "kernels/conv_transpose2d/conv_transpose2d.h"
#include "kernels/conv2d/window_cpu.h"

namespace theia::cpu {

template <class T>
void conv_transpose2d(const ConvTranspose2dArgs& a, const Context& context) {
  gather<T>(forward_product(a), window_of(a), context);
}

template <class T>
void conv_transpose2d_grad(const ConvTranspose2dGradArgs& a, const Context& context) {
  const WeightGrad weights = weight_product(a);
  if (a.dx.present()) gather<T>(input_product(a), window_of(a), context);
  if (a.dw.present()) weight_grad<T>(weights, window_of(a), context);
  if (a.dbias.present()) channel_sums<T>(a.dy, weights.mask, a.dbias, weights.accumulate, context);
}

template void conv_transpose2d<float>(const ConvTranspose2dArgs&, const Context&);
template void conv_transpose2d<double>(const ConvTranspose2dArgs&, const Context&);
template void conv_transpose2d_grad<float>(const ConvTranspose2dGradArgs&, const Context&);
template void conv_transpose2d_grad<double>(const ConvTranspose2dGradArgs&, const Context&);

}  // namespace theia::cpu
