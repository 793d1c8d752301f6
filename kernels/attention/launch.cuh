// How attention's work is cut on a device: host functions of shapes and DeviceInfo alone.
#pragma once
#include <algorithm>

#include "kernels/attention/attention.h"
#include "kernels/attention/tile.cuh"

namespace theia::THEIA_DEVICE::heads {

inline constexpr int64_t kWhole = 272;  // keys that a warp's 16 rows of scores still fit in registers for: 16 x 272 / 32 = 136 a lane

/// Blocks that a head is split into. Each reads the whole other side of its head, so only where there are fewer heads than multiprocessors,
/// and not below 4 tiles of 16 rows.
inline int64_t parts_of(int64_t heads, int64_t tiles, const DeviceInfo& info) {
  return std::min(ceil_div(info.multiprocessors, heads), ceil_div(tiles, 4));
}

/// As few warps as do so many pieces of work in the same number of rounds as `most` would.
inline int64_t balanced(int64_t pieces, int64_t most) { return ceil_div(pieces, ceil_div(pieces, most)); }

/// The instantiated width that holds hd channels.
inline int padded(int64_t hd) { return hd <= 32 ? 32 : hd <= 64 ? 64 : hd <= 80 ? 80 : 128; }

/// Calls start(grid, first batch entry, first head) for grids of (x, heads, batch entries), as many as the limits of a grid make needed.
template <class Start>
void each_grid(int64_t x, int64_t heads, int64_t batch, Start start) {
  for (int64_t b = 0; b < batch; b += kMaxGridYZ)
    for (int64_t h = 0; h < heads; h += kMaxGridYZ)
      start(dim3(static_cast<unsigned>(x), static_cast<unsigned>(std::min(heads - h, kMaxGridYZ)),
                 static_cast<unsigned>(std::min(batch - b, kMaxGridYZ))),
            static_cast<int>(b), static_cast<int>(h));
}

// The float32 path (attention_exact.cu).
void exact(const AttentionArgs& a, const DeviceContext& context);
void exact(const AttentionGradArgs& a, const DeviceContext& context);
int64_t exact_workspace(const AttentionGradArgs& a);
// More than kWhole keys (attention_tiled.cu).
void tiled(const AttentionArgs& a, const DeviceContext& context);
// Gradients where a head's four operands do not fit in shared memory (attention_grad_tiled.cu), and their bytes of workspace.
void tiled(const AttentionGradArgs& a, const DeviceContext& context);
int64_t tiled_workspace(const AttentionGradArgs& a);

}  // namespace theia::THEIA_DEVICE::heads
