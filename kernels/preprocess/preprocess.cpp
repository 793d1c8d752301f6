#include "kernels/preprocess/preprocess.h"

#include <algorithm>
#include <cmath>

#include "kernels/core/checks.h"
#include "kernels/preprocess/taps.h"

namespace theia {

namespace {
constexpr int64_t kMaxSide = 1 << 16;
int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }
}  // namespace

void check(const PreprocessArgs& a) {
  const auto& in = a.image;
  const auto& out = a.out;
  expect_contiguous("preprocess", "image", in);
  expect_contiguous("preprocess", "out", out);
  if (out.size[0] != in.size[0] || out.size[3] != in.size[3])
    fail("ERR_SHAPE", "preprocess: expected 'out' with the batch and channels of 'image' %s, got %s", describe(in).c_str(),
         describe(out).c_str());
  for (const Tensor* t : {&in, &out})
    for (int i = 1; i < 3; ++i)
      if (t->size[i] < 1 || t->size[i] > kMaxSide)
        fail("ERR_SHAPE", "preprocess: expected sides of 1 to %lld pixels, got %s", static_cast<long long>(kMaxSide), describe(*t).c_str());
  struct Axis {
    const char *size_field, *from_field;
    int64_t size, from, count;
  };
  for (const Axis& axis : {Axis{"height", "top", a.height, a.top, out.size[1]}, Axis{"width", "left", a.width, a.left, out.size[2]}}) {
    if (axis.size < 1 || axis.size > kMaxSide)
      fail("ERR_ARGS", "preprocess: expected '%s' in 1 to %lld, got %lld", axis.size_field, static_cast<long long>(kMaxSide),
           static_cast<long long>(axis.size));
    if (axis.from < 0 || axis.from > axis.size - axis.count)
      fail("ERR_ARGS", "preprocess: expected %lld pixels from '%s' %lld on inside '%s' %lld", static_cast<long long>(axis.count),
           axis.from_field, static_cast<long long>(axis.from), axis.size_field, static_cast<long long>(axis.size));
  }
}

int64_t workspace(const PreprocessArgs& a, int) {
  const auto filter = static_cast<ResizeFilter>(a.filter);
  const int64_t taps_x = aligned(taps_bytes(taps_across(a), filter)), taps_y = aligned(taps_bytes(taps_down(a), filter));
  // the map between the passes: [B,H,w,C] bytes
  return taps_x + taps_y + a.image.size[0] * a.image.size[1] * a.out.size[2] * a.image.size[3];
}

double flops(const PreprocessArgs& a) {
  const double taps_x = taps_per_output(a.image.size[2], a.width, static_cast<ResizeFilter>(a.filter));
  const double taps_y = taps_per_output(a.image.size[1], a.height, static_cast<ResizeFilter>(a.filter));
  const double between = static_cast<double>(a.image.size[0] * a.image.size[1] * a.out.size[2] * a.image.size[3]);
  return 2 * (between * taps_x + static_cast<double>(a.out.numel()) * taps_y);
}

double bytes(const PreprocessArgs& a) { return static_cast<double>(a.image.numel() + a.out.numel()); }

}  // namespace theia
