// What the register kernel of the product reaches with everything in L1, measured like the peak of multiply-adds in registers
// (core/peak.h): what the design leaves to misses, tails and epilogues. Loads beside multiply-adds cost clock on some machines.
#pragma once
#include <cstdint>

#include "kernels/core/cpu.h"

namespace theia {

/// GFLOP/s of float32 of a whole register tile on `threads` threads with one instruction set, A and B in L1 and the tile written there:
/// no miss, no tail, no epilogue. 20 ms. The plain instruction set has no tile: its multiply-adds in registers.
double measure_tile_peak(Isa isa, int threads);

inline constexpr int64_t kTileDepth = 192;  // 24 KB of B and 6 KB of A: less than any L1

/// `rounds` times a tile of tile_rows() x 32 over a [rows][kTileDepth] and b [kTileDepth][32], to out [rows][32].
namespace avx2 {
int tile_rows();
void tile_burst(int64_t rounds, const float* a, const float* b, float* out);
}  // namespace avx2
namespace avx512 {
int tile_rows();
void tile_burst(int64_t rounds, const float* a, const float* b, float* out);
}  // namespace avx512

}  // namespace theia
