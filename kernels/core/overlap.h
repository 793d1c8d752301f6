// Where outputs may lie. Kernels write from several threads, in an order of their own, and read inputs while they write: they rely on no
// two elements of an output sharing memory, and on no output sharing memory with another tensor, but where the field list says so.
#pragma once
#include <span>

#include "kernels/core/field.h"

namespace theia {

/// True if an element of one view shares a byte with an element of the other. Exact for views of one layout (slices of one packed tensor)
/// and for whatever else is decided in a few thousand steps; beyond that false: a false alarm would refuse what works.
bool overlap(const Tensor& a, const Tensor& b);

/// The rule for every op, from its field list alone. ERR_SHAPE if two elements of an output may lie at the same place; ERR_ARGS if an
/// output overlaps another tensor, unless it is exactly the view that its field may share.
/// Base pointers must be filled in and views inside their buffers.
void check_overlap(const char* op, std::span<const Field> fields, const void* args);

}  // namespace theia
