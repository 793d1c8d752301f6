// Which part of the product a block computes, and what a kernel gets.
#pragma once
#include "kernels/gemm/device/epilogue.cuh"
#include "kernels/gemm/device/tile.cuh"

namespace theia::THEIA_DEVICE {

inline constexpr int kBand = 8;

template <class A, class B>
struct GemmParams {
  A a;
  B b;
  Epilogue epilogue;
  TileGrid grid;
};

struct Block {
  int64_t m, n, k_begin, k_end;
  int split;
};

template <class Tile>
__device__ __forceinline__ Block block_of(const TileGrid& g) {
  const int64_t at = blockIdx.x;
  const int64_t band_tiles = static_cast<int64_t>(kBand) * g.tiles_n;
  const int band = static_cast<int>(at / band_tiles);
  const int inside = static_cast<int>(at - band * band_tiles);
  const int down = g.tiles_m - band * kBand < kBand ? g.tiles_m - band * kBand : kBand;
  const int right = inside / down;
  const int split = static_cast<int>(blockIdx.y);
  const int64_t begin = split * g.k_part;
  return {static_cast<int64_t>(band * kBand + inside - right * down) * Tile::kM, static_cast<int64_t>(right) * Tile::kN, begin,
          begin + g.k_part < g.k ? begin + g.k_part : g.k, split};
}

}  // namespace theia::THEIA_DEVICE
