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

/// Throws ERR_SHAPE for wrong tables, ERR_ARGS naming the row for wrong rows. Reads the table: it must be in host memory.
void check_segments(const char* op, const Tensor& segments, const Tensor& slots, int64_t total);

/// Walks the enabled segments of [begin, end). A row that no longer fits (the table is memory that may be written after check) counts as
/// disabled, so nothing outside the arena is ever touched.
class SegmentWalk {
 public:
  SegmentWalk(const Tensor& segments, const Tensor& slots, int64_t total, int64_t begin, int64_t end);
  /// The next piece that is not empty; false at the end.
  bool next(SegmentPiece& piece);

 private:
  const int64_t* row_;
  const int64_t* last_row_;
  const Tensor& slots_;
  int64_t total_, begin_, end_;
};

}  // namespace theia
