#include "kernels/reduce/reduce.h"

#include "kernels/core/checks.h"

namespace theia {

namespace {

double elements(const Tensor& t) { return t.present() ? static_cast<double>(t.numel()) : 0; }
double size_of(const Tensor& t) { return elements(t) * bytes_of(t.dtype); }

/// A tensor of this dtype and shape whose last dimension is packed.
void expect_rows(const char* op, const char* field, const Tensor& t, DType dtype, std::initializer_list<int64_t> shape) {
  expect_dtype(op, field, t, dtype);
  expect_shape(op, field, t, shape);
  expect_contiguous(op, field, t, 1);
}

/// The dtype to expect of `t` beside `other`: float64 only together; float32 and bfloat16 as they come.
DType beside(const Tensor& t, const Tensor& other) {
  return t.present() && (t.dtype == DType::f64) == (other.dtype == DType::f64) ? t.dtype : other.dtype;
}

void expect_tokens(const char* op, const char* field, const Tensor& t) {
  if (t.size[1] < 1) fail("ERR_SHAPE", "%s: expected '%s' [B,N,D] with N of at least 1, got %s", op, field, describe(t).c_str());
}

}  // namespace

void check(const ReduceArgs& a) {
  constexpr const char* op = "reduce";
  const int64_t* s = a.x.size;
  expect_tokens(op, "x", a.x);
  expect_rows(op, "x", a.x, a.x.dtype, {s[0], s[1], s[2]});
  expect_rows(op, "y", a.y, a.y.dtype == DType::f32 && a.x.dtype == DType::bf16 ? DType::f32 : a.x.dtype, {s[0], s[2]});
}

int64_t workspace(const ReduceArgs&, int) { return 0; }
double flops(const ReduceArgs& a) { return elements(a.x); }
double bytes(const ReduceArgs& a) { return size_of(a.x) + size_of(a.y); }

void check(const ReduceGradArgs& a) {
  constexpr const char* op = "reduce_grad";
  const int64_t* s = a.dx.size;
  expect_tokens(op, "dx", a.dx);
  if (a.kind == static_cast<int64_t>(Reduction::max) && !(a.x.present() && a.y.present()))
    fail("ERR_ARGS", "%s: expected 'x' and 'y' for the kind max, got none", op);
  expect_rows(op, "dx", a.dx, a.dx.dtype, {s[0], s[1], s[2]});
  expect_rows(op, "x", a.x, beside(a.x, a.dx), {s[0], s[1], s[2]});
  // y must hold the maximum exactly: in bfloat16 only that of bfloat16.
  expect_rows(op, "y", a.y, a.y.dtype == DType::bf16 && a.x.dtype != DType::bf16 ? a.x.dtype : beside(a.y, a.dx), {s[0], s[2]});
  expect_rows(op, "dy", a.dy, beside(a.dy, a.dx), {s[0], s[2]});
}

int64_t workspace(const ReduceGradArgs&, int) { return 0; }
double flops(const ReduceGradArgs& a) { return elements(a.dx); }
double bytes(const ReduceGradArgs& a) {
  const bool max = a.kind == static_cast<int64_t>(Reduction::max);
  return size_of(a.dx) + size_of(a.dy) + (max ? size_of(a.x) + size_of(a.y) : 0);
}

}  // namespace theia
