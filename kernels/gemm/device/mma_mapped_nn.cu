// Patches along k by weights across it: the input gradient of convolutions.
#include "kernels/gemm/device/load.cuh"
#include "kernels/gemm/device/start_mma.cuh"

namespace theia::THEIA_DEVICE {

void start_mapped_nn(int tile, const Start& s) {
  switch (tile) {
    case 0:
      return start_mma<Tile0, MappedLoader, true, MappedLoader, false>(s);
    case 1:
      return start_mma<Tile1, MappedLoader, true, MappedLoader, false>(s);
    case 2:
      return start_mma<Tile2, MappedLoader, true, MappedLoader, false>(s);
    case 3:
      return start_mma<Tile3, MappedLoader, true, MappedLoader, false>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

}  // namespace theia::THEIA_DEVICE
