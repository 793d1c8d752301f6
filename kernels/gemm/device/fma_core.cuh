// The product in exact float32: each thread holds 8 x 8 sums and adds to them by fmaf, k in order. For checking, and for those who ask for
// float32: no tensor core sums float32 without losing bits. Loaders, stages and epilogue are those of mma_core.cuh.
#pragma once
#include "kernels/gemm/device/blocks.cuh"
#include "kernels/gemm/device/epilogue.cuh"
#include "kernels/ptx/cp_async.h"

namespace theia::THEIA_DEVICE {

/// Four neighbours in k of line `at` (m or n), at k of the tile.
template <class Slab>
__device__ __forceinline__ void load_k4(float (&v)[4], const std::byte* slab, int at, int k) {
  if constexpr (Slab::kAlongK) {
    const float4 f = *reinterpret_cast<const float4*>(slab + chunk_at<Slab::kChunks>(at, k / 4) * kChunkBytes);
    v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e)
      v[e] = *reinterpret_cast<const float*>(slab + chunk_at<Slab::kChunks>(k + e, at / 4) * kChunkBytes + at % 4 * 4);
  }
}

template <class Tile, class A, class B>
struct FmaLayout {
  static constexpr int kStage = A::Slab::kBytes + B::Slab::kBytes;
  static constexpr int kDown = Tile::kM / 8, kAcross = Tile::kN / 8;  // threads
  static constexpr int kPitch = Tile::kN + 4;                         // floats of a row on its way out
  static constexpr int kOut = kDown * kPitch * static_cast<int>(sizeof(float));
  static constexpr int kTables = Tile::kStages * kStage > kOut ? Tile::kStages* kStage : kOut;
  static constexpr int kShared = kTables + A::kTableBytes + B::kTableBytes;
  static_assert(kDown * kAcross == Tile::kThreads);
};

template <class Tile, class A, class B>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    fma_gemm(const __grid_constant__ GemmParams<typename A::Args, typename B::Args> p) {
  using Layout = FmaLayout<Tile, A, B>;
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
    if (stage < steps) a.fetch(a_slab(stage)), b.fetch(b_slab(stage));
    ptx::cp_async_commit();
  }

  // Sum (i, j) of a thread is at row y + i·kDown, column x + j·kAcross: neighbours read neighbouring lines.
  const int y = static_cast<int>(threadIdx.x) / Layout::kAcross, x = static_cast<int>(threadIdx.x) % Layout::kAcross;
  float sums[8][8];
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) sums[i][j] = 0.0f;

  int now = 0, next = Tile::kStages - 1;  // stages
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait<Tile::kStages - 2>();
    __syncthreads();
    if (step + Tile::kStages - 1 < steps) a.fetch(a_slab(next)), b.fetch(b_slab(next));
    ptx::cp_async_commit();
    const std::byte *as = a_slab(now), *bs = b_slab(now);
#pragma unroll 1
    for (int k = 0; k < Tile::kK; k += 4) {
      float fb[8][4];
#pragma unroll
      for (int j = 0; j < 8; ++j) load_k4<typename B::Slab>(fb[j], bs, x + j * Layout::kAcross, k);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float fa[4];
        load_k4<typename A::Slab>(fa, as, y + i * Layout::kDown, k);
#pragma unroll
        for (int j = 0; j < 8; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e) sums[i][j] = fmaf(fa[e], fb[j][e], sums[i][j]);
      }
    }
    now = now + 1 == Tile::kStages ? 0 : now + 1;
    next = next + 1 == Tile::kStages ? 0 : next + 1;
  }
  ptx::cp_async_wait<0>();

  float* const out = reinterpret_cast<float*>(smem);
#pragma unroll 1
  for (int i = 0; i < 8; ++i) {  // a loop: the epilogue is most of the code
    __syncthreads();
#pragma unroll
    for (int same = 0; same < 8; ++same) {
      if (same != i) continue;  // sums are registers: their index must be known when compiling
#pragma unroll
      for (int j = 0; j < 8; ++j) out[y * Layout::kPitch + x + j * Layout::kAcross] = sums[same][j];
    }
    __syncthreads();
#pragma unroll 1
    for (int at = static_cast<int>(threadIdx.x); at < Layout::kDown * Tile::kN / 4; at += Tile::kThreads) {
      const int r = at / (Tile::kN / 4), column = at % (Tile::kN / 4) * 4;
      const int64_t row = block.m + i * Layout::kDown + r;
      const float4 f = *reinterpret_cast<const float4*>(out + r * Layout::kPitch + column);
      float v[4] = {f.x, f.y, f.z, f.w};
      if (row < p.epilogue.m) finish4(p.epilogue, row, block.n + column, block.split, v);
    }
  }
}

}  // namespace theia::THEIA_DEVICE
