// Any alignment on tensor cores.
#include "kernels/gemm/device/load_any.cuh"
#include "kernels/gemm/device/start_mma.cuh"

namespace theia::THEIA_DEVICE {

/// Both along k.
void start_any_nt(int tile, const Start& s) {
  switch (tile) {
    case 3:
      return start_mma<Tile3, AnyLoader, true, AnyLoader, true>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

/// B across k.
void start_any_nn(int tile, const Start& s) {
  switch (tile) {
    case 3:
      return start_mma<Tile3, AnyLoader, true, AnyLoader, false>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

/// Both across k.
void start_any_tn(int tile, const Start& s) {
  switch (tile) {
    case 3:
      return start_mma<Tile3, AnyLoader, false, AnyLoader, false>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

}  // namespace theia::THEIA_DEVICE
