// The maximum of each window of a channel-last map, and its gradient. Outside the map counts as −infinity; NaN wins over everything.
#pragma once
#include "kernels/core/context.h"
#include "kernels/core/field.h"

namespace theia {

struct MaxPool2dArgs {
  Tensor x;                         // [B,H,W,C]; the channels packed, the rest strided at will
  Tensor y;                         // [B,OH,OW,C], OH = floor((H + 2·padding − kernel) / stride) + 1
  int64_t kernel, stride, padding;  // padding at most kernel / 2, so that every window meets the map
};

inline constexpr Field kMaxPool2dFields[] = {
    THEIA_TENSOR(MaxPool2dArgs, x, in, kActivation, 4, 4),
    THEIA_TENSOR(MaxPool2dArgs, y, out, kActivation, 4, 4),
    THEIA_INT(MaxPool2dArgs, kernel),
    THEIA_INT(MaxPool2dArgs, stride),
    THEIA_INT(MaxPool2dArgs, padding),
};

/// Forward saves nothing: backward looks for the maximum again. The gradient goes to the first maximum of a window in row-major order,
/// and to the last NaN where there is one (as PyTorch does).
struct MaxPool2dGradArgs {
  Tensor x;   // [B,H,W,C] as forward had it
  Tensor dy;  // [B,OH,OW,C]
  Tensor dx;  // [B,H,W,C]
  int64_t kernel, stride, padding;
};

inline constexpr Field kMaxPool2dGradFields[] = {
    THEIA_TENSOR(MaxPool2dGradArgs, x, in, kActivation, 4, 4),
    THEIA_TENSOR(MaxPool2dGradArgs, dy, in, kActivation, 4, 4),
    THEIA_TENSOR(MaxPool2dGradArgs, dx, out, kActivation, 4, 4),
    THEIA_INT(MaxPool2dGradArgs, kernel),
    THEIA_INT(MaxPool2dGradArgs, stride),
    THEIA_INT(MaxPool2dGradArgs, padding),
};

void check(const MaxPool2dArgs& a);
int64_t workspace(const MaxPool2dArgs& a, int threads);
double flops(const MaxPool2dArgs& a);
double bytes(const MaxPool2dArgs& a);
void check(const MaxPool2dGradArgs& a);
int64_t workspace(const MaxPool2dGradArgs& a, int threads);
double flops(const MaxPool2dGradArgs& a);
double bytes(const MaxPool2dGradArgs& a);

namespace cpu {
template <class T>
void max_pool2d(const MaxPool2dArgs& a, const Context& context);
template <class T>
void max_pool2d_grad(const MaxPool2dGradArgs& a, const Context& context);
}  // namespace cpu
namespace avx2 {
void max_pool2d(const MaxPool2dArgs& a, const Context& context);
void max_pool2d_grad(const MaxPool2dGradArgs& a, const Context& context);
}  // namespace avx2
namespace avx512 {
void max_pool2d(const MaxPool2dArgs& a, const Context& context);
void max_pool2d_grad(const MaxPool2dGradArgs& a, const Context& context);
}  // namespace avx512

}  // namespace theia
