// The geometry that conv2d and conv_transpose2d share. Both tie two maps together by a window of taps: position p of the SMALL map meets
// position p·stride − padding + tap of the BIG one. A convolution reads the big map and writes the small one, a transposed convolution
// the other way round; each is the other's input gradient. Weights are [O,kh,kw,I] in both, so between maps of I and O channels:
//   conv2d            big = x [I]   small = y [O]
//   conv_transpose2d  small = x [I]  big = y [O]
#pragma once
#include "kernels/core/tensor.h"
#include "kernels/gemm/gemm.h"

namespace theia {

struct Window {
  int64_t kh, kw, stride, padding;
  int64_t taps() const { return kh * kw; }
};

/// Window sizes, stride and padding up to this: sums of a few of them fit the 16 bits that a tap's offset has in a Gemm.
inline constexpr int64_t kMaxReach = 8192;

/// The type of bias, dw and dbias beside maps of this type.
DType sum_dtype(DType map);

/// ERR_ARGS unless stride is 1 to kMaxReach and padding 0 to kMaxReach.
void check_scalars(const char* op, int64_t stride, int64_t padding);
/// A map [B,H,W,C] as the kernels need it: positive sizes, fewer than 2^31 positions, channels packed. Absent tensors pass. ERR_SHAPE.
void check_map(const char* op, const char* field, const Tensor& t);
/// Weights [O,kh,kw,I] of positive sizes and packed. Absent tensors pass. ERR_SHAPE.
void check_weights(const char* op, const char* field, const Tensor& w);
/// Panels made by the op `pack` for this use of the weights: exactly so many elements, in one piece. ERR_SHAPE.
void check_panels(const char* op, const Tensor& panels, const Tensor& w, bool backward);
/// What both gradient ops ask of y, dx, dw and dbias.
void check_gradients(const char* op, const Tensor& x, const Tensor& w, const Tensor& dy, const Tensor& y, const Tensor& dx,
                     const Tensor& dw, const Tensor& dbias, bool relu);
/// 2 · positions · taps · O · I: what a product over the small map counts as, taps outside the big map included.
double product_flops(const Tensor& small, const Tensor& w);
/// Elements and bytes, 0 if absent.
double count_of(const Tensor& t);
double bytes_in(const Tensor& t);

/// A product that writes one map from the other through the window.
struct Gather {
  Tensor in, out;
  Tensor mask;      // optional, laid out like `in`: elements of `in` count only where it is positive
  Tensor w;         // [O,kh,kw,I]
  Tensor panels;    // optional: w as panels for this use
  Tensor bias;      // optional
  Tensor residual;  // optional map, added before the activation
  bool up;          // `in` is the small map and `out` the big one
  bool backward;    // `in` has O channels and `out` I, else the other way round
  bool relu;
};

/// dw[o][t][i] = sum over positions of dy[..][o] · x[..][i], one of the maps read through the window.
struct WeightGrad {
  Tensor x, dy;
  Tensor mask;  // optional, laid out like dy
  Tensor dw;
  bool up;  // dy is the big map (conv_transpose2d), else x is
  bool accumulate;
};

// Both as products of the one GEMM core, on float32 data. The instruction set comes in as a function.
using GemmKernel = void (*)(const Gemm& g, const Context& context);
void gather_by_gemm(const Gather& a, const Window& window, GemmKernel gemm, const Context& context);
int64_t gather_workspace(const Gather& a, const Window& window, int threads);
void weight_grad_by_gemm(const WeightGrad& a, const Window& window, GemmKernel gemm, const Context& context);
int64_t weight_grad_workspace(const WeightGrad& a, const Window& window, int threads);

/// dbias = sum of dy over all positions (channel_sums_<set>.cpp).
using SumsKernel = void (*)(const Tensor& dy, const Tensor& mask, const Tensor& dbias, bool accumulate, const Context& context);
namespace avx2 {
void channel_sums(const Tensor& dy, const Tensor& mask, const Tensor& dbias, bool accumulate, const Context& context);
}
namespace avx512 {
void channel_sums(const Tensor& dy, const Tensor& mask, const Tensor& dbias, bool accumulate, const Context& context);
}

}  // namespace theia
