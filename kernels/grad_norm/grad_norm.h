// The Euclidean norm of the gradient over the enabled segments of the arena, and the factor that clipping multiplies onto it.
#pragma once
#include "kernels/adamw/segments.h"
#include "kernels/core/context.h"
#include "kernels/core/field.h"

namespace theia {

struct GradNormArgs {
  Tensor grad;         // [T] the gradient arena, packed
  Tensor segments;     // [S,4] int64, adamw/segments.h
  Tensor slots;        // [K,4]; only `enabled` is read
  Tensor limit;        // [1] largest norm that passes; 0, less or infinity: no clipping
  Tensor norm;         // [1] float64; NaN or infinite where the gradient is
  Tensor clip_factor;  // [1] min(1, limit / (norm + 1e-6)), 1 without clipping, NaN where the norm is not finite: adamw then does nothing
};

inline constexpr Field kGradNormFields[] = {
    THEIA_TENSOR(GradNormArgs, grad, in, kReal, 1, 1),  THEIA_TENSOR(GradNormArgs, segments, in, kI64, 2, 2),
    THEIA_TENSOR(GradNormArgs, slots, in, kReal, 2, 2), THEIA_TENSOR(GradNormArgs, limit, in, kReal, 1, 1),
    THEIA_TENSOR(GradNormArgs, norm, out, kF64, 1, 1),  THEIA_TENSOR(GradNormArgs, clip_factor, out, kReal, 1, 1),
};

void check(const GradNormArgs& a);
int64_t workspace(const GradNormArgs& a, int threads);
double flops(const GradNormArgs& a);
double bytes(const GradNormArgs& a);

/// The arena is cut into chunks of this many elements.
inline constexpr int64_t kGradNormChunk = 1 << 15;
int64_t grad_norm_chunks(const GradNormArgs& a);

/// Adds the chunks' sums of squares up in order and writes norm and clip_factor.
void grad_norm_finish(const GradNormArgs& a, const double* sums);

namespace cpu {
template <class T>
void grad_norm(const GradNormArgs& a, const Context& context);
}
namespace avx2 {
void grad_norm(const GradNormArgs& a, const Context& context);
}
namespace avx512 {
void grad_norm(const GradNormArgs& a, const Context& context);
}

}  // namespace theia
