// One step of AdamW over the whole parameter arena, segment by segment (segments.h). In float32 the weights and moments come out bit for
// bit as those of torch.optim.AdamW (single tensor, CPU): every rounding and every fused multiply-add stands where PyTorch has it.
#pragma once
#include "kernels/adamw/segments.h"
#include "kernels/core/context.h"
#include "kernels/core/field.h"

namespace theia {

struct AdamwArgs {
  Tensor param;        // [T] the arena, packed
  Tensor grad;         // [T]
  Tensor exp_avg;      // [T] first moment
  Tensor exp_avg_sq;   // [T] second moment
  Tensor weights;      // [T] bfloat16, may be absent: the copy of `param` that matrix products read, written in the same pass. Float32 only
  Tensor segments;     // [S,4] int64, segments.h
  Tensor slots;        // [K,4] this step's numbers, segments.h; a slot that is not enabled leaves its segments wholly as they are
  Tensor clip_factor;  // [1] multiplied onto the gradient. NaN (grad_norm found no finite norm): nothing at all is touched
  double beta1, beta2, eps;
};

inline constexpr Field kAdamwFields[] = {
    THEIA_TENSOR(AdamwArgs, param, inout, kReal, 1, 1),
    THEIA_TENSOR(AdamwArgs, grad, in, kReal, 1, 1),
    THEIA_TENSOR(AdamwArgs, exp_avg, inout, kReal, 1, 1),
    THEIA_TENSOR(AdamwArgs, exp_avg_sq, inout, kReal, 1, 1),
    THEIA_OPTIONAL(AdamwArgs, weights, inout, set_of(DType::bf16), 1, 1),
    THEIA_TENSOR(AdamwArgs, segments, in, kI64, 2, 2),
    THEIA_TENSOR(AdamwArgs, slots, in, kReal, 2, 2),
    THEIA_TENSOR(AdamwArgs, clip_factor, in, kReal, 1, 1),
    THEIA_FLOAT(AdamwArgs, beta1),
    THEIA_FLOAT(AdamwArgs, beta2),
    THEIA_FLOAT(AdamwArgs, eps),
};

void check(const AdamwArgs& a);
int64_t workspace(const AdamwArgs& a, int threads);
double flops(const AdamwArgs& a);
double bytes(const AdamwArgs& a);

/// The arena is cut into chunks of this many elements: 7 streams of 64 KB.
inline constexpr int64_t kAdamwChunk = 1 << 14;

namespace cpu {
template <class T>
void adamw(const AdamwArgs& a, const Context& context);
}
namespace avx2 {
void adamw(const AdamwArgs& a, const Context& context);
}
namespace avx512 {
void adamw(const AdamwArgs& a, const Context& context);
}

}  // namespace theia
