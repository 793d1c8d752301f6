#include "kernels/conv2d/conv2d.h"

#include "kernels/conv2d/window_device.h"
#include "kernels/cuda/runtime.h"

namespace theia::THEIA_DEVICE {

namespace {

template <class Args>
Window geometry(const Args& a) {
  return {a.w.size[1], a.w.size[2], a.stride, a.padding};
}

/// `packed` is for the CPU: w is read as it is.
Gather product(const Conv2dArgs& a) {
  Gather g{};
  g.in = a.x, g.out = a.y, g.w = a.w, g.bias = a.bias, g.residual = a.residual;
  g.relu = a.activation == 1;
  return g;
}

WindowGrad gradient(const Conv2dGradArgs& a) {
  return {"conv2d_grad", a.x, a.w, a.dy, a.y, a.dx, a.dw, a.dbias, false, a.activation == 1, a.accumulate != 0};
}

}  // namespace

void conv2d(const Conv2dArgs& a, const DeviceContext& context) { gather("conv2d", product(a), geometry(a), context); }
int64_t conv2d_workspace(const Conv2dArgs& a, const DeviceInfo& info) { return gather_workspace(product(a), geometry(a), info); }

void conv2d_grad(const Conv2dGradArgs& a, const DeviceContext& context) { window_grad(gradient(a), geometry(a), context); }
int64_t conv2d_grad_workspace(const Conv2dGradArgs& a, const DeviceInfo& info) {
  return window_grad_workspace(gradient(a), geometry(a), info);
}

}  // namespace theia::THEIA_DEVICE
