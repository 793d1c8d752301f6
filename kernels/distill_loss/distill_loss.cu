// Forward: one read of p and t. Blocks leave five sums each, and one block adds them up in order and makes the terms of them.
#include <limits>

#include "kernels/cuda/block_sum.cuh"
#include "kernels/distill_loss/distill_loss.cuh"

namespace theia::THEIA_DEVICE {

using namespace loss;

namespace {

constexpr int kFinishThreads = 1024;
constexpr int kSums = 5;  // dot, p2, t2, l1, mse: DistillSums

/// Float32 sums of a few elements, on their way into double ones.
struct Sums {
  float dot = 0, p2 = 0, t2 = 0, l1 = 0, mse = 0;

  __device__ __forceinline__ void add(float p, float t) {
    const float d = p - t, size = fabsf(d), inner = fminf(size, 1.0f);
    dot = fmaf(p, t, dot);
    p2 = fmaf(p, p, p2);
    t2 = fmaf(t, t, t2);
    l1 = fmaf(inner, fmaf(-0.5f, inner, size), l1);  // size < 1: size²/2, else size - 1/2
    mse = fmaf(d, d, mse);
  }
  __device__ __forceinline__ void flush(double (&sums)[kSums]) const {
    sums[0] += dot;
    sums[1] += p2;
    sums[2] += t2;
    sums[3] += l1;
    sums[4] += mse;
  }
};

/// Three blocks a multiprocessor; where p and t are both float32 that would spill.
template <class P, class T>
__global__ void __launch_bounds__(kThreads, P::kBytes + T::kBytes < 64 ? 3 : 2)
    sums_kernel(P p, T t, const __grid_constant__ Cut cut, double* partial) {
  constexpr int kWidth = P::kWidth, kBatch = 2;  // rows whose loads are under way together; 16 additions in float32
  THEIA_SHARED(double, shared, [kThreads / kWarp * kSums]);
  for (int64_t work = blockIdx.x; work < cut.work; work += gridDim.x) {
    Part part = part_of(cut, work, kWidth);
    double sums[kSums] = {0, 0, 0, 0, 0};
    if (part.count > 0) {
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
        Sums few;
#pragma unroll
        for (int r = 0; r < kBatch; ++r) {
          if (r >= part.count) continue;
#pragma unroll
          for (int k = 0; k < kWidth; ++k) few.add(x[r].get(k), normal.of(y[r].get(k), k));
        }
        few.flush(sums);
      }
    }
    block_sum(sums, shared);
    if (threadIdx.x == 0)
      for (int k = 0; k < kSums; ++k) partial[work * kSums + k] = sums[k];
  }
}

/// One block: first a warp a sample adds up, then a thread a sample takes the cosine.
__global__ void __launch_bounds__(kFinishThreads)
    finish_kernel(const double* partial, int64_t each, int64_t samples, double elements, double* stats, float* terms) {
  THEIA_SHARED(double, shared, [kFinishThreads / kWarp * 4]);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  double sums[4] = {0, 0, 0, 0};  // cosines, l1, mse, samples that are not finite
  for (int64_t b = threadIdx.x / kWarp; b < samples; b += kFinishThreads / kWarp) {
    double own[kSums] = {0, 0, 0, 0, 0};
    for (int64_t i = lane; i < each; i += kWarp)
      for (int k = 0; k < kSums; ++k) own[k] += partial[(b * each + i) * kSums + k];
    for (int k = 0; k < kSums; ++k) own[k] = warp_sum(own[k]);
    if (lane != 0) continue;  // the loop's condition is the warp's, not the lane's
    for (int k = 0; k < 3; ++k) stats[3 * b + k] = own[k];
    sums[1] += own[3];
    sums[2] += own[4];
  }
  __syncthreads();
  for (int64_t b = threadIdx.x; b < samples; b += kFinishThreads) {
    const double dot = stats[3 * b], p2 = stats[3 * b + 1], t2 = stats[3 * b + 2];
    sums[0] += 1.0 - cosine(dot, p2, t2).value;
    sums[3] += finite(dot) && finite(p2) && finite(t2) ? 0 : 1;
  }
  block_sum(sums, shared);
  if (threadIdx.x != 0) return;
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  const bool good = sums[3] == 0;
  terms[0] = good ? static_cast<float>(sums[0] / static_cast<double>(samples)) : kNaN;
  terms[1] = good ? static_cast<float>(sums[1] / elements) : kNaN;
  terms[2] = good ? static_cast<float>(sums[2] / elements) : kNaN;
}

}  // namespace

int64_t distill_loss_workspace(const DistillLossArgs& a, const DeviceInfo&) {
  // Addresses are not known yet, and a narrow cut may be taken for them alone.
  const int64_t narrow = cut_of(a, 1).work, by_eight = a.p.size[2] % 8 ? 0 : cut_of(a, 8).work;
  return (narrow > by_eight ? narrow : by_eight) * kSums * static_cast<int64_t>(sizeof(double));
}

void distill_loss(const DistillLossArgs& a, const DeviceContext& context) {
  double* const partial = reinterpret_cast<double*>(context.workspace);
  const bool by_eight = wide(a);
  const Cut cut = cut_of(a, by_eight ? 8 : 1);
  with_streams(a.p.dtype, a.t.dtype, by_eight, [&]<class P, class T>(P* p, T* t) {
    launch("distill_loss sums", sums_kernel<P, T>, grid_of(cut, *context.info), dim3(cut.threads), 0, context, stream_of(a.p, p),
           stream_of(a.t, t), cut, partial);
  });
  launch("distill_loss", finish_kernel, dim3(1), dim3(kFinishThreads), 0, context, partial, cut.chunks * cut.tiles, a.p.size[0],
         static_cast<double>(a.p.numel()), a.stats.ptr<double>(), a.terms.ptr<float>());
}

}  // namespace theia::THEIA_DEVICE
