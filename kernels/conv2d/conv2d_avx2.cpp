#include "kernels/conv2d/conv2d.h"

namespace theia::avx2 {

void conv2d(const Conv2dArgs& a, const Context& context) { conv2d_by_gemm(a, gemm, context); }
void conv2d_grad(const Conv2dGradArgs& a, const Context& context) { conv2d_grad_by_gemm(a, gemm, channel_sums, context); }

}  // namespace theia::avx2
