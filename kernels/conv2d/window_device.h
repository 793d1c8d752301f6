// The products of window.h on a device: what conv2d.cu and conv_transpose2d.cu are written in.
#pragma once
#include "kernels/conv2d/window.h"
#include "kernels/core/device.h"

namespace theia::THEIA_DEVICE {

/// One map from the other through the window. One launch of the matrix product, or stride² of them; see window_device.cu.
void gather(const char* name, const Gather& a, const Window& window, const DeviceContext& context);
int64_t gather_workspace(const Gather& a, const Window& window, const DeviceInfo& info);

/// dw, k split over blocks where the product is small; the parts are added in a fixed order.
void weight_grad(const char* name, const WeightGrad& a, const Window& window, const DeviceContext& context);
int64_t weight_grad_workspace(const WeightGrad& a, const Window& window, const DeviceInfo& info);

/// Both gradient ops: those of dx, dw, dbias that are there. y (laid out like dy) with ReLU only.
struct WindowGrad {
  const char* name;
  Tensor x, w, dy, y, dx, dw, dbias;
  bool up;  // dy is the big map (conv_transpose2d)
  bool relu, accumulate;
};
void window_grad(const WindowGrad& a, const Window& window, const DeviceContext& context);
int64_t window_grad_workspace(const WindowGrad& a, const Window& window, const DeviceInfo& info);

}  // namespace theia::THEIA_DEVICE
