// k runs over patches of bytes: the weight gradient of patch embedding.
#include "kernels/gemm/device/load.cuh"
#include "kernels/gemm/device/load_bytes.cuh"
#include "kernels/gemm/device/start_mma.cuh"

namespace theia::THEIA_DEVICE {

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
