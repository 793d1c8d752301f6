// The weights of one axis of a Pillow resize, in its 22-bit fixed point (Pillow, Resample.c: precompute_coeffs, normalize_coeffs_8bpc).
#pragma once
#include <cstdint>

#include "kernels/preprocess/preprocess.h"

namespace theia {

inline constexpr int kPrecision = 22;  // Pillow: 32 - 8 - 2 bits

/// Where an output position reads, and with which weights: first, count, then `taps_per_output` weights.
struct TapsView {
  int32_t* data;
  int64_t stride;  // int32 per output position
  int32_t first(int64_t o) const { return data[o * stride]; }
  int32_t count(int64_t o) const { return data[o * stride + 1]; }
  const int32_t* weights(int64_t o) const { return data + o * stride + 2; }
};

/// The most source pixels that one output position can read.
int64_t taps_per_output(int64_t in, int64_t out, ResizeFilter filter);
/// One axis: `in` pixels resized to `out`, of which `count` from `from` on are wanted.
struct TapsAxis {
  int64_t in, out, from, count;
};
/// Bytes of the table of one axis.
int64_t taps_bytes(const TapsAxis& axis, ResizeFilter filter);
/// Fills the table; its position 0 is `from`.
TapsView make_taps(int32_t* memory, const TapsAxis& axis, ResizeFilter filter);

inline TapsAxis taps_across(const PreprocessArgs& a) { return {a.image.size[2], a.width, a.left, a.out.size[2]}; }
inline TapsAxis taps_down(const PreprocessArgs& a) { return {a.image.size[1], a.height, a.top, a.out.size[1]}; }
/// Nothing to do along this axis: neither resized nor cut.
inline bool unchanged(const TapsAxis& axis) { return axis.in == axis.out && axis.out == axis.count; }

}  // namespace theia
