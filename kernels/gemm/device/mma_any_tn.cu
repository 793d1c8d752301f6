// Both across k, no alignment asked for.
#include "kernels/gemm/device/load_any.cuh"
#include "kernels/gemm/device/start_mma.cuh"

namespace theia::THEIA_DEVICE {

void start_any_tn(int tile, const Start& s) {
  switch (tile) {
    case 3:
      return start_mma<Tile3, AnyLoader, false, AnyLoader, false>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

}  // namespace theia::THEIA_DEVICE
