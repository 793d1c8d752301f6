// k runs over positions: the weight gradient of convolutions.
#include "kernels/gemm/device/load.cuh"
#include "kernels/gemm/device/start_mma.cuh"

namespace theia::THEIA_DEVICE {

void start_mapped_tn(int tile, const Start& s) {
  switch (tile) {
    case 1:
      return start_mma<Tile1, MappedLoader, false, MappedLoader, false>(s);
    case 2:
      return start_mma<Tile2, MappedLoader, false, MappedLoader, false>(s);
    case 3:
      return start_mma<Tile3, MappedLoader, false, MappedLoader, false>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

}  // namespace theia::THEIA_DEVICE
