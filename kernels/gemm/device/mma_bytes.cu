// Patches of bytes on tensor cores: patch embedding.
#include "kernels/gemm/device/load.cuh"
#include "kernels/gemm/device/load_bytes.cuh"
#include "kernels/gemm/device/start_mma.cuh"

namespace theia::THEIA_DEVICE {

/// Forward: patches and weights along k.
void start_bytes_nt(int tile, const Start& s) {
  switch (tile) {
    case 0:
      return start_mma<Tile0, ByteLoader, true, MappedLoader, true>(s);
    case 2:
      return start_mma<Tile2, ByteLoader, true, MappedLoader, true>(s);
    case 3:
      return start_mma<Tile3, ByteLoader, true, MappedLoader, true>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

/// Weight gradient: k runs over patches.
void start_bytes_tn(int tile, const Start& s) {
  switch (tile) {
    case 1:
      return start_mma<Tile1, MappedLoader, false, ByteLoader, false>(s);
    case 3:
      return start_mma<Tile3, MappedLoader, false, ByteLoader, false>(s);
    default:
      no_such_tile(s.name, tile);
  }
}

}  // namespace theia::THEIA_DEVICE
