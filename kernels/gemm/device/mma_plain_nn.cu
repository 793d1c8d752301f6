// A matrix along k by one along n: the input gradient of linear layers.
#include "kernels/gemm/device/load.cuh"
#include "kernels/gemm/device/start_mma.cuh"

namespace theia::THEIA_DEVICE {

void start_plain_nn(int tile, const Start& s) {
  switch (tile) {
    case 0:
      return start_mma<Tile0, PlainLoader, true, PlainLoader, false>(s);
    case 1:
      return start_mma<Tile1, PlainLoader, true, PlainLoader, false>(s);
    case 2:
      return start_mma<Tile2, PlainLoader, true, PlainLoader, false>(s);
    case 3:
      return start_mma<Tile3, PlainLoader, true, PlainLoader, false>(s);
    case 4:
      return start_mma<Tile4, PlainLoader, true, PlainLoader, false>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

}  // namespace theia::THEIA_DEVICE
