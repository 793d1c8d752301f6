// Starting the kernel of one tile and two loaders, on tensor cores.
#pragma once
#include "kernels/gemm/device/mma_core.cuh"
#include "kernels/gemm/device/start.cuh"

namespace theia::THEIA_DEVICE {

template <class Tile, template <class> class LoadA, bool a_along_k, template <class> class LoadB, bool b_along_k>
void start_mma(const Start& s) {
  using A = LoadA<Slab<bf16, Tile::kM, Tile::kK, a_along_k, Tile::kThreads>>;
  using B = LoadB<Slab<bf16, Tile::kN, Tile::kK, b_along_k, Tile::kThreads>>;
  start<GemmParams<typename A::Args, typename B::Args>, MmaLayout<Tile, A, B>, Tile, A, B>(&mma_gemm<Tile, A, B>, s);
}

}  // namespace theia::THEIA_DEVICE
