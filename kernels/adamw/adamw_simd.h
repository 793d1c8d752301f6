// Compiled once per instruction set: the including file defines THEIA_ISA. The arithmetic is adamw_cpu.cpp's, to the bit.
#include "kernels/adamw/adamw.h"
#include "kernels/core/pool.h"
#include "kernels/core/simd.h"

namespace theia::THEIA_ISA {

namespace {

/// A product as a number of its own: these files are compiled with contraction, which would fuse it into the sum that follows.
THEIA_INLINE vf rounded(vf x) {
  asm("" : "+v"(x));
  return x;
}

struct Step {
  vf clip, weight, beta2, value, eps, decay, step, correction;
  bool short_way;  // weight < 1/2: lerp starts at the old moment

  __attribute__((always_inline)) void of(vf grad, vf& param, vf& avg, vf& sq) const {
    const vf g = rounded(grad * clip);
    avg = short_way ? fma(weight, g - avg, avg) : fma(weight - 1.0f, g - avg, g);
    sq = fma(rounded(value * g), g, rounded(sq * beta2));
    param = rounded(param * decay) + rounded(step * avg) / (vsqrt(sq) / correction + eps);
  }
};

}  // namespace

void adamw(const AdamwArgs& a, const Context& context) {
  check_rows("adamw", a.segments, a.slots, a.param.size[0]);
  const float clip = *a.clip_factor.ptr<float>();
  if (clip != clip) return;
  float *param = a.param.ptr<float>(), *avg = a.exp_avg.ptr<float>(), *sq = a.exp_avg_sq.ptr<float>();
  const float *grad = a.grad.ptr<float>(), *slots = a.slots.ptr<float>();
  bf16* const weights = a.weights.present() ? a.weights.ptr<bf16>() : nullptr;
  const int64_t total = a.param.size[0];
  Step common;
  common.clip = set1(clip);
  common.weight = set1(static_cast<float>(1 - a.beta1));
  common.beta2 = set1(static_cast<float>(a.beta2));
  common.value = set1(static_cast<float>(1 - a.beta2));
  common.eps = set1(static_cast<float>(a.eps));
  common.short_way = static_cast<float>(1 - a.beta1) < 0.5f;
  context.pool->run((total + kAdamwChunk - 1) / kAdamwChunk, [&](int64_t chunk, int) {
    const int64_t begin = chunk * kAdamwChunk, end = begin + kAdamwChunk < total ? begin + kAdamwChunk : total;
    Step step = common;
    SegmentPiece piece;
    for (SegmentWalk walk(a.segments, a.slots, begin, end); walk.next(piece);) {
      const float* slot = slots + 4 * piece.slot;
      step.decay = set1(piece.decay ? slot[0] : 1.0f);
      step.step = set1(-slot[1]);
      step.correction = set1(slot[2]);
      int64_t i = piece.first;
      for (; i + kLanes <= piece.last; i += kLanes) {
        vf p = load(param + i), m = load(avg + i), v = load(sq + i);
        step.of(load(grad + i), p, m, v);
        store(param + i, p);
        store(avg + i, m);
        store(sq + i, v);
        if (weights) store(weights + i, p);
      }
      if (i < piece.last) {
        const int n = static_cast<int>(piece.last - i);
        vf p = load_n(param + i, n), m = load_n(avg + i, n), v = load_n(sq + i, n);
        step.of(load_n(grad + i, n), p, m, v);
        store_n(param + i, p, n);
        store_n(avg + i, m, n);
        store_n(sq + i, v, n);
        if (weights) store_n(weights + i, p, n);
      }
    }
  });
}

}  // namespace theia::THEIA_ISA
