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
/// Bytes of the table of one axis.
int64_t taps_bytes(int64_t in, int64_t out, ResizeFilter filter);
/// Fills the table.
TapsView make_taps(int32_t* memory, int64_t in, int64_t out, ResizeFilter filter);

}  // namespace theia
