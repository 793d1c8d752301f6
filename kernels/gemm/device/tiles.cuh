// The tiles that exist. choose.cu knows them by number.
#pragma once
#include "kernels/gemm/device/tile.cuh"

namespace theia::THEIA_DEVICE {

using Tile0 = Tile<128, 256, 32, 64, 64, 4, 1>;
using Tile1 = Tile<128, 128, 32, 64, 64, 4, 2>;
using Tile2 = Tile<128, 64, 64, 64, 32, 3, 2>;
using Tile3 = Tile<64, 64, 64, 32, 32, 3, 3>;
using Tile4 = Tile<64, 32, 64, 16, 32, 3, 4>;
// Exact float32: 8 x 8 sums a thread. The "warp" sizes only make up the number of threads.
using Tile5 = Tile<64, 64, 16, 32, 64, 3, 4>;
// By wgmma (wgmma_core.cuh): two warpgroups of 64 rows each, and the producer's.
using Tile6 = WgmmaTile<128, 128, 64, 4>;
using Tile7 = WgmmaTile<128, 256, 64, 4>;

}  // namespace theia::THEIA_DEVICE
