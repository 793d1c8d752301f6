// Compiled once per instruction set: the including file defines THEIA_ISA. One streaming pass over p and t each way.
#include "kernels/core/pool.h"
#include "kernels/core/simd_double.h"
#include "kernels/distill_loss/distill_loss.h"

namespace theia::THEIA_ISA {

namespace {

constexpr int kBlock = 16;  // vectors: at most 31 additions in float32 before a lane goes on in double

/// The running sums: float32 lanes for a block, double lanes beyond.
struct Lanes {
  vf dot, p2, t2, l1, mse;
  vd sums[5];

  THEIA_INLINE void carry(vd& sum, vf& x) {
    sum += widen_lower(x) + widen_upper(x);
    x = vf{};
  }
  __attribute__((always_inline)) void flush() {
    carry(sums[0], dot);
    carry(sums[1], p2);
    carry(sums[2], t2);
    carry(sums[3], l1);
    carry(sums[4], mse);
  }
  __attribute__((always_inline)) void add(vf p, vf t) {
    const vf d = p - t, size = vabs(d), inner = vmin(set1(1.0f), size);
    dot = fma(p, t, dot);
    p2 = fma(p, p, p2);
    t2 = fma(t, t, t2);
    l1 = fma(inner, fnma(set1(0.5f), inner, size), l1);  // size < 1: size²/2, else size - 1/2
    mse = fma(d, d, mse);
  }
};

/// t' at channel c of a row: a whole vector, or its first n lanes, 0 in the others.
template <bool kNormalised, class S>
THEIA_INLINE vf target(const S* t, const float* mean, const float* std) {
  const vf raw = load(t);
  return kNormalised ? (raw - load(mean)) / load(std) : raw;
}
template <bool kNormalised, class S>
THEIA_INLINE vf target_n(const S* t, const float* mean, const float* std, int n) {
  const vf raw = load_n(t, n);
  if (!kNormalised) return raw;
  return (raw - load_n(mean, n)) / (lane_index() < n ? load_n(std, n) : set1(1.0f));
}

template <bool kNormalised, class S>
void sums_of(const float* p, const S* t, const float* mean, const float* std, int64_t rows, int64_t channels, DistillSums& out) {
  Lanes lanes{};
  int pending = 0;
  for (int64_t r = 0; r < rows; ++r, p += channels, t += channels) {
    int64_t c = 0;
    while (c + kLanes <= channels) {
      int64_t end = c + kBlock * kLanes;
      if (end > channels) end = channels / kLanes * kLanes;
      pending += static_cast<int>((end - c) / kLanes);
      for (; c < end; c += kLanes) lanes.add(load(p + c), target<kNormalised>(t + c, mean + c, std + c));
      if (pending >= kBlock) {
        lanes.flush();
        pending = 0;
      }
    }
    if (c < channels) {
      const int n = static_cast<int>(channels - c);
      lanes.add(load_n(p + c, n), target_n<kNormalised>(t + c, mean + c, std + c, n));
      if (++pending >= kBlock) {
        lanes.flush();
        pending = 0;
      }
    }
  }
  lanes.flush();
  out = {reduce_add(lanes.sums[0]), reduce_add(lanes.sums[1]), reduce_add(lanes.sums[2]), reduce_add(lanes.sums[3]),
         reduce_add(lanes.sums[4])};
}

struct Slopes {
  vf p, t, l1, mse;
  __attribute__((always_inline)) vf of(vf x, vf y) const {
    const vf d = x - y, bounded = vmin(set1(1.0f), vmax(set1(-1.0f), d));
    // The cosine's two terms cancel where p and t' nearly agree: they meet first, one of them unrounded.
    return fma(l1, bounded, fma(mse, d, fma(p, x, t * y)));
  }
};

template <bool kNormalised, class S>
void slopes_of(const float* p, const S* t, const float* mean, const float* std, float* dp, int64_t rows, int64_t channels,
               const Slopes& slopes) {
  for (int64_t r = 0; r < rows; ++r, p += channels, t += channels, dp += channels) {
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) store(dp + c, slopes.of(load(p + c), target<kNormalised>(t + c, mean + c, std + c)));
    if (c < channels) {
      const int n = static_cast<int>(channels - c);
      store_n(dp + c, slopes.of(load_n(p + c, n), target_n<kNormalised>(t + c, mean + c, std + c, n)), n);
    }
  }
}

/// A chunk of a sample as rows of channels; without per-channel numbers it is one long row.
struct Piece {
  int64_t sample, rows, channels, p_offset, t_offset;
};
Piece piece_of(const DistillChunks& cut, int64_t chunk, int64_t t_stride, bool flat) {
  const int64_t sample = chunk / cut.count, first = chunk % cut.count * cut.each;
  const int64_t rows = first + cut.each < cut.positions ? cut.each : cut.positions - first;
  const int64_t start = first * cut.channels;
  return {sample, flat ? 1 : rows, flat ? rows * cut.channels : cut.channels, sample * cut.positions * cut.channels + start,
          sample * t_stride + start};
}

template <bool kNormalised, class S>
void forward(const DistillLossArgs& a, const Context& context) {
  const DistillChunks cut = distill_chunks(a.p);
  DistillSums* sums = reinterpret_cast<DistillSums*>(context.workspace);
  const float* p = a.p.ptr<float>();
  const S* t = a.t.ptr<S>();
  const float* mean = kNormalised ? a.mean.ptr<float>() : p;  // not read if not normalised; p keeps the address arithmetic defined
  const float* std = kNormalised ? a.std.ptr<float>() : p;
  context.pool->run(cut.samples * cut.count, [&](int64_t chunk, int) {
    const Piece piece = piece_of(cut, chunk, a.t.stride[0], !kNormalised);
    sums_of<kNormalised>(p + piece.p_offset, t + piece.t_offset, mean, std, piece.rows, piece.channels, sums[chunk]);
  });
  distill_finish(a, sums, cut.count);
}

template <bool kNormalised, class S>
void backward(const DistillLossGradArgs& a, const Context& context) {
  const DistillChunks cut = distill_chunks(a.p);
  const float* p = a.p.ptr<float>();
  const S* t = a.t.ptr<S>();
  float* dp = a.dp.ptr<float>();
  const float* mean = kNormalised ? a.mean.ptr<float>() : p;
  const float* std = kNormalised ? a.std.ptr<float>() : p;
  context.pool->run(cut.samples * cut.count, [&](int64_t chunk, int) {
    const Piece piece = piece_of(cut, chunk, a.t.stride[0], !kNormalised);
    const DistillSlopes s = distill_slopes(a, piece.sample);
    const Slopes slopes{set1(static_cast<float>(s.p)), set1(static_cast<float>(s.t)), set1(static_cast<float>(s.l1)),
                        set1(static_cast<float>(s.mse))};
    slopes_of<kNormalised>(p + piece.p_offset, t + piece.t_offset, mean, std, dp + piece.p_offset, piece.rows, piece.channels, slopes);
  });
}

}  // namespace

#define THEIA_BY_TARGET(direction)                                                       \
  const bool normalised = a.mean.present();                                              \
  if (a.t.dtype == DType::bf16)                                                          \
    normalised ? direction<true, bf16>(a, context) : direction<false, bf16>(a, context); \
  else if (a.t.dtype == DType::f16)                                                      \
    normalised ? direction<true, f16>(a, context) : direction<false, f16>(a, context);   \
  else                                                                                   \
    normalised ? direction<true, float>(a, context) : direction<false, float>(a, context);

void distill_loss(const DistillLossArgs& a, const Context& context) { THEIA_BY_TARGET(forward) }
void distill_loss_grad(const DistillLossGradArgs& a, const Context& context) { THEIA_BY_TARGET(backward) }

#undef THEIA_BY_TARGET

}  // namespace theia::THEIA_ISA
