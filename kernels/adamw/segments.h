// The segment table of the parameter arena, as adamw and grad_norm walk it.
//
//   segments [S,4] int64: rows {offset, length, decay, slot}, ascending and without overlap; what lies between them is padding
//   slots    [K,4]: rows {decay factor 1 - lr·weight_decay, step size lr / (1 - beta1^t), sqrt(1 - beta2^t), enabled}
//
// Many segments share a slot (same learning rate, same step count). Slots are a tensor, so a recorded step reads this step's numbers.
#pragma once
#include "kernels/core/tensor.h"

namespace theia {

/// What a chunk of the arena has in one segment.
struct SegmentPiece {
  int64_t first, last;  // elements of the arena
  int64_t slot;
  bool decay;
};

/// Columns of both tables.
inline constexpr int64_t kSegmentColumns = 4;

/// Throws ERR_SHAPE for tables of a wrong shape. Reads no row: a device's table is not in host memory.
void check_segments(const char* op, const Tensor& segments, const Tensor& slots);

/// Throws ERR_ARGS naming the first wrong row. The CPU's kernels start with it, in a replay too: the table is memory that may have been
/// written since. Kernels of devices cannot throw; they pass over a row that does not fit.
void check_rows(const char* op, const Tensor& segments, const Tensor& slots, int64_t total);

/// Walks the enabled segments of [begin, end), of a table whose rows were checked.
class SegmentWalk {
 public:
  SegmentWalk(const Tensor& segments, const Tensor& slots, int64_t begin, int64_t end);
  /// The next piece that is not empty; false at the end.
  bool next(SegmentPiece& piece);

 private:
  const int64_t* row_;
  const int64_t* last_row_;
  const Tensor& slots_;
  int64_t begin_, end_;
};

}  // namespace theia
