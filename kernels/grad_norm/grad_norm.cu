// Two launches: sums of squares chunk by chunk of the arena, then the norm and the factor by one block. Squares and sums are double.
#include <limits>

#include "kernels/adamw/segments.cuh"
#include "kernels/cuda/block_sum.cuh"
#include "kernels/cuda/runtime.h"
#include "kernels/grad_norm/grad_norm.h"

namespace theia::THEIA_DEVICE {

namespace {

constexpr int kThreads = 256;
constexpr int64_t kChunk = 1 << 14;  // elements: 16 vectors a thread. Cut by the arena alone: the same sums on every GPU
constexpr int64_t kBlocksPerUnit = 8;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

__device__ __forceinline__ double squared(double x) { return x * x; }

/// kWidth 4: the arena starts at 16 bytes. Fours that a segment's ends cut go one by one.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    squares_kernel(const float* grad, const __grid_constant__ SegmentTable table, double* sums, int64_t chunks) {
  THEIA_SHARED(double, shared, [kThreads / kWarp]);
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const int64_t begin = chunk * kChunk, end = begin + kChunk < table.total ? begin + kChunk : table.total;
    double sum[1] = {0};
    SegmentPiece piece;
    for (DeviceWalk walk(table, begin, end); walk.next(piece);)
      for (int64_t i = (piece.first / kWidth + threadIdx.x) * kWidth; i < piece.last; i += kThreads * kWidth) {
        if (kWidth == 4 && i >= piece.first && i + kWidth <= piece.last) {
          const float4 g = *reinterpret_cast<const float4*>(grad + i);
          sum[0] += (squared(g.x) + squared(g.y)) + (squared(g.z) + squared(g.w));
          continue;
        }
        for (int64_t k = i < piece.first ? piece.first : i; k < i + kWidth && k < piece.last; ++k) sum[0] += squared(grad[k]);
      }
    block_sum(sum, shared);
    if (threadIdx.x == 0) sums[chunk] = sum[0];
  }
}

__global__ void __launch_bounds__(kThreads)
    norm_kernel(const double* sums, int64_t chunks, const float* limit, double* norm_out, float* factor_out) {
  THEIA_SHARED(double, shared, [kThreads / kWarp]);
  double sum[1] = {0};
  for (int64_t i = threadIdx.x; i < chunks; i += kThreads) sum[0] += sums[i];
  block_sum(sum, shared);
  if (threadIdx.x != 0) return;
  const double norm = sqrt(sum[0]), most = *limit;
  double factor = 1;
  if (norm - norm != 0 || most != most)
    factor = kNaN;  // NaN: not finite, or no limit to speak of
  else if (most > 0 && most / (norm + 1e-6) < 1)
    factor = most / (norm + 1e-6);
  *norm_out = norm;
  *factor_out = static_cast<float>(factor);
}

int64_t chunks_of(const GradNormArgs& a) { return ceil_div(a.grad.size[0], kChunk); }

}  // namespace

int64_t grad_norm_workspace(const GradNormArgs& a, const DeviceInfo&) { return chunks_of(a) * static_cast<int64_t>(sizeof(double)); }

void grad_norm(const GradNormArgs& a, const DeviceContext& context) {
  const int64_t chunks = chunks_of(a), most = context.info->multiprocessors * kBlocksPerUnit;
  const float* const grad = a.grad.ptr<float>();
  double* const sums = reinterpret_cast<double*>(context.workspace);
  const dim3 grid(static_cast<unsigned>(chunks < most ? chunks : most));
  const bool wide = reinterpret_cast<uintptr_t>(grad) % 16 == 0;
  launch("grad_norm squares", wide ? squares_kernel<4> : squares_kernel<1>, grid, dim3(kThreads), 0, context, grad,
         segment_table(a.segments, a.slots, a.grad.size[0]), sums, chunks);
  launch("grad_norm", norm_kernel, dim3(1), dim3(kThreads), 0, context, sums, chunks, a.limit.ptr<float>(), a.norm.ptr<double>(),
         a.clip_factor.ptr<float>());
}

}  // namespace theia::THEIA_DEVICE
