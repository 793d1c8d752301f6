// Both along k, no alignment asked for.
#include "kernels/gemm/device/load_any.cuh"
#include "kernels/gemm/device/start_mma.cuh"

namespace theia::THEIA_DEVICE {

void start_any_nt(int tile, const Start& s) {
  switch (tile) {
    case 3:
      return start_mma<Tile3, AnyLoader, true, AnyLoader, true>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

}  // namespace theia::THEIA_DEVICE
