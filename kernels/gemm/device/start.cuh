// Starting the kernel of one tile and two loaders.
#pragma once
#include "kernels/gemm/device/tiles.cuh"
#include "kernels/gemm/device/variants.h"

namespace theia::THEIA_DEVICE {

template <class Params, class Layout, class Tile, class A, class B>
void start(void (*kernel)(Params), const Start& s) {
  const Params p{A::args(s.a, s.a_width), B::args(s.b, s.b_width), s.epilogue, s.grid};
  launch(s.name, kernel,
         dim3(static_cast<unsigned>(s.grid.tiles_m) * static_cast<unsigned>(s.grid.tiles_n), static_cast<unsigned>(s.splits)),
         dim3(Tile::kThreads), Layout::kShared, *s.context, p);
}

[[noreturn]] inline void no_such_tile(const char* name, int tile) {
  fail("ERR_CUDA", "%s: no kernel was compiled for tile %d", name, tile);
}

}  // namespace theia::THEIA_DEVICE
