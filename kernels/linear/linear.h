// y = act(x · wᵀ + bias) + residual, and its gradient. The matrix product under every linear layer; the GEMM itself is kernels/gemm/.
#pragma once
#include "kernels/core/context.h"
#include "kernels/core/field.h"
#include "kernels/gemm/gemm.h"

namespace theia {

/// With x as bfloat16 (devices only) w and slope are bfloat16 too, bias is float32, and y and residual are either, both the same.
struct LinearArgs {
  Tensor x;         // [M,K], rows may be strided
  Tensor w;         // [N,K] as in the checkpoint
  Tensor packed;    // optional: w as panels, made by the op `pack` (use forward); w is then not read
  Tensor bias;      // [N]
  Tensor residual;  // [M,N], added after the activation; may be y itself
  Tensor y;         // [M,N], rows may be strided
  Tensor slope;     // [M,N], saved for backward: the derivative of the activation. GELU only (ReLU's follows from y)
  int64_t activation;
};

inline constexpr Field kLinearFields[] = {
    THEIA_TENSOR(LinearArgs, x, in, kActivation, 2, 2),          THEIA_TENSOR(LinearArgs, w, in, kActivation, 2, 2),
    THEIA_OPTIONAL(LinearArgs, packed, in, kReal, 1, 1),         THEIA_OPTIONAL(LinearArgs, bias, in, kReal, 1, 1),
    THEIA_OPTIONAL(LinearArgs, residual, in, kActivation, 2, 2), THEIA_SHARING(LinearArgs, y, out, kActivation, 2, 2, "residual"),
    THEIA_OPTIONAL(LinearArgs, slope, saved, kActivation, 2, 2), THEIA_CHOICE(LinearArgs, activation, "none|relu|gelu"),
};

/// With x as bfloat16 (devices only) w, y and slope are bfloat16 too, dy and dx are bfloat16 or float32, and dw and dbias are float32.
struct LinearGradArgs {
  Tensor x;       // [M,K] as forward had it
  Tensor w;       // [N,K]
  Tensor packed;  // optional: w as panels for the input gradient (use backward)
  Tensor dy;      // [M,N]
  Tensor y;       // [M,N], ReLU only: forward's output (without residual)
  Tensor slope;   // [M,N], GELU only: as forward saved it
  Tensor dx;      // [M,K], optional
  Tensor dw;      // [N,K], optional; written or added to
  Tensor dbias;   // [N], optional; written or added to
  int64_t activation;
  int64_t accumulate;  // 1: add to dw and dbias
};

inline constexpr Field kLinearGradFields[] = {
    THEIA_TENSOR(LinearGradArgs, x, in, kActivation, 2, 2),
    THEIA_TENSOR(LinearGradArgs, w, in, kActivation, 2, 2),
    THEIA_OPTIONAL(LinearGradArgs, packed, in, kReal, 1, 1),
    THEIA_TENSOR(LinearGradArgs, dy, in, kActivation, 2, 2),
    THEIA_OPTIONAL(LinearGradArgs, y, in, kActivation, 2, 2),
    THEIA_OPTIONAL(LinearGradArgs, slope, in, kActivation, 2, 2),
    THEIA_OPTIONAL(LinearGradArgs, dx, out, kActivation, 2, 2),
    THEIA_OPTIONAL(LinearGradArgs, dw, accumulate, kReal, 2, 2),
    THEIA_OPTIONAL(LinearGradArgs, dbias, accumulate, kReal, 1, 1),
    THEIA_CHOICE(LinearGradArgs, activation, "none|relu|gelu"),
    THEIA_FLAG(LinearGradArgs, accumulate),
};

void check(const LinearArgs& a);
int64_t workspace(const LinearArgs& a, int threads);
double flops(const LinearArgs& a);
double bytes(const LinearArgs& a);
void check(const LinearGradArgs& a);
int64_t workspace(const LinearGradArgs& a, int threads);
double flops(const LinearGradArgs& a);
double bytes(const LinearGradArgs& a);

namespace cpu {
template <class T>
void linear(const LinearArgs& a, const Context& context);
template <class T>
void linear_grad(const LinearGradArgs& a, const Context& context);
}  // namespace cpu
namespace avx2 {
void linear(const LinearArgs& a, const Context& context);
void linear_grad(const LinearGradArgs& a, const Context& context);
}  // namespace avx2
namespace avx512 {
void linear(const LinearArgs& a, const Context& context);
void linear_grad(const LinearGradArgs& a, const Context& context);
}  // namespace avx512

}  // namespace theia
