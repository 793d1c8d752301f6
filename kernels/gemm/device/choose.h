// Which tile a product is cut into, and into how many parts its k: by legality, then by an estimate of time. Host code without a GPU.
#pragma once
#include <cstdint>

#include "kernels/core/device.h"

namespace theia::THEIA_DEVICE {

/// How a product's operands are brought in: one family of kernels each.
enum class Family : int {
  plain,   // two matrices, 16-byte copies
  mapped,  // anything by 16-byte copies
  bytes,   // one operand is uint8
  any,     // everything else, and all of float32
};
enum class Order : int { nt, nn, tn };  // nt: both along k. nn: A along k. tn: neither

struct TileInfo {
  int m, n, k, stages, threads;
  int blocks;  // a multiprocessor's registers are cut for
  bool tensor_cores;
  double flops_clock;  // multiply-adds a clock of a multiprocessor full of such tiles
};
/// All tiles. Their numbers are those the kernels are started by.
inline constexpr int kTiles = 8;
/// From here on they are those of wgmma and the copy engine, for sm_90a alone.
inline constexpr int kWgmmaTiles = 6;
const TileInfo& tile_info(int tile);
/// Shared memory of a block with this tile, tables of lines and bytes included.
int64_t tile_shared(int tile, Family family);
/// A kernel was compiled for it.
bool tile_exists(int tile, Family family, Order order);

struct TileChoice {
  int tile;
  int splits;      // parts of k, summed up in order by a second kernel
  int64_t k_part;  // a multiple of the tile's k
  int64_t tiles_m, tiles_n;
  double clocks;  // the estimate
};
inline constexpr int64_t kMostPartialBytes = 256ll << 20;
/// `boxed`: the copy engine can bring the operands in (boxes.h). The tiles of wgmma are taken only then, and only for shapes that a table
/// names or where the environment asks for one.
/// THEIA_GEMM_TILE=<number> in the environment leaves that tile alone to products it exists for: for tests, and to time tiles on a GPU.
/// m, n >= 1. k is split only where the partial sums (splits·m·n floats) stay below `most_partial_bytes`. tile is -1 if none is legal.
TileChoice choose_tile(int64_t m, int64_t n, int64_t k, bool tensor_cores, Family family, Order order, const DeviceInfo& info,
                       int64_t most_partial_bytes = kMostPartialBytes, bool boxed = false);

/// For tests, which cannot run large products on the emulator: the choice for "m n k float32|bfloat16 plain|mapped|bytes|any nt|nn|tn" as
/// tile + 16·splits. ERR_ARGS.
double choice_for(const char* text, const DeviceInfo& info);

}  // namespace theia::THEIA_DEVICE
