// How both directions of layernorm_map cut their maps, and what passes between their kernels.
#pragma once
#include "kernels/cuda/four.cuh"
#include "kernels/layernorm_map/layernorm_map.h"

namespace theia::THEIA_DEVICE {

/// Blocks of 256 threads; a block takes slices of 1024 elements, four a thread, of several samples after each other.
inline constexpr int kMapThreads = 256, kMapWarps = kMapThreads / kWarp;
inline constexpr int64_t kMapSlice = 4 * kMapThreads;
/// Samples that a block fetches before it works on them, and samples that share one trip of gamma and beta in the last pass.
inline constexpr int kMapTogether = 4, kMapGroup = 8;

/// Statistics of any part of a sample: how many elements, their mean, Σ(x - mean)². The mean comes in two parts that are added in double:
/// far from zero a float32 is not enough for the differences between parts. The producer of x may make them in its epilogue, from tiles of
/// any shape, as long as each element is in one of them.
struct MapMoments {
  float count, mean, rest, squares;
};

/// Second half of forward: from `parts` statistics of each sample, [samples][parts] in device memory, combined in their order, to mean,
/// rstd and y. `totals` is scratch of 8 bytes a sample. layernorm_map itself calls it behind its own first pass over x; with a producer's
/// statistics that pass, a third of the traffic, falls away.
void layernorm_map_finish(const LayernormMapArgs& a, const MapMoments* moments, int64_t parts, float2* totals,
                          const DeviceContext& context);

}  // namespace theia::THEIA_DEVICE
