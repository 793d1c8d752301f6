// y = act(conv(x, w) + bias + residual) on channel-last maps, and its gradient. All maps and w have one type; bias, dw and dbias have the
// type of sums: the same, and float32 where that is bfloat16.
#pragma once
#include "kernels/conv2d/window.h"
#include "kernels/core/context.h"
#include "kernels/core/field.h"

namespace theia {

struct Conv2dArgs {
  Tensor x;         // [B,H,W,I]; the channels packed, the rest strided at will
  Tensor w;         // [O,kh,kw,I]
  Tensor packed;    // optional: w as panels, made by the op `pack` (use forward); w is then not read. CPU only
  Tensor bias;      // [O]
  Tensor residual;  // [B,OH,OW,O], added before the activation; may be y itself
  Tensor y;         // [B,OH,OW,O], OH = floor((H + 2·padding − kh) / stride) + 1
  int64_t stride, padding;
  int64_t activation;  // none, relu
};

inline constexpr Field kConv2dFields[] = {
    THEIA_TENSOR(Conv2dArgs, x, in, kActivation, 4, 4),
    THEIA_TENSOR(Conv2dArgs, w, in, kActivation, 4, 4),
    THEIA_OPTIONAL(Conv2dArgs, packed, in, kReal, 1, 1),
    THEIA_OPTIONAL(Conv2dArgs, bias, in, kReal, 1, 1),
    THEIA_OPTIONAL(Conv2dArgs, residual, in, kActivation, 4, 4),
    THEIA_SHARING(Conv2dArgs, y, out, kActivation, 4, 4, "residual"),
    THEIA_INT(Conv2dArgs, stride),
    THEIA_INT(Conv2dArgs, padding),
    THEIA_CHOICE(Conv2dArgs, activation, "none|relu"),
};

struct Conv2dGradArgs {
  Tensor x;       // [B,H,W,I] as forward had it; its values are read for dw only
  Tensor w;       // [O,kh,kw,I]; its values are read for dx only
  Tensor packed;  // optional: w as panels for the input gradient (use backward). CPU only
  Tensor dy;      // [B,OH,OW,O]
  Tensor y;       // [B,OH,OW,O], ReLU only: forward's output, laid out like dy
  Tensor dx;      // [B,H,W,I], optional
  Tensor dw;      // [O,kh,kw,I], optional; written or added to
  Tensor dbias;   // [O], optional; written or added to
  int64_t stride, padding;
  int64_t activation;  // relu: dy counts where y > 0. none: no activation, or the op behind has masked dy already
  int64_t accumulate;  // 1: add to dw and dbias
};

inline constexpr Field kConv2dGradFields[] = {
    THEIA_TENSOR(Conv2dGradArgs, x, in, kActivation, 4, 4),
    THEIA_TENSOR(Conv2dGradArgs, w, in, kActivation, 4, 4),
    THEIA_OPTIONAL(Conv2dGradArgs, packed, in, kReal, 1, 1),
    THEIA_TENSOR(Conv2dGradArgs, dy, in, kActivation, 4, 4),
    THEIA_OPTIONAL(Conv2dGradArgs, y, in, kActivation, 4, 4),
    THEIA_OPTIONAL(Conv2dGradArgs, dx, out, kActivation, 4, 4),
    THEIA_OPTIONAL(Conv2dGradArgs, dw, accumulate, kReal, 4, 4),
    THEIA_OPTIONAL(Conv2dGradArgs, dbias, accumulate, kReal, 1, 1),
    THEIA_INT(Conv2dGradArgs, stride),
    THEIA_INT(Conv2dGradArgs, padding),
    THEIA_CHOICE(Conv2dGradArgs, activation, "none|relu"),
    THEIA_FLAG(Conv2dGradArgs, accumulate),
};

void check(const Conv2dArgs& a);
int64_t workspace(const Conv2dArgs& a, int threads);
double flops(const Conv2dArgs& a);
double bytes(const Conv2dArgs& a);
void check(const Conv2dGradArgs& a);
int64_t workspace(const Conv2dGradArgs& a, int threads);
double flops(const Conv2dGradArgs& a);
double bytes(const Conv2dGradArgs& a);

// The ops in the terms of window.h: what every backend computes.
Window window_of(const Conv2dArgs& a);
Gather forward_product(const Conv2dArgs& a);
Window window_of(const Conv2dGradArgs& a);
Gather input_product(const Conv2dGradArgs& a);
WeightGrad weight_product(const Conv2dGradArgs& a);
void conv2d_by_gemm(const Conv2dArgs& a, GemmKernel gemm, const Context& context);
void conv2d_grad_by_gemm(const Conv2dGradArgs& a, GemmKernel gemm, SumsKernel channel_sums, const Context& context);

namespace cpu {
template <class T>
void conv2d(const Conv2dArgs& a, const Context& context);
template <class T>
void conv2d_grad(const Conv2dGradArgs& a, const Context& context);
}  // namespace cpu
namespace avx2 {
void conv2d(const Conv2dArgs& a, const Context& context);
void conv2d_grad(const Conv2dGradArgs& a, const Context& context);
}  // namespace avx2
namespace avx512 {
void conv2d(const Conv2dArgs& a, const Context& context);
void conv2d_grad(const Conv2dGradArgs& a, const Context& context);
}  // namespace avx512

}  // namespace theia
