#include "kernels/layernorm/layernorm.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/core/checks.h"

namespace theia {

namespace {

/// The rows of a [R,D] tensor are packed, wherever each of them starts.
void expect_rows(const char* op, const char* field, const Tensor& t, int64_t rows, int64_t width) {
  expect_shape(op, field, t, {rows, width});
  expect_contiguous(op, field, t, 1);
}

/// Both tensors of a pair are given, or neither is.
void expect_both(const char* op, const char* first, const Tensor& a, const char* second, const Tensor& b) {
  if (a.present() != b.present())
    fail("ERR_ARGS", "%s: expected '%s' and '%s' together or neither, got only '%s'", op, first, second, a.present() ? first : second);
}

/// An activation that goes with x: float64 with float64, else float32 or, where the backend takes it, bfloat16.
void expect_activation(const char* op, const char* field, const Tensor& t, const Tensor& x) {
  if (!t.present() || (t.dtype == DType::f64) == (x.dtype == DType::f64)) return;
  expect_dtype(op, field, t, x.dtype);
}

/// Statistics and parameters: float64 with float64, else float32.
DType precise(const Tensor& x) { return x.dtype == DType::f64 ? DType::f64 : DType::f32; }

double elements(const Tensor& t) { return t.present() ? static_cast<double>(t.numel()) : 0; }
double size_of(const Tensor& t) { return elements(t) * bytes_of(t.dtype); }

}  // namespace

NormBlocks norm_blocks(int64_t rows) {
  const int64_t each = std::max(kNormBlockRows, (rows + kNormBlocks - 1) / kNormBlocks);
  return {each, (rows + each - 1) / each};
}

void check(const LayernormArgs& a) {
  constexpr const char* op = "layernorm";
  const int64_t rows = a.x.size[0], width = a.x.size[1];
  if (width < 1) fail("ERR_SHAPE", "%s: expected 'x' with at least one column, got %s", op, describe(a.x).c_str());
  if (!(a.eps >= 0) || !std::isfinite(a.eps)) fail("ERR_ARGS", "%s: expected 'eps' as a number of at least 0, got %g", op, a.eps);
  expect_both(op, "mean", a.mean, "rstd", a.rstd);
  expect_activation(op, "y", a.y, a.x);
  for (auto [field, t] : {std::pair{"gamma", &a.gamma}, {"beta", &a.beta}, {"mean", &a.mean}, {"rstd", &a.rstd}})
    expect_dtype(op, field, *t, precise(a.x));
  for (auto [field, t] : {std::pair{"x", &a.x}, {"y", &a.y}}) expect_rows(op, field, *t, rows, width);
  for (auto [field, t] : {std::pair{"gamma", &a.gamma}, {"beta", &a.beta}}) {
    expect_shape(op, field, *t, {width});
    expect_contiguous(op, field, *t);
  }
  for (auto [field, t] : {std::pair{"mean", &a.mean}, {"rstd", &a.rstd}}) {
    expect_shape(op, field, *t, {rows});
    expect_contiguous(op, field, *t);
  }
}

int64_t workspace(const LayernormArgs&, int) { return 0; }
double flops(const LayernormArgs& a) { return 8.0 * elements(a.x); }
double bytes(const LayernormArgs& a) {
  return size_of(a.x) + size_of(a.y) + size_of(a.gamma) + size_of(a.beta) + size_of(a.mean) + size_of(a.rstd);
}

void check(const LayernormGradArgs& a) {
  constexpr const char* op = "layernorm_grad";
  const int64_t rows = a.x.size[0], width = a.x.size[1];
  if (width < 1) fail("ERR_SHAPE", "%s: expected 'x' with at least one column, got %s", op, describe(a.x).c_str());
  expect_both(op, "dgamma", a.dgamma, "dbeta", a.dbeta);
  for (auto [field, t] : {std::pair{"dy", &a.dy}, {"dx", &a.dx}}) expect_activation(op, field, *t, a.x);
  expect_dtype(op, "add", a.add, a.dx.dtype);  // whose memory it may be
  for (auto [field, t] : {std::pair{"gamma", &a.gamma}, {"mean", &a.mean}, {"rstd", &a.rstd}, {"dgamma", &a.dgamma}, {"dbeta", &a.dbeta}})
    expect_dtype(op, field, *t, precise(a.x));
  for (auto [field, t] : {std::pair{"x", &a.x}, {"dy", &a.dy}, {"add", &a.add}, {"dx", &a.dx}}) expect_rows(op, field, *t, rows, width);
  for (auto [field, t] : {std::pair{"gamma", &a.gamma}, {"dgamma", &a.dgamma}, {"dbeta", &a.dbeta}}) {
    expect_shape(op, field, *t, {width});
    expect_contiguous(op, field, *t);
  }
  for (auto [field, t] : {std::pair{"mean", &a.mean}, {"rstd", &a.rstd}}) {
    expect_shape(op, field, *t, {rows});
    expect_contiguous(op, field, *t);
  }
}

int64_t workspace(const LayernormGradArgs& a, int) {
  if (!a.dgamma.present() || a.x.dtype != DType::f32) return 0;
  return norm_blocks(a.x.size[0]).count * 2 * a.x.size[1] * static_cast<int64_t>(sizeof(float));
}
double flops(const LayernormGradArgs& a) { return (12.0 + (a.add.present() ? 1 : 0) + (a.dgamma.present() ? 3 : 0)) * elements(a.x); }
double bytes(const LayernormGradArgs& a) {
  const double maps = size_of(a.x) + size_of(a.dy) + size_of(a.add) + size_of(a.dx);
  return maps + size_of(a.gamma) + 2.0 * size_of(a.mean) + (a.accumulate ? 4.0 : 2.0) * size_of(a.dgamma);
}

}  // namespace theia
