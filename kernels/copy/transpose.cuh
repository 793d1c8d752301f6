// Transpositions: tiles through shared memory, so that both sides are read and written in a row.
#pragma once
#include "kernels/copy/plan.cuh"

namespace theia::THEIA_DEVICE {

inline constexpr int kTileThreads = 256;
/// Below this many elements along either side tiles are mostly empty.
inline constexpr int64_t kTileWorth = 16;

namespace {

struct Transpose {
  const void* src;
  void* dst;
  Walk outer;       // what is outside the tiles
  int64_t src_row;  // step of src from column to column of dst; its rows lie next to each other
  int64_t dst_row;  // step of dst from row to row; its columns lie next to each other
  uint32_t rows, columns, down, tiles;
  Divider across, per_plane;  // tiles along a row; tiles of a plane
};

/// Tiles of kSide x kSide elements: 64 bytes in a row at least, 4 to 16 loads a thread under way.
template <class E, int kSide>
__global__ void __launch_bounds__(kTileThreads) transpose_tiles(const __grid_constant__ Transpose a) {
  // A word more in each line: the elements of a column lie in different banks.
  constexpr int kLine = kSide + (sizeof(E) < 4 ? 4 / static_cast<int>(sizeof(E)) : 1);
  THEIA_SHARED(E, tile, [kSide][kLine]);
  constexpr int kLines = kTileThreads / kSide, kSteps = kSide / kLines;  // lines that the block moves at once; times that it does
  const uint32_t along = threadIdx.x % kSide, line = threadIdx.x / kSide;
  for (uint32_t t = blockIdx.x; t < a.tiles; t += gridDim.x) {
    const uint32_t plane = a.per_plane(t), in_plane = t - plane * a.per_plane.divisor;
    const uint32_t tile_row = a.across(in_plane), tile_column = in_plane - tile_row * a.across.divisor;
    const uint32_t row = tile_row * kSide, column = tile_column * kSide;
    const Position p = position_of(a.outer, plane);
    const E* src = static_cast<const E*>(a.src) + p.src;
    E* dst = static_cast<E*>(a.dst) + p.dst;
    E taken[kSteps] = {};
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const uint32_t i = line + s * kLines;
      if (row + along < a.rows && column + i < a.columns) taken[s] = src[int64_t{column + i} * a.src_row + row + along];
    }
#pragma unroll
    for (int s = 0; s < kSteps; ++s) tile[line + s * kLines][along] = taken[s];
    __syncthreads();
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const uint32_t i = line + s * kLines;
      if (row + i < a.rows && column + along < a.columns) dst[int64_t{row + i} * a.dst_row + column + along] = tile[along][i];
    }
    __syncthreads();
  }
}

template <class E, int kSide>
void launch_tiles(Transpose t, int64_t planes, const DeviceContext& context) {
  const int64_t across = ceil_div(t.columns, kSide), per_plane = ceil_div(t.rows, kSide) * across;
  t.across = divider(across);
  t.per_plane = divider(per_plane);
  t.tiles = static_cast<uint32_t>(planes * per_plane);  // fewer than elements
  launch("copy", transpose_tiles<E, kSide>, dim3(t.tiles), dim3(kTileThreads), 0, context, t);
}

}  // namespace

/// Moves l as a transposition if it is one: packed columns in dst, another loop packed in src, both of some length. Else false.
inline bool transpose(const Loops& l, const std::byte* src, std::byte* dst, int bytes, const DeviceContext& context) {
  const Loop inner = l.loop[l.count - 1];
  if (inner.dst != 1 || inner.size < kTileWorth) return false;
  int row = -1;
  for (int i = 0; i + 1 < l.count; ++i)
    if (l.loop[i].src == 1 && l.loop[i].size >= kTileWorth) row = i;
  if (row < 0) return false;
  Loops outer = l;
  outer.count = 0;
  for (int i = 0; i + 1 < l.count; ++i)
    if (i != row) outer.loop[outer.count++] = l.loop[i];
  Transpose t{};
  t.src = src;
  t.dst = dst;
  t.outer = walk_of(outer, outer.count);
  t.src_row = inner.src;
  t.dst_row = l.loop[row].dst;
  t.rows = static_cast<uint32_t>(l.loop[row].size);
  t.columns = static_cast<uint32_t>(inner.size);
  const int64_t planes = outer.total();
  if (bytes == 1)
    launch_tiles<uint8_t, 64>(t, planes, context);
  else if (bytes == 2)
    launch_tiles<uint16_t, 64>(t, planes, context);
  else if (bytes == 4)
    launch_tiles<uint32_t, 32>(t, planes, context);
  else
    launch_tiles<unsigned long long, 32>(t, planes, context);
  return true;
}

}  // namespace theia::THEIA_DEVICE
