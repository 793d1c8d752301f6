#include "kernels/preprocess/taps.h"

#include <algorithm>
#include <cmath>

namespace theia {

namespace {

double radius(ResizeFilter filter) { return filter == ResizeFilter::bilinear ? 1.0 : 2.0; }

/// Pillow's bicubic has a = -0.5 (PyTorch's has -0.75).
double kernel(ResizeFilter filter, double t) {
  t = std::fabs(t);
  if (filter == ResizeFilter::bilinear) return t < 1 ? 1 - t : 0;
  if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
  if (t < 2) return (((t - 5) * t + 8) * t - 4) * -0.5;
  return 0;
}

}  // namespace

int64_t taps_per_output(int64_t in, int64_t out, ResizeFilter filter) {
  const double stretch = std::max(static_cast<double>(in) / static_cast<double>(out), 1.0);
  return static_cast<int64_t>(std::ceil(radius(filter) * stretch)) * 2 + 1;
}

int64_t taps_bytes(const TapsAxis& axis, ResizeFilter filter) { return axis.count * (taps_per_output(axis.in, axis.out, filter) + 2) * 4; }

TapsView make_taps(int32_t* memory, const TapsAxis& axis, ResizeFilter filter) {
  const TapsView view{memory, taps_per_output(axis.in, axis.out, filter) + 2};
  const double scale = static_cast<double>(axis.in) / static_cast<double>(axis.out), stretch = std::max(scale, 1.0);
  const double support = radius(filter) * stretch, inverse = 1.0 / stretch;
  for (int64_t o = 0; o < axis.count; ++o) {
    const double centre = (static_cast<double>(axis.from + o) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(centre - support + 0.5), 0);
    const int64_t last = std::min<int64_t>(static_cast<int64_t>(centre + support + 0.5), axis.in);
    double sum = 0;
    for (int64_t i = first; i < last; ++i) sum += kernel(filter, (static_cast<double>(i) - centre + 0.5) * inverse);
    int32_t* row = memory + o * view.stride;
    row[0] = static_cast<int32_t>(first);
    row[1] = static_cast<int32_t>(last - first);
    for (int64_t i = first; i < last; ++i) {
      double w = kernel(filter, (static_cast<double>(i) - centre + 0.5) * inverse);
      if (sum != 0) w /= sum;
      const double fixed = w * (1 << kPrecision);
      row[2 + i - first] = static_cast<int32_t>(w < 0 ? fixed - 0.5 : fixed + 0.5);
    }
  }
  return view;
}

}  // namespace theia
