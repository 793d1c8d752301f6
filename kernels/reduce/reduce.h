// y[b,d] = mean, max or sum of x[b,n,d] over n, and its gradient. Tokens to one vector a sample.
#pragma once
#include "kernels/core/context.h"
#include "kernels/core/field.h"

namespace theia {

enum class Reduction : int64_t { mean, max, sum };

struct ReduceArgs {
  Tensor x;      // [B,N,D], N >= 1, samples and rows may be strided
  Tensor y;      // [B,D], rows may be strided
  int64_t kind;  // Reduction
};

// On devices bfloat16 as well: y as x or float32, and in backward dy and dx each of either type.
inline constexpr Field kReduceFields[] = {
    THEIA_TENSOR(ReduceArgs, x, in, kActivation, 3, 3),
    THEIA_TENSOR(ReduceArgs, y, out, kActivation, 2, 2),
    THEIA_CHOICE(ReduceArgs, kind, "mean|max|sum"),
};

struct ReduceGradArgs {
  Tensor x;      // [B,N,D] as forward had it; max only
  Tensor y;      // [B,D], forward's output; max only
  Tensor dy;     // [B,D], rows may be strided
  Tensor dx;     // [B,N,D], samples and rows may be strided; of a maximum that occurs more than once the first gets the gradient
  int64_t kind;  // Reduction
};

inline constexpr Field kReduceGradFields[] = {
    THEIA_OPTIONAL(ReduceGradArgs, x, in, kActivation, 3, 3), THEIA_OPTIONAL(ReduceGradArgs, y, in, kActivation, 2, 2),
    THEIA_TENSOR(ReduceGradArgs, dy, in, kActivation, 2, 2),  THEIA_TENSOR(ReduceGradArgs, dx, out, kActivation, 3, 3),
    THEIA_CHOICE(ReduceGradArgs, kind, "mean|max|sum"),
};

void check(const ReduceArgs& a);
int64_t workspace(const ReduceArgs& a, int threads);
double flops(const ReduceArgs& a);
double bytes(const ReduceArgs& a);
void check(const ReduceGradArgs& a);
int64_t workspace(const ReduceGradArgs& a, int threads);
double flops(const ReduceGradArgs& a);
double bytes(const ReduceGradArgs& a);

namespace cpu {
template <class T>
void reduce(const ReduceArgs& a, const Context& context);
template <class T>
void reduce_grad(const ReduceGradArgs& a, const Context& context);
}  // namespace cpu
namespace avx2 {
void reduce(const ReduceArgs& a, const Context& context);
void reduce_grad(const ReduceGradArgs& a, const Context& context);
}  // namespace avx2
namespace avx512 {
void reduce(const ReduceArgs& a, const Context& context);
void reduce_grad(const ReduceGradArgs& a, const Context& context);
}  // namespace avx512

}  // namespace theia
