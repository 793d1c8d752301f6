// Shapes of the tiles that a block computes, and where the elements of an operand's tile lie in shared memory.
#pragma once
#include "kernels/cuda/runtime.h"

namespace theia::THEIA_DEVICE {

/// A block computes m x n of C in steps of k, its warps wm x wn each; `stages` steps are in flight. `blocks` a multiprocessor is what the
/// registers are cut for.
template <int m_, int n_, int k_, int wm_, int wn_, int stages_, int blocks_>
struct Tile {
  static constexpr int kM = m_, kN = n_, kK = k_, kWarpM = wm_, kWarpN = wn_, kStages = stages_, kBlocks = blocks_;
  static constexpr int kThreads = m_ / wm_ * (n_ / wn_) * kWarp;
};

/// By wgmma: each warpgroup takes 64 of m, one more brings the operands.
template <int m_, int n_, int k_, int stages_>
struct WgmmaTile {
  static constexpr int kM = m_, kN = n_, kK = k_, kStages = stages_, kBlocks = 1, kThreads = (m_ / 64 + 1) * 128;
};

/// Shared memory is read and written in chunks of 16 bytes. A line of a tile has kChunks of them; which of them lies where depends on the
/// line, so that the same chunk of 8 neighbouring lines (what ldmatrix reads at once) covers all 32 banks.
inline constexpr int kChunkBytes = 16;
template <int kChunks>
__device__ __forceinline__ int chunk_at(int line, int chunk) {
  static_assert(kChunks == 4 || kChunks % 8 == 0);
  if constexpr (kChunks == 4)
    return line * 4 + (chunk ^ (line >> 1 & 3));
  else
    return line * kChunks + (chunk ^ (line & 7));
}

/// The tile of one operand in shared memory: lines of columns as in global memory, and which of its chunks a thread brings in: always the
/// same chunk of a line, in kPasses lines kPassLines apart.
template <class T_, int kOuter_, int kDepth_, bool kAlongK_, int kThreads_>
struct Slab {
  using T = T_;
  static constexpr bool kAlongK = kAlongK_;
  static constexpr int kOuter = kOuter_, kDepth = kDepth_, kThreads = kThreads_;
  static constexpr int kLines = kAlongK ? kOuter : kDepth, kColumns = kAlongK ? kDepth : kOuter;
  static constexpr int kChunkElements = kChunkBytes / static_cast<int>(sizeof(T));
  static constexpr int kChunks = kColumns / kChunkElements;
  static constexpr int kPassLines = kThreads / kChunks, kPasses = kLines / kPassLines;
  static constexpr int kBytes = kLines * kChunks * kChunkBytes;
  static_assert(kThreads % kChunks == 0 && kLines % kPassLines == 0);
};

/// What of an operand a block multiplies: lines or columns from `outer` on (of outer_end), k from k_begin to k_end.
struct Part {
  int64_t outer, outer_end, k_begin, k_end;
};

}  // namespace theia::THEIA_DEVICE
