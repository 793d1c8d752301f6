// How both directions of LayerNorm cut their rows: shapes of blocks, and the choice between the variants of a kernel.
#pragma once
#include <type_traits>

#include "kernels/cuda/runtime.h"

namespace theia::THEIA_DEVICE {

/// A warp's rows: pieces of 128 columns, at most 10 of them (1280, ViT-H), four warps to a block.
inline constexpr int kRowPiece = 4 * kWarp, kRowSteps = 10;
inline constexpr int kRowWarps = 4, kRowThreads = kRowWarps * kWarp;
/// A block's rows: wider ones.
inline constexpr int kLongThreads = 256;

/// Calls f(steps, wide), both compile-time constants, with the smallest number of pieces that `width` fits into: those of the widths that
/// models have (192 and 256, 384, 768, 1024, 1280). Rows that cannot be read four elements at once have the last of them only.
template <class F>
void with_steps(int64_t width, bool wide, F f) {
  if (!wide)
    f(std::integral_constant<int, kRowSteps>{}, std::false_type{});
  else if (width <= 2 * kRowPiece)
    f(std::integral_constant<int, 2>{}, std::true_type{});
  else if (width <= 3 * kRowPiece)
    f(std::integral_constant<int, 3>{}, std::true_type{});
  else if (width <= 6 * kRowPiece)
    f(std::integral_constant<int, 6>{}, std::true_type{});
  else if (width <= 8 * kRowPiece)
    f(std::integral_constant<int, 8>{}, std::true_type{});
  else
    f(std::integral_constant<int, kRowSteps>{}, std::true_type{});
}

}  // namespace theia::THEIA_DEVICE
