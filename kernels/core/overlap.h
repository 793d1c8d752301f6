// A check for outputs: kernels write an output's elements from several threads and rely on no two of them sharing memory.
#pragma once
#include "kernels/core/error.h"
#include "kernels/core/tensor.h"

namespace theia {

/// No two elements of the output, if present, lie at the same place: every stride reaches past everything that the smaller strides
/// span; else ERR_SHAPE. (A few interleaved layouts without overlap are refused as well; nobody makes them.)
inline void expect_distinct(const char* op, const char* field, const Tensor& t) {
  if (!t.present() || t.numel() == 0) return;
  int order[kMaxRank], n = 0;
  for (int i = 0; i < t.rank; ++i) {
    if (t.size[i] == 1) continue;
    int at = n++;
    for (; at > 0 && t.stride[order[at - 1]] > t.stride[i]; --at) order[at] = order[at - 1];
    order[at] = i;
  }
  int64_t span = 0;  // the largest offset that the dimensions so far reach
  for (int k = 0; k < n; ++k) {
    const int i = order[k];
    if (t.stride[i] <= span)
      fail("ERR_SHAPE", "%s: expected elements of '%s' that do not overlap, got %s with stride %lld in dimension %d", op, field,
           describe(t).c_str(), static_cast<long long>(t.stride[i]), i);
    span += (t.size[i] - 1) * t.stride[i];
  }
}

}  // namespace theia
