// The reference loops: one element after the other, sums in double.
#include <cmath>

#include "kernels/distill_loss/distill_loss.h"

namespace theia::cpu {

namespace {

/// (t - mean) / std of one sample, in T.
template <class T, class S>
struct Target {
  const S* t;
  const T* mean;
  const T* std;
  T at(int64_t position, int64_t channel, int64_t channels) const {
    const T raw = static_cast<T>(to_float(t[position * channels + channel]));
    return mean ? (raw - mean[channel]) / std[channel] : raw;
  }
};

template <class T, class S, class Args>
Target<T, S> target_of(const Args& a, int64_t sample) {
  return {a.t.template ptr<S>() + sample * a.t.stride[0], a.mean.present() ? a.mean.template ptr<T>() : nullptr,
          a.std.present() ? a.std.template ptr<T>() : nullptr};
}

/// Calls f with a value of the target's element type.
template <class F>
void with_type(DType dtype, F&& f) {
  if (dtype == DType::bf16)
    f(bf16{});
  else if (dtype == DType::f16)
    f(f16{});
  else if (dtype == DType::f64)
    f(double{});
  else
    f(float{});
}

template <class T, class S>
DistillSums sums_of(const T* p, const Target<T, S>& target, const DistillChunks& cut, int64_t first, int64_t last) {
  DistillSums s{};
  for (int64_t i = first; i < last; ++i)
    for (int64_t c = 0; c < cut.channels; ++c) {
      const T x = p[i * cut.channels + c], t = target.at(i, c, cut.channels), d = x - t, size = std::abs(d);
      s.dot += x * t;
      s.p2 += x * x;
      s.t2 += t * t;
      s.l1 += size < 1 ? T(0.5) * d * d : size - T(0.5);
      s.mse += d * d;
    }
  return s;
}

}  // namespace

template <class T>
void distill_loss(const DistillLossArgs& a, const Context& context) {
  const DistillChunks cut = distill_chunks(a.p);
  DistillSums* sums = reinterpret_cast<DistillSums*>(context.workspace);
  with_type(a.t.dtype, [&]<class S>(S) {
    for (int64_t b = 0; b < cut.samples; ++b)
      for (int64_t k = 0; k < cut.count; ++k) {
        const int64_t first = k * cut.each, last = first + cut.each < cut.positions ? first + cut.each : cut.positions;
        sums[b * cut.count + k] = sums_of<T, S>(a.p.ptr<T>() + b * cut.positions * cut.channels, target_of<T, S>(a, b), cut, first, last);
      }
  });
  distill_finish(a, sums, cut.count);
}

template <class T>
void distill_loss_grad(const DistillLossGradArgs& a, const Context&) {
  const int64_t positions = a.p.size[1], channels = a.p.size[2];
  with_type(a.t.dtype, [&]<class S>(S) {
    for (int64_t b = 0; b < a.p.size[0]; ++b) {
      const DistillSlopes slopes = distill_slopes(a, b);
      const T sp = static_cast<T>(slopes.p), st = static_cast<T>(slopes.t), sl = static_cast<T>(slopes.l1), sm = static_cast<T>(slopes.mse);
      const T* p = a.p.ptr<T>() + b * positions * channels;
      T* dp = a.dp.ptr<T>() + b * positions * channels;
      const Target<T, S> target = target_of<T, S>(a, b);
      for (int64_t i = 0; i < positions; ++i)
        for (int64_t c = 0; c < channels; ++c) {
          const T x = p[i * channels + c], t = target.at(i, c, channels), d = x - t;
          const T bounded = d > 1 ? T(1) : d < -1 ? T(-1) : d;
          dp[i * channels + c] = sp * x + st * t + sm * d + sl * bounded;
        }
    }
  });
}

template void distill_loss<float>(const DistillLossArgs&, const Context&);
template void distill_loss<double>(const DistillLossArgs&, const Context&);
template void distill_loss_grad<float>(const DistillLossGradArgs&, const Context&);
template void distill_loss_grad<double>(const DistillLossGradArgs&, const Context&);

}  // namespace theia::cpu
