// Maps on tensor cores: convolutions and transposed ones.
#include "kernels/gemm/device/load.cuh"
#include "kernels/gemm/device/start_mma.cuh"

namespace theia::THEIA_DEVICE {

/// Forward, and the other way by parity: patches and weights along k.
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

/// Input gradient: weights across k.
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

/// Weight gradient: k runs over positions.
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
