#include "kernels/conv_transpose2d/conv_transpose2d.h"

namespace theia::avx512 {

void conv_transpose2d(const ConvTranspose2dArgs& a, const Context& context) { conv_transpose2d_by_gemm(a, gemm, context); }
void conv_transpose2d_grad(const ConvTranspose2dGradArgs& a, const Context& context) {
  conv_transpose2d_grad_by_gemm(a, gemm, channel_sums, context);
}

}  // namespace theia::avx512
