// A strided view of a buffer, as kernels see it. Plain data: it can be copied, recorded and replayed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/core/dtype.h"

namespace theia {

inline constexpr int kMaxRank = 5;

struct Tensor {
  uint64_t buffer;  // handle of the owner; 0 = the optional tensor is absent
  std::byte* base;  // start of the buffer's memory, filled in by the dispatcher just before check()
  int64_t offset;   // in elements
  DType dtype;
  int8_t rank;
  int64_t size[kMaxRank];
  int64_t stride[kMaxRank];  // in elements

  bool present() const { return buffer != 0; }
  template <class T>
  T* ptr() const {
    return reinterpret_cast<T*>(base) + offset;
  }
  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= size[i];
    return n;
  }
  /// True if the last `dims` dimensions (all by default) lie packed in row-major order.
  bool contiguous(int dims = kMaxRank) const {
    int64_t expected = 1;
    for (int i = rank - 1; i >= 0 && i >= rank - dims; --i) {
      if (size[i] != 1 && stride[i] != expected) return false;
      expected *= size[i];
    }
    return true;
  }
};

/// "[197,768] float32", for messages.
std::string describe(const Tensor& t);

}  // namespace theia
