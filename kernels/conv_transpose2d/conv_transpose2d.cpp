#include "kernels/conv_transpose2d/conv_transpose2d.h"

#include <algorithm>

#include "kernels/core/checks.h"

namespace theia {

namespace {

/// Sizes, layouts and types that forward and gradient have in common; `y` is the map of O channels, `y_field` its name.
void check_common(const char* op, const Tensor& x, const Tensor& w, const char* y_field, const Tensor& y, int64_t stride, int64_t padding,
                  int64_t output_padding) {
  check_scalars(op, stride, padding);
  if (output_padding < 0 || output_padding >= stride)
    fail("ERR_ARGS", "%s: expected 'output_padding' in 0 to %lld, below the stride, got %lld", op, static_cast<long long>(stride - 1),
         static_cast<long long>(output_padding));
  check_map(op, "x", x);
  check_weights(op, "w", w);
  check_map(op, y_field, y);
  expect_dtype(op, "w", w, x.dtype);
  expect_dtype(op, y_field, y, x.dtype);
  expect_shape(op, "w", w, {w.size[0], w.size[1], w.size[2], x.size[3]});
  const int64_t more = output_padding - 2 * padding;
  expect_shape(op, y_field, y,
               {x.size[0], (x.size[1] - 1) * stride + w.size[1] + more, (x.size[2] - 1) * stride + w.size[2] + more, w.size[0]});
}

}  // namespace

Window window_of(const ConvTranspose2dArgs& a) { return {a.w.size[1], a.w.size[2], a.stride, a.padding}; }
Window window_of(const ConvTranspose2dGradArgs& a) { return {a.w.size[1], a.w.size[2], a.stride, a.padding}; }

Gather forward_product(const ConvTranspose2dArgs& a) {
  Gather g{};
  g.in = a.x, g.out = a.y, g.w = a.w, g.panels = a.packed, g.bias = a.bias;
  g.up = true;
  g.relu = a.activation == 1;
  return g;
}

Gather input_product(const ConvTranspose2dGradArgs& a) {
  Gather g{};
  g.in = a.dy, g.out = a.dx, g.w = a.w, g.panels = a.packed;
  if (a.activation == 1) g.mask = a.y;
  g.backward = true;
  return g;
}

WeightGrad weight_product(const ConvTranspose2dGradArgs& a) {
  WeightGrad g{};
  g.x = a.x, g.dy = a.dy, g.dw = a.dw;
  if (a.activation == 1) g.mask = a.y;
  g.up = true;
  g.accumulate = a.accumulate != 0;
  return g;
}

void conv_transpose2d_by_gemm(const ConvTranspose2dArgs& a, GemmKernel gemm, const Context& context) {
  gather_by_gemm(forward_product(a), window_of(a), gemm, context);
}

void conv_transpose2d_grad_by_gemm(const ConvTranspose2dGradArgs& a, GemmKernel gemm, SumsKernel channel_sums, const Context& context) {
  const WeightGrad weights = weight_product(a);
  if (a.dx.present()) gather_by_gemm(input_product(a), window_of(a), gemm, context);
  if (a.dw.present()) weight_grad_by_gemm(weights, window_of(a), gemm, context);
  if (a.dbias.present()) channel_sums(a.dy, weights.mask, a.dbias, weights.accumulate, context);
}

void check(const ConvTranspose2dArgs& a) {
  check_common("conv_transpose2d", a.x, a.w, "y", a.y, a.stride, a.padding, a.output_padding);
  check_panels("conv_transpose2d", a.packed, a.w, false);
  expect_shape("conv_transpose2d", "bias", a.bias, {a.w.size[0]});
  expect_contiguous("conv_transpose2d", "bias", a.bias);
  expect_dtype("conv_transpose2d", "packed", a.packed, a.x.dtype);
  expect_dtype("conv_transpose2d", "bias", a.bias, sum_dtype(a.x.dtype));
}

int64_t workspace(const ConvTranspose2dArgs& a, int threads) {
  return a.x.dtype == DType::f32 ? gather_workspace(forward_product(a), window_of(a), threads) : 0;
}
double flops(const ConvTranspose2dArgs& a) { return product_flops(a.x, a.w); }
double bytes(const ConvTranspose2dArgs& a) { return bytes_in(a.x) + bytes_in(a.w) + bytes_in(a.bias) + bytes_in(a.y); }

void check(const ConvTranspose2dGradArgs& a) {
  check_common("conv_transpose2d_grad", a.x, a.w, "dy", a.dy, a.stride, a.padding, a.output_padding);
  check_panels("conv_transpose2d_grad", a.packed, a.w, true);
  expect_dtype("conv_transpose2d_grad", "packed", a.packed, a.x.dtype);
  check_gradients("conv_transpose2d_grad", a.x, a.w, a.dy, a.y, a.dx, a.dw, a.dbias, a.activation == 1);
}

int64_t workspace(const ConvTranspose2dGradArgs& a, int threads) {
  if (a.x.dtype != DType::f32) return 0;
  int64_t most = 0;
  if (a.dx.present()) most = gather_workspace(input_product(a), window_of(a), threads);
  if (a.dw.present()) most = std::max(most, weight_grad_workspace(weight_product(a), window_of(a), threads));
  return most;
}
double flops(const ConvTranspose2dGradArgs& a) {
  return product_flops(a.x, a.w) * (a.dx.present() + a.dw.present()) + (a.dbias.present() ? count_of(a.dy) : 0);
}
double bytes(const ConvTranspose2dGradArgs& a) {
  const double read = bytes_in(a.dy) + bytes_in(a.y) + (a.dx.present() ? bytes_in(a.w) : 0) + (a.dw.present() ? bytes_in(a.x) : 0);
  return read + bytes_in(a.dx) + (1 + (a.accumulate != 0)) * (bytes_in(a.dw) + bytes_in(a.dbias));
}

}  // namespace theia
