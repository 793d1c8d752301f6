#include "kernels/conv2d/window.h"

#include <utility>

#include "kernels/core/checks.h"
#include "kernels/pack/pack.h"

namespace theia {

DType sum_dtype(DType map) { return map == DType::bf16 ? DType::f32 : map; }

void check_scalars(const char* op, int64_t stride, int64_t padding) {
  if (stride < 1 || stride > kMaxReach)
    fail("ERR_ARGS", "%s: expected 'stride' in 1 to %lld, got %lld", op, static_cast<long long>(kMaxReach), static_cast<long long>(stride));
  if (padding < 0 || padding > kMaxReach)
    fail("ERR_ARGS", "%s: expected 'padding' in 0 to %lld, got %lld", op, static_cast<long long>(kMaxReach),
         static_cast<long long>(padding));
}

void check_map(const char* op, const char* field, const Tensor& t) {
  if (!t.present()) return;
  // A view may repeat its elements, so sizes are not bounded by memory; below 2^31 no arithmetic on them overflows, and a device can count
  // positions in 32 bits.
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  int64_t positions = 1;
  for (int i = 0; i < t.rank; ++i) {
    if (t.size[i] < 1 || t.size[i] > kMost || (i < 3 && t.size[i] > kMost / positions))
      fail("ERR_SHAPE", "%s: expected '%s' with every size and the product of the first three in 1 to 2^31 - 1, got %s", op, field,
           describe(t).c_str());
    positions *= t.size[i];
  }
  expect_contiguous(op, field, t, 1);
}

void check_weights(const char* op, const char* field, const Tensor& w) {
  check_map(op, field, w);
  expect_contiguous(op, field, w);
  if (w.present() && (w.size[1] > kMaxReach || w.size[2] > kMaxReach))
    fail("ERR_SHAPE", "%s: expected '%s' [O,kh,kw,I] with a window of at most %lld a side, got %s", op, field,
         static_cast<long long>(kMaxReach), describe(w).c_str());
}

void check_panels(const char* op, const Tensor& panels, const Tensor& w, bool backward) {
  const PackUse use = backward ? PackUse::backward : PackUse::forward;
  expect_shape(op, "packed", panels, {packed_elements(w.size[0], w.size[1] * w.size[2], w.size[3], use)});
  expect_contiguous(op, "packed", panels);
}

void check_gradients(const char* op, const Tensor& x, const Tensor& w, const Tensor& dy, const Tensor& y, const Tensor& dx,
                     const Tensor& dw, const Tensor& dbias, bool relu) {
  for (auto [field, t] : {std::pair{"y", &y}, std::pair{"dx", &dx}}) expect_dtype(op, field, *t, x.dtype);
  for (auto [field, t] : {std::pair{"dw", &dw}, std::pair{"dbias", &dbias}}) expect_dtype(op, field, *t, sum_dtype(x.dtype));
  expect_shape(op, "dx", dx, {x.size[0], x.size[1], x.size[2], x.size[3]});
  check_map(op, "dx", dx);
  expect_shape(op, "dw", dw, {w.size[0], w.size[1], w.size[2], w.size[3]});
  check_weights(op, "dw", dw);
  expect_shape(op, "dbias", dbias, {w.size[0]});
  expect_contiguous(op, "dbias", dbias);
  if (!relu) return;
  // One offset then serves both maps where dy is masked on the way into a product.
  if (!y.present()) fail("ERR_ARGS", "%s: expected the output of forward as 'y' with activation relu, got nothing", op);
  expect_shape(op, "y", y, {dy.size[0], dy.size[1], dy.size[2], dy.size[3]});
  check_map(op, "y", y);
  for (int i = 0; i < 3; ++i)
    if (y.size[i] != 1 && y.stride[i] != dy.stride[i])
      fail("ERR_SHAPE", "%s: expected 'y' with the strides of 'dy', got %lld and %lld in dimension %d", op,
           static_cast<long long>(y.stride[i]), static_cast<long long>(dy.stride[i]), i);
}

double product_flops(const Tensor& small, const Tensor& w) {
  return 2.0 * static_cast<double>(small.size[0] * small.size[1] * small.size[2]) * count_of(w);
}

double count_of(const Tensor& t) { return t.present() ? static_cast<double>(t.numel()) : 0; }
double bytes_in(const Tensor& t) { return count_of(t) * bytes_of(t.dtype); }

}  // namespace theia
