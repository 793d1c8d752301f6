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

double elements(const Tensor& t) { return t.present() ? static_cast<double>(t.numel()) : 0; }

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
  for (auto [field, t] : {std::pair{"gamma", &a.gamma}, {"beta", &a.beta}, {"y", &a.y}, {"mean", &a.mean}, {"rstd", &a.rstd}})
    expect_dtype(op, field, *t, a.x.dtype);
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
  return (2.0 * elements(a.x) + elements(a.gamma) + elements(a.beta) + elements(a.mean) + elements(a.rstd)) * bytes_of(a.x.dtype);
}

void check(const LayernormGradArgs& a) {
  constexpr const char* op = "layernorm_grad";
  const int64_t rows = a.x.size[0], width = a.x.size[1];
  if (width < 1) fail("ERR_SHAPE", "%s: expected 'x' with at least one column, got %s", op, describe(a.x).c_str());
  expect_both(op, "dgamma", a.dgamma, "dbeta", a.dbeta);
  for (auto [field, t] : {std::pair{"gamma", &a.gamma},
                          {"mean", &a.mean},
                          {"rstd", &a.rstd},
                          {"dy", &a.dy},
                          {"add", &a.add},
                          {"dx", &a.dx},
                          {"dgamma", &a.dgamma},
                          {"dbeta", &a.dbeta}})
    expect_dtype(op, field, *t, a.x.dtype);
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
  const double maps = 3.0 * elements(a.x) + elements(a.add);
  return (maps + elements(a.gamma) + 2.0 * elements(a.mean) + (a.accumulate ? 4.0 : 2.0) * elements(a.dgamma)) * bytes_of(a.x.dtype);
}

}  // namespace theia
