// A vector of channels at a time; the place of the maximum is kept beside it as a number of the tap. Included by the files per
// instruction set only.
#include "kernels/core/pool.h"
#include "kernels/core/simd.h"
#include "kernels/max_pool2d/max_pool2d.h"

namespace theia::THEIA_ISA {

/// The part of a window that lies inside the map.
struct Taps {
  int64_t y0, y1, x0, x1;
};
THEIA_INLINE Taps taps_of(const Tensor& map, int64_t top, int64_t left, int64_t kernel) {
  Taps t{top, top + kernel, left, left + kernel};
  if (t.y0 < 0) t.y0 = 0;
  if (t.x0 < 0) t.x0 = 0;
  if (t.y1 > map.size[1]) t.y1 = map.size[1];
  if (t.x1 > map.size[2]) t.x1 = map.size[2];
  return t;
}

THEIA_INLINE float* image_of(const Tensor& map, int64_t image) {
  return reinterpret_cast<float*>(map.base) + map.offset + image * map.stride[0];
}
THEIA_INLINE int lanes_from(int64_t c, int64_t channels) { return static_cast<int>(channels - c < kLanes ? channels - c : kLanes); }
/// First maximum wins; a NaN always does.
THEIA_INLINE vi beats(vf v, vf best) { return (v > best) | (v != v); }

void max_pool2d(const MaxPool2dArgs& a, const Context& context) {
  const int64_t height = a.y.size[1], channels = a.x.size[3], row = a.x.stride[1], column = a.x.stride[2];
  context.pool->run(a.y.size[0] * height, [&](int64_t chunk, int) {
    const int64_t image = chunk / height, y = chunk % height;
    const float* const in = image_of(a.x, image);
    float* const out = image_of(a.y, image) + y * a.y.stride[1];
    for (int64_t x = 0; x < a.y.size[2]; ++x) {
      const Taps t = taps_of(a.x, y * a.stride - a.padding, x * a.stride - a.padding, a.kernel);
      for (int64_t c = 0; c < channels; c += kLanes) {
        const int lanes = lanes_from(c, channels);
        vf best = load_n(in + t.y0 * row + t.x0 * column + c, lanes);
        for (int64_t ty = t.y0; ty < t.y1; ++ty)
          for (int64_t tx = t.x0; tx < t.x1; ++tx) {
            const vf v = load_n(in + ty * row + tx * column + c, lanes);
            best = beats(v, best) ? v : best;
          }
        store_n(out + x * a.y.stride[2] + c, best, lanes);
      }
    }
  });
}

/// A chunk is one vector of channels of one image: overlapping windows then add to dx in a fixed order and without locks.
void max_pool2d_grad(const MaxPool2dGradArgs& a, const Context& context) {
  const int64_t channels = a.x.size[3], vectors = (channels + kLanes - 1) / kLanes;
  const int64_t row = a.x.stride[1], column = a.x.stride[2];
  context.pool->run(a.x.size[0] * vectors, [&](int64_t chunk, int) {
    const int64_t image = chunk / vectors, c = chunk % vectors * kLanes;
    const int lanes = lanes_from(c, channels);
    const float* const in = image_of(a.x, image) + c;
    const float* const dy = image_of(a.dy, image) + c;
    float* const dx = image_of(a.dx, image) + c;
    for (int64_t y = 0; y < a.dx.size[1]; ++y)
      for (int64_t x = 0; x < a.dx.size[2]; ++x) store_n(dx + y * a.dx.stride[1] + x * a.dx.stride[2], vf{}, lanes);
    for (int64_t y = 0; y < a.dy.size[1]; ++y)
      for (int64_t x = 0; x < a.dy.size[2]; ++x) {
        const Taps t = taps_of(a.x, y * a.stride - a.padding, x * a.stride - a.padding, a.kernel);
        vf best = load_n(in + t.y0 * row + t.x0 * column, lanes);
        vi winner = {};
        int tap = 0;
        for (int64_t ty = t.y0; ty < t.y1; ++ty)
          for (int64_t tx = t.x0; tx < t.x1; ++tx, ++tap) {
            const vf v = load_n(in + ty * row + tx * column, lanes);
            const vi wins = beats(v, best);
            best = wins ? v : best;
            winner = wins ? (vi{} + tap) : winner;
          }
        const vf d = load_n(dy + y * a.dy.stride[1] + x * a.dy.stride[2], lanes);
        tap = 0;
        for (int64_t ty = t.y0; ty < t.y1; ++ty)
          for (int64_t tx = t.x0; tx < t.x1; ++tx, ++tap) {
            float* const o = dx + ty * a.dx.stride[1] + tx * a.dx.stride[2];
            store_n(o, load_n(o, lanes) + (winner == tap ? d : vf{}), lanes);
          }
      }
  });
}

}  // namespace theia::THEIA_ISA
