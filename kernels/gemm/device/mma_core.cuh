// The product on tensor cores: bf16 operands, float32 sums, mma.sync m16n8k16.
//
// A block brings kStages - 1 steps of k ahead by its loaders and multiplies one; each warp holds its part of the sums in registers and the
// fragments of the next 16 of k while it multiplies the present ones. Sums leave through shared memory, 16 rows of a warp at a time, so
// that the epilogue reads and writes whole lines.
#pragma once
#include "kernels/gemm/device/blocks.cuh"
#include "kernels/gemm/device/epilogue.cuh"
#include "kernels/ptx/cp_async.h"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/mma.h"

namespace theia::THEIA_DEVICE {

/// Fragments of A, 16 x 16 at (row, k) of the tile: lane's chunk of ldmatrix x4.
template <class Slab>
__device__ __forceinline__ void load_a(uint32_t (&r)[4], const std::byte* slab, int row, int k) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, i = lane % 8, second = lane / 8 % 2 * 8, third = lane / 16 * 8;
  if constexpr (Slab::kAlongK) {
    ptx::ldmatrix_x4(r, slab + chunk_at<Slab::kChunks>(row + i + second, (k + third) / 8) * kChunkBytes);
  } else {
    ptx::ldmatrix_x4_trans(r, slab + chunk_at<Slab::kChunks>(k + i + third, (row + second) / 8) * kChunkBytes);
  }
}
/// Fragments of B, 16 of k by two times 8 columns.
template <class Slab>
__device__ __forceinline__ void load_b(uint32_t (&r)[4], const std::byte* slab, int column, int k) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, i = lane % 8, second = lane / 8 % 2 * 8, third = lane / 16 * 8;
  if constexpr (Slab::kAlongK) {
    ptx::ldmatrix_x4(r, slab + chunk_at<Slab::kChunks>(column + i + third, (k + second) / 8) * kChunkBytes);
  } else {
    ptx::ldmatrix_x4_trans(r, slab + chunk_at<Slab::kChunks>(k + i + second, (column + third) / 8) * kChunkBytes);
  }
}

template <class Tile, class A, class B>
struct MmaLayout {
  static constexpr int kStage = A::Slab::kBytes + B::Slab::kBytes;
  static constexpr int kPitch = Tile::kWarpN + 8;  // floats of a row on its way out: rows 8 banks apart
  static constexpr int kOut = Tile::kThreads / kWarp * 16 * kPitch * static_cast<int>(sizeof(float));
  static constexpr int kWarpKept = 16 * Tile::kWarpN * static_cast<int>(sizeof(float));  // 16 bytes for each four of a residual
  static constexpr int kTables = Tile::kStages * kStage;
  static_assert(kOut + Tile::kThreads / kWarp * kWarpKept <= kTables);
  static constexpr int kShared = kTables + A::kTableBytes + B::kTableBytes;
};

