// y = act(conv_transpose(x, w) + bias) on channel-last maps, and its gradient:
//   y[iy·stride − padding + ky][ix·stride − padding + kx][o] += x[iy][ix][i] · w[o][ky][kx][i]
// All maps and w have one type; bias, dw and dbias have the type of sums: the same, and float32 where that is bfloat16.
#pragma once
#include "kernels/conv2d/window.h"
#include "kernels/core/context.h"
#include "kernels/core/field.h"

namespace theia {

struct ConvTranspose2dArgs {
  Tensor x;       // [B,H,W,I]; the channels packed, the rest strided at will
  Tensor w;       // [O,kh,kw,I]: the output channel first, as in conv2d, taps not flipped
  Tensor packed;  // optional: w as panels, made by the op `pack` (use forward); w is then not read. CPU only
  Tensor bias;    // [O]
  Tensor y;       // [B,OH,OW,O], OH = (H − 1)·stride − 2·padding + kh + output_padding
  int64_t stride, padding, output_padding;
  int64_t activation;  // none, relu
};

inline constexpr Field kConvTranspose2dFields[] = {
    THEIA_TENSOR(ConvTranspose2dArgs, x, in, kActivation, 4, 4),
    THEIA_TENSOR(ConvTranspose2dArgs, w, in, kActivation, 4, 4),
    THEIA_OPTIONAL(ConvTranspose2dArgs, packed, in, kReal, 1, 1),
    THEIA_OPTIONAL(ConvTranspose2dArgs, bias, in, kReal, 1, 1),
    THEIA_TENSOR(ConvTranspose2dArgs, y, out, kActivation, 4, 4),
    THEIA_INT(ConvTranspose2dArgs, stride),
    THEIA_INT(ConvTranspose2dArgs, padding),
    THEIA_INT(ConvTranspose2dArgs, output_padding),
    THEIA_CHOICE(ConvTranspose2dArgs, activation, "none|relu"),
};

struct ConvTranspose2dGradArgs {
  Tensor x;       // [B,H,W,I] as forward had it; its values are read for dw only
  Tensor w;       // [O,kh,kw,I]; its values are read for dx only
  Tensor packed;  // optional: w as panels for the input gradient (use backward). CPU only
  Tensor dy;      // [B,OH,OW,O]
  Tensor y;       // [B,OH,OW,O], ReLU only: forward's output, laid out like dy
  Tensor dx;      // [B,H,W,I], optional
  Tensor dw;      // [O,kh,kw,I], optional; written or added to
  Tensor dbias;   // [O], optional; written or added to
  int64_t stride, padding, output_padding;
  int64_t activation;  // relu: dy counts where y > 0. none: no activation, or the op behind has masked dy already
  int64_t accumulate;  // 1: add to dw and dbias
};

inline constexpr Field kConvTranspose2dGradFields[] = {
    THEIA_TENSOR(ConvTranspose2dGradArgs, x, in, kActivation, 4, 4),
    THEIA_TENSOR(ConvTranspose2dGradArgs, w, in, kActivation, 4, 4),
    THEIA_OPTIONAL(ConvTranspose2dGradArgs, packed, in, kReal, 1, 1),
    THEIA_TENSOR(ConvTranspose2dGradArgs, dy, in, kActivation, 4, 4),
    THEIA_OPTIONAL(ConvTranspose2dGradArgs, y, in, kActivation, 4, 4),
    THEIA_OPTIONAL(ConvTranspose2dGradArgs, dx, out, kActivation, 4, 4),
    THEIA_OPTIONAL(ConvTranspose2dGradArgs, dw, accumulate, kReal, 4, 4),
    THEIA_OPTIONAL(ConvTranspose2dGradArgs, dbias, accumulate, kReal, 1, 1),
    THEIA_INT(ConvTranspose2dGradArgs, stride),
    THEIA_INT(ConvTranspose2dGradArgs, padding),
    THEIA_INT(ConvTranspose2dGradArgs, output_padding),
    THEIA_CHOICE(ConvTranspose2dGradArgs, activation, "none|relu"),
    THEIA_FLAG(ConvTranspose2dGradArgs, accumulate),
};

void check(const ConvTranspose2dArgs& a);
int64_t workspace(const ConvTranspose2dArgs& a, int threads);
double flops(const ConvTranspose2dArgs& a);
double bytes(const ConvTranspose2dArgs& a);
void check(const ConvTranspose2dGradArgs& a);
int64_t workspace(const ConvTranspose2dGradArgs& a, int threads);
double flops(const ConvTranspose2dGradArgs& a);
double bytes(const ConvTranspose2dGradArgs& a);

// The ops in the terms of window.h: what every backend computes.
Window window_of(const ConvTranspose2dArgs& a);
Gather forward_product(const ConvTranspose2dArgs& a);
Window window_of(const ConvTranspose2dGradArgs& a);
Gather input_product(const ConvTranspose2dGradArgs& a);
WeightGrad weight_product(const ConvTranspose2dGradArgs& a);
void conv_transpose2d_by_gemm(const ConvTranspose2dArgs& a, GemmKernel gemm, const Context& context);
void conv_transpose2d_grad_by_gemm(const ConvTranspose2dGradArgs& a, GemmKernel gemm, SumsKernel channel_sums, const Context& context);

namespace cpu {
template <class T>
void conv_transpose2d(const ConvTranspose2dArgs& a, const Context& context);
template <class T>
void conv_transpose2d_grad(const ConvTranspose2dGradArgs& a, const Context& context);
}  // namespace cpu
namespace avx2 {
void conv_transpose2d(const ConvTranspose2dArgs& a, const Context& context);
void conv_transpose2d_grad(const ConvTranspose2dGradArgs& a, const Context& context);
}  // namespace avx2
namespace avx512 {
void conv_transpose2d(const ConvTranspose2dArgs& a, const Context& context);
void conv_transpose2d_grad(const ConvTranspose2dGradArgs& a, const Context& context);
}  // namespace avx512

}  // namespace theia
