#include "kernels/distill_loss/distill_loss.h"

#include <cmath>
#include <limits>

#include "kernels/core/checks.h"

namespace theia {

namespace {

constexpr double kEps = 1e-12;
constexpr int64_t kChunk = 1 << 14;  // elements: 96 KB of p and bfloat16 t, far more work than the hand-out, and many chunks a sample

/// What stands beside p: float64 with float64, float32 with float32 and bfloat16.
DType real_of(const Tensor& p) { return p.dtype == DType::f64 ? DType::f64 : DType::f32; }

template <class Args>
void check_common(const char* op, const Args& a) {
  const int64_t samples = a.p.size[0], positions = a.p.size[1], channels = a.p.size[2];
  if (samples < 1 || positions < 1 || channels < 1) fail("ERR_SHAPE", "%s: expected 'p' with elements, got %s", op, describe(a.p).c_str());
  expect_contiguous(op, "p", a.p);
  expect_shape(op, "t", a.t, {samples, positions, channels});
  expect_contiguous(op, "t", a.t, 2);
  if (a.t.dtype == DType::f64) expect_dtype(op, "t", a.t, a.p.dtype);
  if (a.mean.present() != a.std.present())
    fail("ERR_ARGS", "%s: expected 'mean' and 'std' together or neither, got only '%s'", op, a.mean.present() ? "mean" : "std");
  for (auto [field, t] : {std::pair{"mean", &a.mean}, std::pair{"std", &a.std}}) {
    expect_dtype(op, field, *t, real_of(a.p));
    expect_shape(op, field, *t, {channels});
    expect_contiguous(op, field, *t);
  }
  expect_shape(op, "stats", a.stats, {samples, 3});
  expect_contiguous(op, "stats", a.stats);
}

/// The cosine as published, from the three sums, and its slopes: d cosine / dp = p·p_ + t·t'.
struct Cosine {
  double value, p, t;
};
Cosine cosine(double dot, double p2, double t2) {
  const double p_norm = std::sqrt(p2), t_norm = std::sqrt(t2);
  const double a = p_norm < kEps ? kEps : p_norm, b = t_norm < kEps ? kEps : t_norm;
  const double a2 = p2 / (a * a) + kEps, b2 = t2 / (b * b) + kEps;
  const double below = std::sqrt(a2 * b2);
  const double value = dot / (a * b) / below;
  // Where the clamp holds, a is a constant and |p/a|² varies; elsewhere |p/a| is 1 and a varies.
  const double slope = p_norm < kEps ? value / (a * a * a2) : value / p2;
  return {value, -slope, 1.0 / (a * b) / below};
}

double real_at(const Tensor& t, int64_t i) { return t.dtype == DType::f64 ? t.ptr<double>()[i] : static_cast<double>(t.ptr<float>()[i]); }
void put_real(const Tensor& t, int64_t i, double x) {
  if (t.dtype == DType::f64)
    t.ptr<double>()[i] = x;
  else
    t.ptr<float>()[i] = static_cast<float>(x);
}

}  // namespace

void check(const DistillLossArgs& a) {
  check_common("distill_loss", a);
  expect_dtype("distill_loss", "terms", a.terms, real_of(a.p));
  expect_shape("distill_loss", "terms", a.terms, {3});
  expect_contiguous("distill_loss", "terms", a.terms);
}

void check(const DistillLossGradArgs& a) {
  check_common("distill_loss_grad", a);
  expect_dtype("distill_loss_grad", "weights", a.weights, real_of(a.p));
  expect_shape("distill_loss_grad", "weights", a.weights, {3});
  expect_contiguous("distill_loss_grad", "weights", a.weights);
  if (a.p.dtype == DType::f64 || a.dp.dtype != DType::bf16) expect_dtype("distill_loss_grad", "dp", a.dp, real_of(a.p));
  expect_shape("distill_loss_grad", "dp", a.dp, {a.p.size[0], a.p.size[1], a.p.size[2]});
  expect_contiguous("distill_loss_grad", "dp", a.dp);
}

DistillChunks distill_chunks(const Tensor& p) {
  const int64_t positions = p.size[1], channels = p.size[2];
  const int64_t each = channels >= kChunk ? 1 : kChunk / channels;
  return {p.size[0], positions, channels, each, (positions + each - 1) / each};
}

void distill_finish(const DistillLossArgs& a, const DistillSums* sums, int64_t chunks_per_sample) {
  const int64_t samples = a.p.size[0];
  double* stats = a.stats.ptr<double>();
  double cos = 0, l1 = 0, mse = 0;
  bool finite = true;
  for (int64_t b = 0; b < samples; ++b, stats += 3) {
    double dot = 0, p2 = 0, t2 = 0;
    for (int64_t c = 0; c < chunks_per_sample; ++c, ++sums) {
      dot += sums->dot;
      p2 += sums->p2;
      t2 += sums->t2;
      l1 += sums->l1;
      mse += sums->mse;
    }
    stats[0] = dot;
    stats[1] = p2;
    stats[2] = t2;
    cos += 1.0 - cosine(dot, p2, t2).value;
    finite = finite && std::isfinite(dot) && std::isfinite(p2) && std::isfinite(t2);
  }
  const double nan = std::numeric_limits<double>::quiet_NaN(), elements = static_cast<double>(a.p.numel());
  put_real(a.terms, 0, finite ? cos / static_cast<double>(samples) : nan);
  put_real(a.terms, 1, finite ? l1 / elements : nan);
  put_real(a.terms, 2, finite ? mse / elements : nan);
}

DistillSlopes distill_slopes(const DistillLossGradArgs& a, int64_t sample) {
  const double* stats = a.stats.ptr<double>() + 3 * sample;
  if (!std::isfinite(stats[0]) || !std::isfinite(stats[1]) || !std::isfinite(stats[2])) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    return {nan, nan, nan, nan};
  }
  const Cosine c = cosine(stats[0], stats[1], stats[2]);
  const double share = -real_at(a.weights, 0) / static_cast<double>(a.p.size[0]), elements = static_cast<double>(a.p.numel());
  return {share * c.p, share * c.t, real_at(a.weights, 1) / elements, 2.0 * real_at(a.weights, 2) / elements};
}

int64_t workspace(const DistillLossArgs& a, int) {
  const DistillChunks c = distill_chunks(a.p);
  return c.samples * c.count * static_cast<int64_t>(sizeof(DistillSums));
}
int64_t workspace(const DistillLossGradArgs&, int) { return 0; }

double flops(const DistillLossArgs& a) { return (a.mean.present() ? 16.0 : 14.0) * static_cast<double>(a.p.numel()); }
double flops(const DistillLossGradArgs& a) { return (a.mean.present() ? 12.0 : 10.0) * static_cast<double>(a.p.numel()); }
double bytes(const DistillLossArgs& a) { return static_cast<double>(a.p.numel()) * (bytes_of(a.p.dtype) + bytes_of(a.t.dtype)); }
double bytes(const DistillLossGradArgs& a) {
  return static_cast<double>(a.p.numel()) * (bytes_of(a.p.dtype) + bytes_of(a.dp.dtype) + bytes_of(a.t.dtype));
}

}  // namespace theia
