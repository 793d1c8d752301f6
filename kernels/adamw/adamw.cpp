#include "kernels/adamw/adamw.h"

#include "kernels/core/checks.h"

namespace theia {

void check(const AdamwArgs& a) {
  const int64_t total = a.param.size[0];
  for (auto [field, t] : {std::pair{"param", &a.param}, std::pair{"grad", &a.grad}, std::pair{"exp_avg", &a.exp_avg},
                          std::pair{"exp_avg_sq", &a.exp_avg_sq}}) {
    expect_dtype("adamw", field, *t, a.param.dtype);
    expect_shape("adamw", field, *t, {total});
    expect_contiguous("adamw", field, *t);
  }
  if (a.weights.present()) {
    expect_dtype("adamw", "param", a.param, DType::f32);
    expect_shape("adamw", "weights", a.weights, {total});
    expect_contiguous("adamw", "weights", a.weights);
  }
  expect_dtype("adamw", "slots", a.slots, a.param.dtype);
  expect_dtype("adamw", "clip_factor", a.clip_factor, a.param.dtype);
  expect_shape("adamw", "clip_factor", a.clip_factor, {1});
  for (auto [field, beta] : {std::pair{"beta1", a.beta1}, std::pair{"beta2", a.beta2}})
    if (!(beta >= 0 && beta < 1)) fail("ERR_ARGS", "adamw: expected '%s' in [0, 1), got %g", field, beta);
  if (!(a.eps >= 0)) fail("ERR_ARGS", "adamw: expected 'eps' as 0 or more, got %g", a.eps);
  check_segments("adamw", a.segments, a.slots);
}

int64_t workspace(const AdamwArgs&, int) { return 0; }
double flops(const AdamwArgs& a) { return 15.0 * static_cast<double>(a.param.numel()); }
double bytes(const AdamwArgs& a) {
  return static_cast<double>(a.param.numel()) * (7 * bytes_of(a.param.dtype) + (a.weights.present() ? 2 : 0));
}

}  // namespace theia
