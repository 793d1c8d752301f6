// What check() functions are written with: each failure names op, field, what was expected and what came.
#pragma once
#include <initializer_list>
#include <string>

#include "kernels/core/error.h"
#include "kernels/core/tensor.h"

namespace theia {

inline std::string shape_text(std::initializer_list<int64_t> shape) {
  std::string s = "[";
  for (const int64_t* d = shape.begin(); d != shape.end(); ++d) s += (d == shape.begin() ? "" : ",") + std::to_string(*d);
  return s + "]";
}

/// The tensor, if present, has exactly this shape; else ERR_SHAPE.
inline void expect_shape(const char* op, const char* field, const Tensor& t, std::initializer_list<int64_t> shape) {
  if (!t.present()) return;
  bool same = t.rank == static_cast<int>(shape.size());
  for (int i = 0; same && i < t.rank; ++i) same = t.size[i] == shape.begin()[i];
  if (!same) fail("ERR_SHAPE", "%s: expected '%s' of shape %s, got %s", op, field, shape_text(shape).c_str(), describe(t).c_str());
}

/// The last `dims` dimensions of the tensor, if present, are packed row-major; else ERR_SHAPE.
inline void expect_contiguous(const char* op, const char* field, const Tensor& t, int dims = kMaxRank) {
  if (t.present() && !t.contiguous(dims))
    fail("ERR_SHAPE", "%s: expected '%s' packed in its last %d dimensions, got strided %s", op, field, dims < t.rank ? dims : t.rank,
         describe(t).c_str());
}

/// The tensor, if present, has this element type; else ERR_DTYPE.
inline void expect_dtype(const char* op, const char* field, const Tensor& t, DType dtype) {
  if (t.present() && t.dtype != dtype) fail("ERR_DTYPE", "%s: expected '%s' as %s, got %s", op, field, name(dtype), name(t.dtype));
}

}  // namespace theia
