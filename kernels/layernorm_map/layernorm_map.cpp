#include "kernels/layernorm_map/layernorm_map.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/core/checks.h"

namespace theia {

namespace {

void expect_both(const char* op, const char* first, const Tensor& a, const char* second, const Tensor& b) {
  if (a.present() != b.present())
    fail("ERR_ARGS", "%s: expected '%s' and '%s' together or neither, got only '%s'", op, first, second, a.present() ? first : second);
}

/// A packed tensor of this dtype and shape.
void expect_packed(const char* op, const char* field, const Tensor& t, DType dtype, std::initializer_list<int64_t> shape) {
  expect_dtype(op, field, t, dtype);
  expect_shape(op, field, t, shape);
  expect_contiguous(op, field, t);
}

void expect_length(const char* op, const Tensor& x) {
  if (x.size[1] < 1) fail("ERR_SHAPE", "%s: expected 'x' with at least one element a sample, got %s", op, describe(x).c_str());
}

/// An activation that goes with x: float64 with float64, else float32 or, where the backend takes it, bfloat16.
void expect_activation(const char* op, const char* field, const Tensor& t, const Tensor& x) {
  if ((t.dtype == DType::f64) == (x.dtype == DType::f64)) return;
  expect_dtype(op, field, t, x.dtype);
}

/// Statistics and parameters: float64 with float64, else float32.
DType precise(const Tensor& x) { return x.dtype == DType::f64 ? DType::f64 : DType::f32; }

double elements(const Tensor& t) { return t.present() ? static_cast<double>(t.numel()) : 0; }
double size_of(const Tensor& t) { return elements(t) * bytes_of(t.dtype); }

}  // namespace

MapTotal combine_moments(const MapPartial* runs, int64_t length, double eps) {
  const int64_t count = map_runs(length);
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < count; ++i) sum += runs[i].first * static_cast<double>(std::min(kMapRun, length - i * kMapRun));
  const double mean = sum / static_cast<double>(length);
  for (int64_t i = 0; i < count; ++i) {
    const double d = runs[i].first - mean;
    squares += runs[i].second + d * d * static_cast<double>(std::min(kMapRun, length - i * kMapRun));
  }
  return {static_cast<float>(mean), static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(length) + eps))};
}

MapTotal combine_means(const MapPartial* runs, int64_t length) {
  double first = 0, second = 0;
  for (int64_t i = 0, count = map_runs(length); i < count; ++i) {
    first += runs[i].first;
    second += runs[i].second;
  }
  return {static_cast<float>(first / static_cast<double>(length)), static_cast<float>(second / static_cast<double>(length))};
}

void check(const LayernormMapArgs& a) {
  constexpr const char* op = "layernorm_map";
  const int64_t batch = a.x.size[0], length = a.x.size[1];
  const DType dtype = precise(a.x);
  expect_length(op, a.x);
  expect_activation(op, "y", a.y, a.x);
  if (!(a.eps >= 0) || !std::isfinite(a.eps)) fail("ERR_ARGS", "%s: expected 'eps' as a number of at least 0, got %g", op, a.eps);
  expect_both(op, "mean", a.mean, "rstd", a.rstd);
  for (auto [field, t] : {std::pair{"x", &a.x}, {"y", &a.y}}) expect_packed(op, field, *t, t->dtype, {batch, length});
  for (auto [field, t] : {std::pair{"gamma", &a.gamma}, {"beta", &a.beta}}) expect_packed(op, field, *t, dtype, {length});
  for (auto [field, t] : {std::pair{"mean", &a.mean}, {"rstd", &a.rstd}}) expect_packed(op, field, *t, dtype, {batch});
}

// One partial a run and a total a sample.
static int64_t statistics_bytes(const Tensor& x) {
  if (x.dtype != DType::f32) return 0;
  return x.size[0] * (map_runs(x.size[1]) * static_cast<int64_t>(sizeof(MapPartial)) + static_cast<int64_t>(sizeof(MapTotal)));
}

int64_t workspace(const LayernormMapArgs& a, int) { return statistics_bytes(a.x); }
double flops(const LayernormMapArgs& a) { return 8.0 * elements(a.x); }
double bytes(const LayernormMapArgs& a) {
  return size_of(a.x) + size_of(a.y) + size_of(a.gamma) + size_of(a.beta) + size_of(a.mean) + size_of(a.rstd);
}

void check(const LayernormMapGradArgs& a) {
  constexpr const char* op = "layernorm_map_grad";
  const int64_t batch = a.x.size[0], length = a.x.size[1];
  const DType dtype = precise(a.x);
  expect_length(op, a.x);
  for (auto [field, t] : {std::pair{"dy", &a.dy}, {"dx", &a.dx}}) expect_activation(op, field, *t, a.x);
  expect_both(op, "dgamma", a.dgamma, "dbeta", a.dbeta);
  for (auto [field, t] : {std::pair{"x", &a.x}, {"dy", &a.dy}, {"dx", &a.dx}}) expect_packed(op, field, *t, t->dtype, {batch, length});
  for (auto [field, t] : {std::pair{"gamma", &a.gamma}, {"dgamma", &a.dgamma}, {"dbeta", &a.dbeta}})
    expect_packed(op, field, *t, dtype, {length});
  for (auto [field, t] : {std::pair{"mean", &a.mean}, {"rstd", &a.rstd}}) expect_packed(op, field, *t, dtype, {batch});
}

int64_t workspace(const LayernormMapGradArgs& a, int) { return statistics_bytes(a.x); }
double flops(const LayernormMapGradArgs& a) { return (13.0 + (a.dgamma.present() ? 3 : 0)) * elements(a.x); }
double bytes(const LayernormMapGradArgs& a) {
  return size_of(a.x) + size_of(a.dy) + size_of(a.dx) + size_of(a.gamma) + (a.accumulate ? 4.0 : 2.0) * size_of(a.dgamma);
}

}  // namespace theia
