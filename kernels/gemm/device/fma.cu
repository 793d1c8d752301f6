// Exact float32, operands of any alignment.
#include "kernels/gemm/device/fma_core.cuh"
#include "kernels/gemm/device/load_any.cuh"
#include "kernels/gemm/device/start.cuh"

namespace theia::THEIA_DEVICE {

namespace {

template <bool a_along_k, bool b_along_k>
void start_fma(int tile, const Start& s) {
  using A = AnyLoader<Slab<float, Tile5::kM, Tile5::kK, a_along_k, Tile5::kThreads>>;
  using B = AnyLoader<Slab<float, Tile5::kN, Tile5::kK, b_along_k, Tile5::kThreads>>;
  if (tile != 5) no_such_tile(s.name, tile);
  start<GemmParams<typename A::Args, typename B::Args>, FmaLayout<Tile5, A, B>, Tile5, A, B>(&fma_gemm<Tile5, A, B>, s);
}

}  // namespace

void start_exact_nt(int tile, const Start& s) { start_fma<true, true>(tile, s); }
void start_exact_nn(int tile, const Start& s) { start_fma<true, false>(tile, s); }
void start_exact_tn(int tile, const Start& s) { start_fma<false, false>(tile, s); }

}  // namespace theia::THEIA_DEVICE
