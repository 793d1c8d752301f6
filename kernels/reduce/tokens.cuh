// How both directions of reduce cut their tokens.
#pragma once
#include "kernels/cuda/runtime.h"

namespace theia::THEIA_DEVICE {

inline constexpr int kReduceWarps = 8, kReduceThreads = kReduceWarps * kWarp;
inline constexpr int kReducePiece = 4 * kWarp;  // columns of a block

}  // namespace theia::THEIA_DEVICE
