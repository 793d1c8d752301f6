// Matrices and maps on Hopper's tensor cores: linear layers and their gradients; convolutions without stride, and their input gradient.
#include "kernels/gemm/device/start.cuh"
#include "kernels/gemm/device/wgmma_core.cuh"

namespace theia::THEIA_DEVICE {

namespace {

template <class Tile, class Kind>
void start_boxed(const Start& s, const BoxedOperands& o) {
  WgmmaParams p{};
  p.a = tensor_map(s.name, o.a);
  p.b = tensor_map(s.name, o.b);
  p.epilogue = s.epilogue;
  p.grid = s.grid;
  p.grid.tiles_m = static_cast<int>(o.tiles_m);
  p.boxes = o.boxes;
  const int lines = Kind::kPatches ? o.boxes.box_x * o.boxes.box_y * o.boxes.box_images : Tile::kM;
  p.stage_bytes = static_cast<unsigned>(lines + Tile::kN) * 128;
  launch(s.name, wgmma_gemm<Tile, Kind>,
         dim3(static_cast<unsigned>(p.grid.tiles_m) * static_cast<unsigned>(p.grid.tiles_n), static_cast<unsigned>(s.splits)),
         dim3(Tile::kThreads), WgmmaLayout<Tile>::kShared, *s.context, p);
}

template <class Tile>
void start_tile(const Start& s) {
  BoxedOperands o;
  if (!boxed(s.a, s.b, s.epilogue.m, s.epilogue.n, s.grid.k, Tile::kM, Tile::kN, o))
    fail("ERR_CUDA", "%s: the copy engine cannot bring these operands in", s.name);
  if (o.patches)
    return o.b_along_k ? start_boxed<Tile, OperandKind<true, true, true>>(s, o) : start_boxed<Tile, OperandKind<true, true, false>>(s, o);
  if (!o.a_along_k) return start_boxed<Tile, OperandKind<false, false, false>>(s, o);
  return o.b_along_k ? start_boxed<Tile, OperandKind<false, true, true>>(s, o) : start_boxed<Tile, OperandKind<false, true, false>>(s, o);
}

}  // namespace

void start_wgmma(int tile, const Start& s) {
  switch (tile) {
    case 6:
      return start_tile<Tile6>(s);
    case 7:
      return start_tile<Tile7>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

}  // namespace theia::THEIA_DEVICE
