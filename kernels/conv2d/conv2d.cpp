#include "kernels/conv2d/conv2d.h"

#include <algorithm>

#include "kernels/core/checks.h"

namespace theia {

namespace {

/// Sizes, layouts and types that forward and gradient have in common; `y` is the map of O channels, `y_field` its name.
void check_common(const char* op, const Tensor& x, const Tensor& w, const char* y_field, const Tensor& y, int64_t stride, int64_t padding) {
  check_scalars(op, stride, padding);
  check_map(op, "x", x);
  check_weights(op, "w", w);
  expect_dtype(op, "w", w, x.dtype);
  expect_shape(op, "w", w, {w.size[0], w.size[1], w.size[2], x.size[3]});
  const int64_t rest_y = x.size[1] + 2 * padding - w.size[1], rest_x = x.size[2] + 2 * padding - w.size[2];
  if (rest_y < 0 || rest_x < 0)
    fail("ERR_SHAPE", "%s: expected 'x' of at least the window's size with padding %lld, got %s and a window in 'w' %s", op,
         static_cast<long long>(padding), describe(x).c_str(), describe(w).c_str());
  check_map(op, y_field, y);
  expect_dtype(op, y_field, y, x.dtype);
  expect_shape(op, y_field, y, {x.size[0], rest_y / stride + 1, rest_x / stride + 1, w.size[0]});
}

}  // namespace

Window window_of(const Conv2dArgs& a) { return {a.w.size[1], a.w.size[2], a.stride, a.padding}; }
Window window_of(const Conv2dGradArgs& a) { return {a.w.size[1], a.w.size[2], a.stride, a.padding}; }

Gather forward_product(const Conv2dArgs& a) {
  Gather g{};
  g.in = a.x, g.out = a.y, g.w = a.w, g.panels = a.packed, g.bias = a.bias, g.residual = a.residual;
  g.relu = a.activation == 1;
  return g;
}

Gather input_product(const Conv2dGradArgs& a) {
  Gather g{};
  g.in = a.dy, g.out = a.dx, g.w = a.w, g.panels = a.packed;
  if (a.activation == 1) g.mask = a.y;
  g.up = g.backward = true;
  return g;
}

WeightGrad weight_product(const Conv2dGradArgs& a) {
  WeightGrad g{};
  g.x = a.x, g.dy = a.dy, g.dw = a.dw;
  if (a.activation == 1) g.mask = a.y;
  g.accumulate = a.accumulate != 0;
  return g;
}

void conv2d_by_gemm(const Conv2dArgs& a, GemmKernel gemm, const Context& context) {
  gather_by_gemm(forward_product(a), window_of(a), gemm, context);
}

void conv2d_grad_by_gemm(const Conv2dGradArgs& a, GemmKernel gemm, SumsKernel channel_sums, const Context& context) {
  const WeightGrad weights = weight_product(a);
  if (a.dx.present()) gather_by_gemm(input_product(a), window_of(a), gemm, context);
  if (a.dw.present()) weight_grad_by_gemm(weights, window_of(a), gemm, context);
  if (a.dbias.present()) channel_sums(a.dy, weights.mask, a.dbias, weights.accumulate, context);
}

void check(const Conv2dArgs& a) {
  check_common("conv2d", a.x, a.w, "y", a.y, a.stride, a.padding);
  check_panels("conv2d", a.packed, a.w, false);
  expect_shape("conv2d", "bias", a.bias, {a.w.size[0]});
  expect_contiguous("conv2d", "bias", a.bias);
  expect_shape("conv2d", "residual", a.residual, {a.y.size[0], a.y.size[1], a.y.size[2], a.y.size[3]});
  check_map("conv2d", "residual", a.residual);
  expect_dtype("conv2d", "packed", a.packed, a.x.dtype);
  expect_dtype("conv2d", "bias", a.bias, sum_dtype(a.x.dtype));
  expect_dtype("conv2d", "residual", a.residual, a.x.dtype);
}

int64_t workspace(const Conv2dArgs& a, int threads) {
  return a.x.dtype == DType::f32 ? gather_workspace(forward_product(a), window_of(a), threads) : 0;
}
double flops(const Conv2dArgs& a) { return product_flops(a.y, a.w); }
double bytes(const Conv2dArgs& a) { return bytes_in(a.x) + bytes_in(a.w) + bytes_in(a.bias) + bytes_in(a.residual) + bytes_in(a.y); }

void check(const Conv2dGradArgs& a) {
  check_common("conv2d_grad", a.x, a.w, "dy", a.dy, a.stride, a.padding);
  check_panels("conv2d_grad", a.packed, a.w, true);
  expect_dtype("conv2d_grad", "packed", a.packed, a.x.dtype);
  check_gradients("conv2d_grad", a.x, a.w, a.dy, a.y, a.dx, a.dw, a.dbias, a.activation == 1);
}

int64_t workspace(const Conv2dGradArgs& a, int threads) {
  if (a.x.dtype != DType::f32) return 0;
  int64_t most = 0;
  if (a.dx.present()) most = gather_workspace(input_product(a), window_of(a), threads);
  if (a.dw.present()) most = std::max(most, weight_grad_workspace(weight_product(a), window_of(a), threads));
  return most;
}
double flops(const Conv2dGradArgs& a) {
  return product_flops(a.dy, a.w) * (a.dx.present() + a.dw.present()) + (a.dbias.present() ? count_of(a.dy) : 0);
}
double bytes(const Conv2dGradArgs& a) {
  const double read = bytes_in(a.dy) + bytes_in(a.y) + (a.dx.present() ? bytes_in(a.w) : 0) + (a.dw.present() ? bytes_in(a.x) : 0);
  return read + bytes_in(a.dx) + (1 + (a.accumulate != 0)) * (bytes_in(a.dw) + bytes_in(a.dbias));
}

}  // namespace theia