template <class Tile, class A, class B>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    mma_gemm(const __grid_constant__ GemmParams<typename A::Args, typename B::Args> p) {
  using Layout = MmaLayout<Tile, A, B>;
  constexpr int kRows = Tile::kWarpM / 16, kColumns = Tile::kWarpN / 16, kSteps = Tile::kK / 16;
  THEIA_DYNAMIC_SHARED(smem);
  const Block block = block_of<Tile>(p.grid);
  A a(p.a, {block.m, p.epilogue.m, block.k_begin, block.k_end}, smem + Layout::kTables);
  B b(p.b, {block.n, p.epilogue.n, block.k_begin, block.k_end}, smem + Layout::kTables + A::kTableBytes);
  if constexpr (A::kTableBytes + B::kTableBytes > 0) __syncthreads();

  const int steps = static_cast<int>((block.k_end - block.k_begin + Tile::kK - 1) / Tile::kK);
  const auto a_slab = [&](int stage) { return smem + stage * Layout::kStage; };
  const auto b_slab = [&](int stage) { return smem + stage * Layout::kStage + A::Slab::kBytes; };
#pragma unroll 1
  for (int stage = 0; stage < Tile::kStages - 1; ++stage) {
    if (stage < steps) {
      a.fetch(a_slab(stage)), b.fetch(b_slab(stage));
      a.land(a_slab(stage)), b.land(b_slab(stage));
    }
    ptx::cp_async_commit();
  }

  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp_m = warp / (Tile::kN / Tile::kWarpN) * Tile::kWarpM, warp_n = warp % (Tile::kN / Tile::kWarpN) * Tile::kWarpN;
  float sums[kRows][2 * kColumns][4];
#pragma unroll
  for (int i = 0; i < kRows; ++i)
#pragma unroll
    for (int j = 0; j < 2 * kColumns; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i][j][e] = 0.0f;

  int now = 0, next = Tile::kStages - 1;  // stages
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait<Tile::kStages - 2>();
    __syncthreads();  // everyone's copies of this step have landed, and everyone is done with the step before
    const bool more = step + Tile::kStages - 1 < steps;
    if (more) a.fetch(a_slab(next)), b.fetch(b_slab(next));
    ptx::cp_async_commit();

    const std::byte *as = a_slab(now), *bs = b_slab(now);
    uint32_t fa[2][kRows][4], fb[2][kColumns][4];
    const auto load = [&](int s) {
#pragma unroll
      for (int i = 0; i < kRows; ++i) load_a<typename A::Slab>(fa[s % 2][i], as, warp_m + 16 * i, 16 * s);
#pragma unroll
      for (int j = 0; j < kColumns; ++j) load_b<typename B::Slab>(fb[s % 2][j], bs, warp_n + 16 * j, 16 * s);
    };
    load(0);
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      if (s + 1 < kSteps) load(s + 1);
#pragma unroll
      for (int i = 0; i < kRows; ++i)
#pragma unroll
        for (int j = 0; j < 2 * kColumns; ++j) {
          const uint32_t pair[2] = {fb[s % 2][j / 2][j % 2 * 2], fb[s % 2][j / 2][j % 2 * 2 + 1]};
          ptx::mma_m16n8k16<bf16>(sums[i][j], fa[s % 2][i], pair);
        }
    }
    if (more) a.land(a_slab(next)), b.land(b_slab(next));
    now = now + 1 == Tile::kStages ? 0 : now + 1;
    next = next + 1 == Tile::kStages ? 0 : next + 1;
  }
  ptx::cp_async_wait<0>();
  __syncthreads();

  // A residual comes in 16 rows at a time, into what the stages leave: read where it is needed, a lane would wait for memory once for every
  // four columns. A lane keeps what it will read itself.
  const Epilogue& e = p.epilogue;
  const bool ahead = e.residual.data && e.vector && !e.partial;
  std::byte* const kept = smem + Layout::kOut + warp * Layout::kWarpKept;
  const auto bring = [&](int i) {
    const int bytes = e.residual.dtype == DType::f32 ? 4 : 2;
#pragma unroll 4
    for (int at = lane; at < 16 * Tile::kWarpN / 4; at += kWarp) {
      const int64_t row = block.m + warp_m + 16 * i + at / (Tile::kWarpN / 4);
      const int64_t column = block.n + warp_n + at % (Tile::kWarpN / 4) * 4;
      if (row >= e.m || column + 4 > e.n) continue;
      const std::byte* from = static_cast<const std::byte*>(e.residual.data) + (line_offset(e.residual.rows, row) + column) * bytes;
      if (bytes == 4)
        ptx::cp_async_16(kept + 16 * at, from);
      else
        ptx::cp_async_8(kept + 16 * at, from);
    }
    ptx::cp_async_commit();
  };

  float* const out = reinterpret_cast<float*>(smem) + warp * 16 * Layout::kPitch;
#pragma unroll 1
  for (int i = 0; i < kRows; ++i) {  // a loop: the epilogue is most of the code
    if (ahead) bring(i);
#pragma unroll
    for (int same = 0; same < kRows; ++same) {
      if (same != i) continue;  // sums are registers: their index must be known when compiling
#pragma unroll
      for (int j = 0; j < 2 * kColumns; ++j) {
        float* const to = out + lane / 4 * Layout::kPitch + 8 * j + lane % 4 * 2;
        *reinterpret_cast<float2*>(to) = make_float2(sums[same][j][0], sums[same][j][1]);
        *reinterpret_cast<float2*>(to + 8 * Layout::kPitch) = make_float2(sums[same][j][2], sums[same][j][3]);
      }
    }
    ptx::cp_async_wait<0>();
    __syncwarp();
#pragma unroll 1
    for (int at = lane; at < 16 * Tile::kWarpN / 4; at += kWarp) {
      const int r = at / (Tile::kWarpN / 4), column = at % (Tile::kWarpN / 4) * 4;
      const int64_t row = block.m + warp_m + 16 * i + r;
      const float4 f = *reinterpret_cast<const float4*>(out + r * Layout::kPitch + column);
      float v[4] = {f.x, f.y, f.z, f.w};
      if (row < e.m) finish4(e, row, block.n + warp_n + column, block.split, v, ahead, kept + 16 * at);
    }
    __syncwarp();
  }
}

}  // namespace theia::THEIA_DEVICE
