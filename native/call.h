// The call area: one array of doubles shared with JavaScript, into which the caller writes an op's arguments in field order. A dispatch is
// then one Node-API call with one number, and the generated TypeScript and this reader are the only two that know the layout:
//   tensor:  handle (0 = absent), offset in elements, dtype, rank, size[0..4], stride[0..4]   = 14 doubles
//   scalar:  the value                                                                        =  1 double
#pragma once
#include <span>

#include "kernels/core/field.h"

namespace theia::native {

inline constexpr int kTensorSlots = 4 + 2 * kMaxRank;

/// Fills the args struct from the area. Numbers from JavaScript are hostile: all must be whole and in range (ERR_ARGS otherwise).
/// Base pointers are left null.
void read_args(const char* op, std::span<const Field> fields, std::span<const double> area, void* args);

/// A view that repeats its elements (stride 0), or has none, may claim any size. Up to this many elements, empty dimensions counted as
/// one, the products of sizes that checks and workspaces form do not overflow: even m·n·k of a matrix product stays below 2^60.
inline constexpr int64_t kMaxElements = int64_t{1} << 40;

/// Throws ERR_SHAPE unless every element of the view lies inside a buffer of `bytes` bytes, without overflow anywhere, and there are at
/// most kMaxElements.
void check_inside(const char* op, const char* field, const Tensor& t, int64_t bytes);

}  // namespace theia::native
