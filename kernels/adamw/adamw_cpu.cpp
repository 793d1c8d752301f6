// The reference loop. What is fused and what is rounded follows PyTorch's CPU kernels (lerp and addcmul fuse, mul and addcdiv do not).
#include <cmath>

#include "kernels/adamw/adamw.h"

namespace theia::cpu {

/// A product as a number of its own: the compiler may not fuse it into the sum that follows.
template <class T>
static T rounded(T x) {
  asm("" : "+m"(x));
  return x;
}

template <class T>
void adamw(const AdamwArgs& a, const Context&) {
  check_rows("adamw", a.segments, a.slots, a.param.size[0]);
  const T clip = *a.clip_factor.ptr<T>();
  if (std::isnan(clip)) return;
  T *param = a.param.ptr<T>(), *avg = a.exp_avg.ptr<T>(), *sq = a.exp_avg_sq.ptr<T>();
  const T* grad = a.grad.ptr<T>();
  bf16* weights = a.weights.present() ? a.weights.ptr<bf16>() : nullptr;
  const T weight = static_cast<T>(1 - a.beta1), beta2 = static_cast<T>(a.beta2), value = static_cast<T>(1 - a.beta2);
  const T eps = static_cast<T>(a.eps);
  SegmentPiece piece;
  for (SegmentWalk walk(a.segments, a.slots, 0, a.param.size[0]); walk.next(piece);) {
    const T* slot = a.slots.ptr<T>() + 4 * piece.slot;
    const T decay = piece.decay ? slot[0] : T(1), step = -slot[1], correction = slot[2];
    for (int64_t i = piece.first; i < piece.last; ++i) {
      const T g = rounded(grad[i] * clip);
      // lerp takes the shorter way, from either end.
      const T m = weight < T(0.5) ? std::fma(weight, g - avg[i], avg[i]) : std::fma(weight - 1, g - avg[i], g);
      const T v = std::fma(rounded(value * g), g, rounded(sq[i] * beta2));
      const T denominator = std::sqrt(v) / correction + eps;
      param[i] = rounded(param[i] * decay) + rounded(step * m) / denominator;
      avg[i] = m;
      sq[i] = v;
      if (weights) weights[i] = to_bf16(static_cast<float>(param[i]));
    }
  }
}

template void adamw<float>(const AdamwArgs&, const Context&);
template void adamw<double>(const AdamwArgs&, const Context&);

}  // namespace theia::cpu
