#include "kernels/reduce/reduce.h"

#include "kernels/core/checks.h"

namespace theia {

namespace {

double elements(const Tensor& t) { return t.present() ? static_cast<double>(t.numel()) : 0; }

/// A tensor of this dtype and shape whose last dimension is packed.
void expect_rows(const char* op, const char* field, const Tensor& t, DType dtype, std::initializer_list<int64_t> shape) {
  expect_dtype(op, field, t, dtype);
  expect_shape(op, field, t, shape);
  expect_contiguous(op, field, t, 1);
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
  expect_rows(op, "y", a.y, a.x.dtype, {s[0], s[2]});
}

int64_t workspace(const ReduceArgs&, int) { return 0; }
double flops(const ReduceArgs& a) { return elements(a.x); }
double bytes(const ReduceArgs& a) { return (elements(a.x) + elements(a.y)) * bytes_of(a.x.dtype); }

void check(const ReduceGradArgs& a) {
  constexpr const char* op = "reduce_grad";
  const int64_t* s = a.dx.size;
  const DType dtype = a.dx.dtype;
  expect_tokens(op, "dx", a.dx);
  if (a.kind == static_cast<int64_t>(Reduction::max) && !(a.x.present() && a.y.present()))
    fail("ERR_ARGS", "%s: expected 'x' and 'y' for the kind max, got none", op);
  expect_rows(op, "dx", a.dx, dtype, {s[0], s[1], s[2]});
  expect_rows(op, "x", a.x, dtype, {s[0], s[1], s[2]});
  expect_rows(op, "y", a.y, dtype, {s[0], s[2]});
  expect_rows(op, "dy", a.dy, dtype, {s[0], s[2]});
}

int64_t workspace(const ReduceGradArgs&, int) { return 0; }
double flops(const ReduceGradArgs& a) { return elements(a.dx); }
double bytes(const ReduceGradArgs& a) {
  const bool max = a.kind == static_cast<int64_t>(Reduction::max);
  return (elements(a.dx) * (max ? 2.0 : 1.0) + elements(a.dy) * (max ? 2.0 : 1.0)) * bytes_of(a.dx.dtype);
}

}  // namespace theia
