// The product on Hopper's tensor cores: wgmma, operands brought in by the copy engine. sm_90a.
//
// Three warpgroups a block. One thread of the last is the producer: it waits until a stage is free, says how many bytes will come, and
// starts two copies, of A and of B. The other two warpgroups take the upper and the lower 64 rows of the tile: they wait for a stage's
// bytes, start four wgmma over its 64 of k, and free the stage before when those of it are done. Nobody computes an address per element,
// and no thread of a consumer copies anything: that is what leaves the tensor cores at work.
#pragma once
#include "kernels/gemm/device/blocks.cuh"
#include "kernels/gemm/device/boxes.h"
#include "kernels/ptx/tma.h"
#include "kernels/ptx/wgmma.h"

namespace theia::THEIA_DEVICE {

struct WgmmaParams {
  TensorMap a, b;
  Epilogue epilogue;
  TileGrid grid;
  unsigned stage_bytes;  // that come for a stage
  PatchBoxes boxes;
};

/// Which operands there are kernels for: patches, whose A is along k, and which of both are along k.
template <bool patches, bool a_along_k, bool b_along_k>
struct OperandKind {
  static constexpr bool kPatches = patches, kAlongA = a_along_k, kAlongB = b_along_k;
};

template <class Tile>
struct WgmmaLayout {
  static constexpr int kA = Tile::kM * 128, kStage = kA + Tile::kN * 128;
  static constexpr int kPitch = Tile::kN + 8;  // floats of a row on its way out: rows 8 banks apart
  static constexpr int kConsumers = Tile::kThreads / kWarp - 4;
  static constexpr int kBarriers = Tile::kStages * kStage, kShared = kBarriers + 2 * Tile::kStages * 8;
  static_assert(kConsumers * 16 * kPitch * 4 <= kBarriers && Tile::kM == 128 && Tile::kK == 64);
};

/// The first position of a tile of patches.
struct Corner {
  int image, y, x;
};
__device__ __forceinline__ Corner corner_of(const PatchBoxes& p, int tile) {
  const int row = tile / p.across, images = row / p.down;
  return {images * p.box_images, (row - images * p.down) * p.box_y, (tile - row * p.across) * p.box_x};
}

/// The row of C that line r of the tile is, or -1.
template <bool patches>
__device__ __forceinline__ int64_t row_of(const WgmmaParams& p, int64_t first, const Corner& c, int r) {
  if constexpr (!patches) return first + r < p.epilogue.m ? first + r : -1;
  const PatchBoxes& b = p.boxes;
  const int line = r / b.box_x, images = line / b.box_y;
  const int image = c.image + images, y = c.y + line - images * b.box_y, x = c.x + r - line * b.box_x;
  if (images >= b.box_images || image >= b.images || y >= b.height || x >= b.width) return -1;
  return (static_cast<int64_t>(image) * b.height + y) * b.width + x;
}

template <class Tile, class Kind>
__device__ __forceinline__ void produce(const WgmmaParams& p, const Block& block, const Corner& corner, int steps, std::byte* smem,
                                        uint64_t* full, uint64_t* empty) {
  using Layout = WgmmaLayout<Tile>;
  constexpr int kBox = 64 * 128;  // of an operand that is not along k
  const int m = static_cast<int>(block.m), n = static_cast<int>(block.n);
  int stage = 0, k = static_cast<int>(block.k_begin), tap = 0, channel = 0;
  unsigned parity = 0;
  if constexpr (Kind::kPatches) tap = k / p.boxes.run, channel = k - tap * p.boxes.run;
  for (int step = 0; step < steps; ++step) {
    std::byte* const slab = smem + stage * Layout::kStage;
    ptx::mbarrier_wait(&empty[stage], parity ^ 1u);
    ptx::mbarrier_arrive_expect(&full[stage], p.stage_bytes);
    if constexpr (Kind::kPatches)
      ptx::tma_load_4d(slab, p.a, &full[stage], channel, corner.x + p.boxes.dx[tap], corner.y + p.boxes.dy[tap], corner.image);
    else if constexpr (Kind::kAlongA)
      ptx::tma_load_2d(slab, p.a, &full[stage], k, m);
    else
      for (int i = 0; i < Tile::kM / 64; ++i) ptx::tma_load_2d(slab + i * kBox, p.a, &full[stage], m + 64 * i, k);

    if constexpr (Kind::kAlongB)
      ptx::tma_load_2d(slab + Layout::kA, p.b, &full[stage], Kind::kPatches ? p.boxes.b_offset[tap] + channel : k, n);
    else
      for (int j = 0; j < Tile::kN / 64; ++j) {
        std::byte* const to = slab + Layout::kA + j * kBox;
        if constexpr (Kind::kPatches) {
          const int row = tap / p.boxes.b_across;
          ptx::tma_load_4d(to, p.b, &full[stage], n + 64 * j, channel, tap - row * p.boxes.b_across, row);
        } else {
          ptx::tma_load_2d(to, p.b, &full[stage], n + 64 * j, k);
        }
      }

    k += Tile::kK;
    if constexpr (Kind::kPatches) {
      channel += Tile::kK;
      if (channel == p.boxes.run) channel = 0, ++tap;
    }
    if (++stage == Tile::kStages) stage = 0, parity ^= 1u;
  }
}

template <class Tile, class Kind>
__device__ __forceinline__ void consume(float (&sums)[Tile::kN / 2], int steps, const std::byte* smem, uint64_t* full, uint64_t* empty) {
  using Layout = WgmmaLayout<Tile>;
  const int group = static_cast<int>(threadIdx.x) / 128, lane = static_cast<int>(threadIdx.x) % kWarp;
  int stage = 0, before = 0;
  unsigned parity = 0;
  for (int step = 0; step < steps; ++step) {
    const std::byte* const slab = smem + stage * Layout::kStage;
    // Both ways 64 rows of A are 64 lines or one box: 8 KB. 64 columns of B that is not along k are a box.
    const uint64_t a = ptx::descriptor(slab + group * 64 * 128, 0, 1024), b = ptx::descriptor(slab + Layout::kA, 64 * 128, 1024);
    ptx::mbarrier_wait(&full[stage], parity);
    ptx::wgmma_fence();
#pragma unroll
    for (uint64_t k = 0; k < 4; ++k)  // 16 of k are 32 bytes of each line, or 16 lines; descriptors count in units of 16 bytes
      ptx::wgmma<Tile::kN, Kind::kAlongA, Kind::kAlongB>(sums, a + k * (Kind::kAlongA ? 2 : 128), b + k * (Kind::kAlongB ? 2 : 128));
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    if (step > 0 && lane == 0) ptx::mbarrier_arrive(&empty[before]);  // each warp for itself: it knows of its own products only
    before = stage;
    if (++stage == Tile::kStages) stage = 0, parity ^= 1u;
  }
  ptx::wgmma_wait<0>();
}

template <class Tile, class Kind>
__global__ void __launch_bounds__(Tile::kThreads, 1) wgmma_gemm([[maybe_unused]] const __grid_constant__ WgmmaParams p) {
#ifdef THEIA_WGMMA_CODE
  using Layout = WgmmaLayout<Tile>;
  THEIA_DYNAMIC_SHARED(smem);
  uint64_t* const full = reinterpret_cast<uint64_t*>(smem + Layout::kBarriers);
  uint64_t* const empty = full + Tile::kStages;
  const Block block = block_of<Tile>(p.grid);
  const int steps = static_cast<int>((block.k_end - block.k_begin + Tile::kK - 1) / Tile::kK);
  Corner corner{};
  if constexpr (Kind::kPatches) corner = corner_of(p.boxes, static_cast<int>(block.m / Tile::kM));
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i) {
      ptx::mbarrier_init(&full[i], 1);
      ptx::mbarrier_init(&empty[i], Layout::kConsumers);
    }
    ptx::mbarrier_init_fence();
  }
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  if (warp >= Layout::kConsumers) {
    ptx::fewer_registers<40>();
    if (warp == Layout::kConsumers && lane == 0) {
      ptx::tma_prefetch(p.a), ptx::tma_prefetch(p.b);
      produce<Tile, Kind>(p, block, corner, steps, smem, full, empty);
    }
  } else {
    ptx::more_registers<232>();
    float sums[Tile::kN / 2];
#pragma unroll
    for (int i = 0; i < Tile::kN / 2; ++i) sums[i] = 0.0f;
    consume<Tile, Kind>(sums, steps, smem, full, empty);

    // Sums leave through the stages' memory, 16 rows of a warp in its own part of it, so that the epilogue reads and writes whole lines.
    // All copies have landed, as all were waited for; the barrier is for what the other warps' products still read.
    ptx::named_barrier(1, Layout::kConsumers * kWarp);
    float* const out = reinterpret_cast<float*>(smem) + warp * 16 * Layout::kPitch;
#pragma unroll
    for (int j = 0; j < Tile::kN / 8; ++j) {
      float* const to = out + lane / 4 * Layout::kPitch + 8 * j + lane % 4 * 2;
      *reinterpret_cast<float2*>(to) = make_float2(sums[4 * j], sums[4 * j + 1]);
      *reinterpret_cast<float2*>(to + 8 * Layout::kPitch) = make_float2(sums[4 * j + 2], sums[4 * j + 3]);
    }
    __syncwarp();
#pragma unroll 1
    for (int at = lane; at < 16 * Tile::kN / 4; at += kWarp) {
      const int r = at / (Tile::kN / 4), column = at % (Tile::kN / 4) * 4;
      const int64_t row = row_of<Kind::kPatches>(p, block.m, corner, 16 * warp + r);
      const float4 f = *reinterpret_cast<const float4*>(out + r * Layout::kPitch + column);
      float v[4] = {f.x, f.y, f.z, f.w};
      if (row >= 0) finish4(p.epilogue, row, block.n + column, block.split, v);
    }
  }
#else
  __trap();  // compiled for a GPU without these instructions: choose_tile() does not choose it there
#endif
}

}  // namespace theia::THEIA_DEVICE
