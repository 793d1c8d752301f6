// dst = cast(src), or dst += src: any strides on both sides, so permuting, slicing, concatenating (into slices), broadcasting (stride 0 on
// src) and converting are one op.
#pragma once
#include "kernels/core/context.h"
#include "kernels/core/field.h"

namespace theia {

struct CopyArgs {
  Tensor src;          // any shape and strides; a stride of 0 repeats
  Tensor dst;          // the same shape, any strides under which no two elements overlap; must not overlap src
  int64_t accumulate;  // 1: dst += src (dst float32 or float64)
};

inline constexpr DTypes kCopied = kStored | kU8 | kI32 | kI64;

inline constexpr Field kCopyFields[] = {
    THEIA_TENSOR(CopyArgs, src, in, kCopied, 0, kMaxRank),
    THEIA_TENSOR(CopyArgs, dst, inout, kCopied, 0, kMaxRank),
    THEIA_FLAG(CopyArgs, accumulate),
};

void check(const CopyArgs& a);
int64_t workspace(const CopyArgs& a, int threads);
double flops(const CopyArgs& a);
double bytes(const CopyArgs& a);

/// What differs between dtypes and instruction sets. Steps are in elements.
struct CopyKernels {
  /// n elements, packed on both sides.
  void (*packed)(const std::byte* src, std::byte* dst, int64_t n);
  /// n elements, `src_step` and `dst_step` apart.
  void (*strided)(const std::byte* src, int64_t src_step, std::byte* dst, int64_t dst_step, int64_t n);
  /// A tile of `rows` x `columns` elements whose rows are close to each other in src and whose columns are close in dst.
  void (*tile)(const std::byte* src, int64_t src_row, int64_t src_column, std::byte* dst, int64_t dst_row, int64_t dst_column, int64_t rows,
               int64_t columns);
};

/// Goes over both tensors in the order of dst, with rows as long as the strides allow, or in tiles where it is a transposition.
void walk(const CopyArgs& a, const Context& context, const CopyKernels& kernels);

/// The plain kernels for these dtypes. Every combination that check() lets pass has them.
CopyKernels plain_copy(DType src, DType dst, bool accumulate);

namespace cpu {
template <class T>
void copy(const CopyArgs& a, const Context& context);
}
namespace avx2 {
void copy(const CopyArgs& a, const Context& context);
}
namespace avx512 {
void copy(const CopyArgs& a, const Context& context);
}

}  // namespace theia
