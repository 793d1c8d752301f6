// Backward: one read of p and t, one write of dp. A sample's gradient is four numbers and what is read: dp = sp·p + st·t' + sm·d +
// sl·clamp(d).
#include <limits>

#include "kernels/distill_loss/distill_loss.cuh"

namespace theia::THEIA_DEVICE {

using namespace loss;

namespace {

struct Slopes {
  float p, t, l1, mse;
  __device__ __forceinline__ float of(float x, float y) const {
    const float d = x - y, bounded = fminf(1.0f, fmaxf(-1.0f, d));
    // The cosine's two terms cancel where p and t' nearly agree: they meet first, one of them unrounded.
    return fmaf(l1, bounded, fmaf(mse, d, fmaf(p, x, t * y)));
  }
};

struct Output {
  std::byte* at;
  bool two_bytes;
  const double* stats;
  const float* weights;
  double samples, elements;
};

__device__ Slopes slopes_of(const Output& out, int64_t sample) {
  const double dot = out.stats[3 * sample], p2 = out.stats[3 * sample + 1], t2 = out.stats[3 * sample + 2];
  if (!finite(dot) || !finite(p2) || !finite(t2)) {
    constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
    return {kNaN, kNaN, kNaN, kNaN};
  }
  const Cosine c = cosine(dot, p2, t2);
  const double share = -static_cast<double>(out.weights[0]) / out.samples;
  return {static_cast<float>(share * c.p), static_cast<float>(share * c.t), static_cast<float>(out.weights[1] / out.elements),
          static_cast<float>(2.0 * out.weights[2] / out.elements)};
}

template <int kWidth>
__device__ __forceinline__ void put(const Output& out, int64_t i, const float (&x)[kWidth]) {
  if constexpr (kWidth == 8) {
    if (out.two_bytes) {
      *reinterpret_cast<uint4*>(out.at + 2 * i) =
          make_uint4(ptx::pack_bf16(x[0], x[1]), ptx::pack_bf16(x[2], x[3]), ptx::pack_bf16(x[4], x[5]), ptx::pack_bf16(x[6], x[7]));
    } else {
      float4* const to = reinterpret_cast<float4*>(out.at + 4 * i);
      to[0] = make_float4(x[0], x[1], x[2], x[3]);
      to[1] = make_float4(x[4], x[5], x[6], x[7]);
    }
  } else if (out.two_bytes) {
    *reinterpret_cast<bf16*>(out.at + 2 * i) = to_bf16(x[0]);
  } else {
    *reinterpret_cast<float*>(out.at + 4 * i) = x[0];
  }
}

/// dp may be the memory of p: a batch of rows is in registers before the first of them is written, and no other thread reads them.
template <class P, class T>
__global__ void __launch_bounds__(kThreads, 3)
    slopes_kernel(P p, T t, const __grid_constant__ Cut cut, const __grid_constant__ Output out) {
  constexpr int kWidth = P::kWidth, kBatch = 2;
  THEIA_SHARED(Slopes, shared, [1]);
  for (int64_t work = blockIdx.x; work < cut.work; work += gridDim.x) {
    Part part = part_of(cut, work, kWidth);
    if (threadIdx.x == 0) shared[0] = slopes_of(out, part.sample);
    __syncthreads();
    const Slopes slopes = shared[0];
    __syncthreads();
    if (part.count == 0) continue;
    const Normaliser<kWidth> normal(cut, part.channel);
    for (; part.count > 0; part.count -= kBatch, part.p += kBatch * part.step, part.t += kBatch * part.step) {
      P x[kBatch];
      T y[kBatch];
#pragma unroll
      for (int r = 0; r < kBatch; ++r) {
        x[r] = p;
        y[r] = t;
        if (r >= part.count) continue;
        x[r].load(part.p + r * part.step);
        y[r].load(part.t + r * part.step);
      }
#pragma unroll
      for (int r = 0; r < kBatch; ++r) {
        if (r >= part.count) continue;
        float d[kWidth];
#pragma unroll
        for (int k = 0; k < kWidth; ++k) d[k] = slopes.of(x[r].get(k), normal.of(y[r].get(k), k));
        put(out, part.p + r * part.step, d);
      }
    }
  }
}

}  // namespace

void distill_loss_grad(const DistillLossGradArgs& a, const DeviceContext& context) {
  const bool by_eight = wide(a) && at_16_bytes(a.dp);
  const Cut cut = cut_of(a, by_eight ? 8 : 1);
  const Output out{a.dp.base + a.dp.offset * bytes_of(a.dp.dtype),
                   a.dp.dtype == DType::bf16,
                   a.stats.ptr<double>(),
                   a.weights.ptr<float>(),
                   static_cast<double>(a.p.size[0]),
                   static_cast<double>(a.p.numel())};
  with_streams(a.p.dtype, a.t.dtype, by_eight, [&]<class P, class T>(P* p, T* t) {
    launch("distill_loss_grad", slopes_kernel<P, T>, grid_of(cut, *context.info), dim3(cut.threads), 0, context, stream_of(a.p, p),
           stream_of(a.t, t), cut, out);
  });
}

}  // namespace theia::THEIA_DEVICE
