#include "kernels/max_pool2d/max_pool2d.h"

#include "kernels/core/checks.h"

namespace theia {

namespace {

void check_map(const char* op, const char* field, const Tensor& t) {
  // A view may repeat its elements, so sizes are not bounded by memory; below 2^31 no arithmetic on them overflows.
  for (int i = 0; i < t.rank; ++i)
    if (t.size[i] < 1 || t.size[i] >= int64_t{1} << 31)
      fail("ERR_SHAPE", "%s: expected '%s' with every size in 1 to 2^31 - 1, got %s", op, field, describe(t).c_str());
  expect_contiguous(op, field, t, 1);
}

void check_pool(const char* op, const Tensor& x, const char* y_field, const Tensor& y, int64_t kernel, int64_t stride, int64_t padding) {
  constexpr int64_t kMost = 8192;
  if (kernel < 1 || kernel > kMost) fail("ERR_ARGS", "%s: expected 'kernel' in 1 to 8192, got %lld", op, static_cast<long long>(kernel));
  if (stride < 1 || stride > kMost) fail("ERR_ARGS", "%s: expected 'stride' in 1 to 8192, got %lld", op, static_cast<long long>(stride));
  if (padding < 0 || padding > kernel / 2)
    fail("ERR_ARGS", "%s: expected 'padding' in 0 to %lld, half the kernel, got %lld", op, static_cast<long long>(kernel / 2),
         static_cast<long long>(padding));
  check_map(op, "x", x);
  const int64_t rest_y = x.size[1] + 2 * padding - kernel, rest_x = x.size[2] + 2 * padding - kernel;
  if (rest_y < 0 || rest_x < 0)
    fail("ERR_SHAPE", "%s: expected 'x' of at least the kernel's size %lld with padding %lld, got %s", op, static_cast<long long>(kernel),
         static_cast<long long>(padding), describe(x).c_str());
  check_map(op, y_field, y);
  expect_dtype(op, y_field, y, x.dtype);
  expect_shape(op, y_field, y, {x.size[0], rest_y / stride + 1, rest_x / stride + 1, x.size[3]});
}

double numel(const Tensor& t) { return static_cast<double>(t.numel()); }

}  // namespace

void check(const MaxPool2dArgs& a) { check_pool("max_pool2d", a.x, "y", a.y, a.kernel, a.stride, a.padding); }
int64_t workspace(const MaxPool2dArgs&, int) { return 0; }
double flops(const MaxPool2dArgs& a) { return numel(a.y) * static_cast<double>(a.kernel * a.kernel); }
double bytes(const MaxPool2dArgs& a) { return bytes_of(a.x.dtype) * (numel(a.x) + numel(a.y)); }

void check(const MaxPool2dGradArgs& a) {
  check_pool("max_pool2d_grad", a.x, "dy", a.dy, a.kernel, a.stride, a.padding);
  expect_dtype("max_pool2d_grad", "dx", a.dx, a.x.dtype);
  expect_shape("max_pool2d_grad", "dx", a.dx, {a.x.size[0], a.x.size[1], a.x.size[2], a.x.size[3]});
  check_map("max_pool2d_grad", "dx", a.dx);
}
int64_t workspace(const MaxPool2dGradArgs&, int) { return 0; }
double flops(const MaxPool2dGradArgs& a) { return numel(a.dy) * static_cast<double>(a.kernel * a.kernel + 1); }
double bytes(const MaxPool2dGradArgs& a) { return bytes_of(a.x.dtype) * (2 * numel(a.x) + numel(a.dy)); }

}  // namespace theia
