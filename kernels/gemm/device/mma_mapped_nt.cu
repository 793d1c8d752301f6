// Patches and weights along k: convolutions, and a parity of a transposed one.
#include "kernels/gemm/device/load.cuh"
#include "kernels/gemm/device/start_mma.cuh"

namespace theia::THEIA_DEVICE {

void start_mapped_nt(int tile, const Start& s) {
  switch (tile) {
    case 0:
      return start_mma<Tile0, MappedLoader, true, MappedLoader, true>(s);
    case 1:
      return start_mma<Tile1, MappedLoader, true, MappedLoader, true>(s);
    case 2:
      return start_mma<Tile2, MappedLoader, true, MappedLoader, true>(s);
    case 3:
      return start_mma<Tile3, MappedLoader, true, MappedLoader, true>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

}  // namespace theia::THEIA_DEVICE
