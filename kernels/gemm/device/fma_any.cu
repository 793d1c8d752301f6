// Exact float32, operands in any order and alignment.
#include "kernels/gemm/device/fma_core.cuh"
#include "kernels/gemm/device/load_any.cuh"
#include "kernels/gemm/device/start.cuh"

namespace theia::THEIA_DEVICE {

namespace {

template <class Tile, bool a_along_k, bool b_along_k>
void start_fma(const Start& s) {
  using A = AnyLoader<Slab<float, Tile::kM, Tile::kK, a_along_k, Tile::kThreads>>;
  using B = AnyLoader<Slab<float, Tile::kN, Tile::kK, b_along_k, Tile::kThreads>>;
  start<GemmParams<typename A::Args, typename B::Args>, FmaLayout<Tile, A, B>, Tile, A, B>(&fma_gemm<Tile, A, B>, s);
}

template <bool a_along_k, bool b_along_k>
void start_tile(int tile, const Start& s) {
  switch (tile) {
    case 5:
      return start_fma<Tile5, a_along_k, b_along_k>(s);
    case 6:
      return start_fma<Tile6, a_along_k, b_along_k>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

}  // namespace

void start_exact_nt(int tile, const Start& s) { start_tile<true, true>(tile, s); }
void start_exact_nn(int tile, const Start& s) { start_tile<true, false>(tile, s); }
void start_exact_tn(int tile, const Start& s) { start_tile<false, false>(tile, s); }

}  // namespace theia::THEIA_DEVICE
