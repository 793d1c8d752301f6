// How attention's work is cut on a device: host functions of shapes and DeviceInfo alone.
#pragma once
#include <algorithm>

#include "kernels/attention/attention.h"
#include "kernels/attention/tile.cuh"

namespace theia::THEIA_DEVICE::heads {

inline constexpr int64_t kWhole = 272;  // keys that a warp's 16 rows of scores still fit in registers for: 16 x 272 / 32 = 136 a lane

/// A head's tiles of 16 rows over blocks: `parts` blocks a head, each of `tiles` consecutive tiles, over `warps` warps.
struct Cut {
  int parts, tiles, warps;
};

/// Each block reads the whole other side of its head, so a head is split only where there are fewer heads than multiprocessors, and not
/// below 4 tiles. Warps: as few as do the block's tiles in the same number of rounds as `most_warps` would.
inline Cut cut(int64_t heads, int64_t tiles, int most_warps, const DeviceInfo& info) {
  const int64_t wanted = std::clamp<int64_t>(info.multiprocessors / std::max<int64_t>(heads, 1), 1, ceil_div(tiles, 4));
  const int64_t each = ceil_div(tiles, wanted), rounds = ceil_div(each, most_warps);
  return {static_cast<int>(ceil_div(tiles, each)), static_cast<int>(each), static_cast<int>(ceil_div(each, rounds))};
}

/// The instantiated width that holds hd channels.
inline int padded(int64_t hd) { return hd <= 32 ? 32 : hd <= 64 ? 64 : hd <= 80 ? 80 : 128; }

/// Calls start(grid, first batch entry, first head) for grids of (x, heads, batch entries), as many as the limits of a grid make needed.
template <class Start>
void each_grid(int64_t x, int64_t heads, int64_t batch, Start start) {
  for (int64_t b = 0; b < batch; b += kMaxGridYZ)
    for (int64_t h = 0; h < heads; h += kMaxGridYZ)
      start(dim3(static_cast<unsigned>(x), static_cast<unsigned>(std::min(heads - h, kMaxGridYZ)),
                 static_cast<unsigned>(std::min(batch - b, kMaxGridYZ))),
            b, h);
}

// The float32 path (attention_exact.cu).
void exact(const AttentionArgs& a, const DeviceContext& context);
void exact(const AttentionGradArgs& a, const DeviceContext& context);
// More than kWhole keys (attention_tiled.cu).
void tiled(const AttentionArgs& a, const DeviceContext& context);
// Gradients where a head's four operands do not fit in shared memory (attention_grad_tiled.cu).
void tiled(const AttentionGradArgs& a, const DeviceContext& context);

}  // namespace theia::THEIA_DEVICE::heads
