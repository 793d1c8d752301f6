// Two matrices on tensor cores: linear layers.
#include "kernels/gemm/device/load.cuh"
#include "kernels/gemm/device/start_mma.cuh"

namespace theia::THEIA_DEVICE {

/// Forward: x and w along k.
void start_plain_nt(int tile, const Start& s) {
  switch (tile) {
    case 0:
      return start_mma<Tile0, PlainLoader, true, PlainLoader, true>(s);
    case 1:
      return start_mma<Tile1, PlainLoader, true, PlainLoader, true>(s);
    case 2:
      return start_mma<Tile2, PlainLoader, true, PlainLoader, true>(s);
    case 3:
      return start_mma<Tile3, PlainLoader, true, PlainLoader, true>(s);
    case 4:
      return start_mma<Tile4, PlainLoader, true, PlainLoader, true>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

/// Input gradient: w across k.
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

/// Weight gradient: k runs over rows.
void start_plain_tn(int tile, const Start& s) {
  switch (tile) {
    case 0:
      return start_mma<Tile0, PlainLoader, false, PlainLoader, false>(s);
    case 1:
      return start_mma<Tile1, PlainLoader, false, PlainLoader, false>(s);
    case 2:
      return start_mma<Tile2, PlainLoader, false, PlainLoader, false>(s);
    case 3:
      return start_mma<Tile3, PlainLoader, false, PlainLoader, false>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

}  // namespace theia::THEIA_DEVICE
