// Operands as the copy engine of sm_90 brings them in: boxes of lines of 64 elements.
//
// A matrix along k is read in boxes of 64 of k by a tile's lines; one that is not, in boxes of 64 columns by 64 of k. Patches of a map (a
// convolution without stride) need no table of lines either: all positions of a box of the map, moved by a tap, are a box of the map, and
// the engine fills in the zeros outside. A tile of C is then not so many positions in a row but a box of them: of whole rows, or whole
// images, where they fit.
#pragma once
#include "kernels/cuda/tensor_map.h"
#include "kernels/gemm/device/gemm.h"

namespace theia::THEIA_DEVICE {

/// Positions (image, y, x) of a grid in boxes, and where the taps are. All of it for patches only.
struct PatchBoxes {
  int width, height, images;     // of the grid
  int box_x, box_y, box_images;  // positions of a tile
  int across, down;              // boxes beside and below each other; then the next images
  int b_across;                  // taps of B beside each other, where B is not along k: its map is [tap row, tap column, k of a tap, n]
  int run;                       // k of a tap: a multiple of 64
  int b_offset[kMaxTaps];        // where the tap's weights start in a line of B
  int16_t dy[kMaxTaps], dx[kMaxTaps];
};

struct BoxedOperands {
  bool patches, a_along_k, b_along_k;
  BoxedMap a, b;
  PatchBoxes boxes;
  int64_t tiles_m;
};

/// The product C[m,n] = A·B, in tiles of tile_m x tile_n, if the copy engine can bring A and B in. Patches must be along k. Taps and runs
/// of the operands are filled in.
bool boxed(const DeviceOperand& a, const DeviceOperand& b, int64_t m, int64_t n, int64_t k, int tile_m, int tile_n, BoxedOperands& out);

}  // namespace theia::THEIA_DEVICE
