#include "kernels/gemm/device/choose.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/gemm/device/lines.cuh"
#include "kernels/gemm/device/load_bytes.cuh"
#include "kernels/gemm/device/tiles.cuh"

namespace theia::THEIA_DEVICE {

namespace {

// What a multiprocessor reads of L2 in a clock, all of them reading (5.5 to 7 TB/s over 132 at 1.7 GHz).
constexpr double kReadBytes = 30;
// What all of them together write and read of partial sums in a clock.
constexpr double kStreamBytes = 2000;
// Clocks of a second kernel; of filling the pipeline of a block; of a step's barrier and waiting where no other block fills the gap.
constexpr double kLaunch = 3500, kFill = 1200, kStep = 200;
// Elements of C that leave a multiprocessor in a clock.
constexpr double kOut = 16;

template <class Tile>
constexpr TileInfo info_of(bool tensor_cores, double flops_clock) {
  return {Tile::kM, Tile::kN, Tile::kK, Tile::kStages, Tile::kThreads, Tile::kBlocks, tensor_cores, flops_clock};
}

// mma.sync reaches about 63 % of the 2,048 multiply-adds a clock that Hopper's tensor cores do; smaller warp tiles read more of shared
// memory for each (64 x 64: 128 bytes a clock feed 1,024, 64 x 32: 680, 32 x 32: 512, 16 x 32: 340), counted with what the caches add.
constexpr TileInfo kTileInfos[kTiles] = {info_of<Tile0>(true, 1150), info_of<Tile1>(true, 1100), info_of<Tile2>(true, 850),
                                         info_of<Tile3>(true, 620),  info_of<Tile4>(true, 400),  info_of<Tile5>(false, 75),
                                         info_of<Tile6>(true, 1700), info_of<Tile7>(true, 1900)};

/// Products that run faster by wgmma, as measured on a GPU (README.md). None has been measured yet.
struct Shape {
  int64_t m, n, k;
};
constexpr std::array<Shape, 0> kWgmmaShapes{};

/// There is code for wgmma, and the device runs it: code for sm_90a runs on 9.0 alone.
bool has_wgmma(const DeviceInfo& info) {
#if defined(__CUDACC__) && defined(THEIA_CUDA_ARCHS)
  if (!std::strstr(THEIA_CUDA_ARCHS, "90a")) return false;
#endif
  return info.major == 9 && info.minor == 0;
}

constexpr int kSplits[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};

/// The tile that the environment leaves, or -1.
int only_tile() {
  const char* text = std::getenv("THEIA_GEMM_TILE");
  return text && *text ? std::atoi(text) : -1;
}

constexpr int element_bytes(const TileInfo& t) { return t.tensor_cores ? 2 : 4; }

}  // namespace

const TileInfo& tile_info(int tile) { return kTileInfos[tile]; }

int64_t tile_shared(int tile, Family family) {
  const TileInfo& t = kTileInfos[tile];
  const int64_t stages = static_cast<int64_t>(t.stages) * (t.m + t.n) * t.k * element_bytes(t);
  if (tile >= kWgmmaTiles) return stages + 2 * t.stages * 8;  // and two mbarriers each
  const int64_t lines = family == Family::plain ? 0 : (t.m + t.n) * static_cast<int64_t>(sizeof(Line));
  return stages + lines + (family == Family::bytes ? kMostByteChannels * 256 * 2 : 0);
}

bool tile_exists(int tile, Family family, Order order) {
  if (!kTileInfos[tile].tensor_cores) return family == Family::any;
  if (tile >= kWgmmaTiles) return family == Family::plain || (family == Family::mapped && order != Order::tn);
  switch (family) {
    case Family::plain:
      return order != Order::tn || tile <= 3;
    case Family::mapped:
      return order == Order::tn ? tile >= 1 && tile <= 3 : tile <= 3;
    case Family::bytes:
      return order == Order::nt ? tile == 0 || tile == 2 || tile == 3 : order == Order::tn && (tile == 1 || tile == 3);
    case Family::any:
      return tile == 3;
  }
  return false;
}

TileChoice choose_tile(int64_t m, int64_t n, int64_t k, bool tensor_cores, Family family, Order order, const DeviceInfo& info,
                       int64_t most_partial_bytes, bool boxed) {
  TileChoice best{};
  best.tile = -1;
  int only = only_tile();
  if (only < 0 || only >= kTiles || kTileInfos[only].tensor_cores != tensor_cores || !tile_exists(only, family, order)) only = -1;
  const bool wgmma = boxed && k > 0 && has_wgmma(info);
  if (only >= kWgmmaTiles && !wgmma) only = -1;
  const auto measured = [&](const Shape& s) { return s.m == m && s.n == n && s.k == k; };
  const bool faster = wgmma && std::any_of(kWgmmaShapes.begin(), kWgmmaShapes.end(), measured);
  for (int tile = 0; tile < kTiles; ++tile) {
    const TileInfo& t = kTileInfos[tile];
    const int64_t shared = tile_shared(tile, family);
    if ((only >= 0 && tile != only) || t.tensor_cores != tensor_cores || !tile_exists(tile, family, order) ||
        shared > info.shared_per_block)
      continue;
    if (tile >= kWgmmaTiles && tile != only && !faster) continue;
    const int64_t tiles_m = ceil_div(m, t.m), tiles_n = ceil_div(n, t.n), steps = ceil_div(k, t.k);
    if (tiles_m > kMaxGridX / tiles_n) continue;
    // 1 KB of a block's shared memory is the system's.
    const int64_t resident = std::max<int64_t>(1, std::min<int64_t>(info.shared_per_multiprocessor / (shared + 1024), t.blocks));
    const double products = static_cast<double>(t.m) * t.n * t.k / t.flops_clock;
    const double step = std::max(products, (t.m + t.n) * t.k * element_bytes(t) / kReadBytes);
    int64_t last = 0;
    for (const int wanted : kSplits) {
      const int64_t part = ceil_div(steps, wanted), splits = part == 0 ? 1 : ceil_div(steps, part);
      if (splits == last) continue;
      last = splits;
      // A part of fewer than four steps hardly fills the pipeline.
      if (splits > 1 && (part < 4 || splits * m * n * 4 > most_partial_bytes)) break;
      const int64_t each = ceil_div(tiles_m * tiles_n * splits, info.multiprocessors);  // blocks a multiprocessor computes
      const double ends = kFill + t.m * t.n / kOut;
      const double busy = each * part * step + ends;
      const double waiting = ceil_div(each, resident) * (part * (kStep + products * std::min<int64_t>(each, resident)) + ends);
      double clocks = std::max(busy, waiting);
      if (splits > 1) clocks += kLaunch + 2.0 * splits * m * n * 4 / kStreamBytes;
      if (best.tile < 0 || clocks < best.clocks)
        best = {tile, static_cast<int>(splits), std::max<int64_t>(part, 1) * t.k, tiles_m, tiles_n, clocks};
    }
  }
  return best;
}

double choice_for(const char* text, const DeviceInfo& info) {
  long long m = 0, n = 0, k = 0;
  char type[16] = "", family[16] = "", order[16] = "";
  constexpr const char* kFamilies[] = {"plain", "mapped", "bytes", "any"};
  constexpr const char* kOrders[] = {"nt", "nn", "tn"};
  const int read = std::sscanf(text, "%lld %lld %lld %15s %15s %15s", &m, &n, &k, type, family, order);
  int f = 0, o = 0;
  while (f < 4 && std::strcmp(family, kFamilies[f]) != 0) ++f;
  while (o < 3 && std::strcmp(order, kOrders[o]) != 0) ++o;
  if (read != 6 || m < 1 || n < 1 || k < 0 || f == 4 || o == 3)
    fail("ERR_ARGS", "gemm: expected 'm n k type family order', got '%.80s'", text);
  const TileChoice c = choose_tile(m, n, k, std::strcmp(type, "bfloat16") == 0, static_cast<Family>(f), static_cast<Order>(o), info);
  return c.tile + 16.0 * c.splits;
}

}  // namespace theia::THEIA_DEVICE
