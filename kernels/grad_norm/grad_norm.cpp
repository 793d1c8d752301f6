#include "kernels/grad_norm/grad_norm.h"

#include <cmath>
#include <limits>

#include "kernels/core/checks.h"

namespace theia {

void check(const GradNormArgs& a) {
  expect_contiguous("grad_norm", "grad", a.grad);
  expect_dtype("grad_norm", "slots", a.slots, a.grad.dtype);
  for (auto [field, t] : {std::pair{"limit", &a.limit}, std::pair{"clip_factor", &a.clip_factor}}) {
    expect_dtype("grad_norm", field, *t, a.grad.dtype);
    expect_shape("grad_norm", field, *t, {1});
  }
  expect_shape("grad_norm", "norm", a.norm, {1});
  check_segments("grad_norm", a.segments, a.slots);
}

int64_t grad_norm_chunks(const GradNormArgs& a) { return (a.grad.size[0] + kGradNormChunk - 1) / kGradNormChunk; }

void grad_norm_finish(const GradNormArgs& a, const double* sums) {
  double sum = 0;
  for (int64_t i = 0, n = grad_norm_chunks(a); i < n; ++i) sum += sums[i];
  const double norm = std::sqrt(sum);
  const bool f64 = a.limit.dtype == DType::f64;
  const double limit = f64 ? *a.limit.ptr<double>() : static_cast<double>(*a.limit.ptr<float>());
  double factor = 1;
  if (!std::isfinite(norm) || std::isnan(limit))
    factor = std::numeric_limits<double>::quiet_NaN();
  else if (limit > 0 && limit / (norm + 1e-6) < 1)
    factor = limit / (norm + 1e-6);
  *a.norm.ptr<double>() = norm;
  if (f64)
    *a.clip_factor.ptr<double>() = factor;
  else
    *a.clip_factor.ptr<float>() = static_cast<float>(factor);
}

int64_t workspace(const GradNormArgs& a, int) { return grad_norm_chunks(a) * static_cast<int64_t>(sizeof(double)); }
double flops(const GradNormArgs& a) { return 2.0 * static_cast<double>(a.grad.numel()); }
double bytes(const GradNormArgs& a) { return static_cast<double>(a.grad.numel()) * bytes_of(a.grad.dtype); }

}  // namespace theia
