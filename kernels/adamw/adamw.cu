// The whole arena in one launch: a block takes one span of it and walks the segments there. Elements do not meet, so there is neither a
// barrier nor shared memory, and the bits do not depend on the cut. The arithmetic is adamw_cpu.cpp's, to the bit.
#include "kernels/adamw/adamw.h"
#include "kernels/adamw/segments.cuh"
#include "kernels/cuda/runtime.h"
#include "kernels/ptx/convert.h"

namespace theia::THEIA_DEVICE {

namespace {

constexpr int kThreads = 256;
constexpr int64_t kLeastSpan = 2048;  // elements: two vectors a thread
// Five blocks fit a multiprocessor by their registers: 1,280 threads with four loads of 16 bytes each, more than memory's latency needs.
// Four rounds of them even out what segments that are off leave undone.
constexpr int64_t kBlocksPerUnit = 20;

struct Arena {
  float* param;
  const float* grad;
  float *avg, *sq;
  bf16* weights;  // or null
  const float* clip;
  SegmentTable table;
  int64_t span;
  float weight, beta2, value, eps;
};

struct Step {
  float clip, weight, beta2, value, eps, decay, step, correction;

  /// What is fused and what is rounded follows PyTorch's CPU kernels: lerp and addcmul fuse, mul and addcdiv do not.
  __device__ __forceinline__ void of(float grad, float& param, float& avg, float& sq) const {
    const float g = __fmul_rn(grad, clip), way = __fadd_rn(g, -avg);
    avg = weight < 0.5f ? __fmaf_rn(weight, way, avg) : __fmaf_rn(__fadd_rn(weight, -1.0f), way, g);
    sq = __fmaf_rn(__fmul_rn(value, g), g, __fmul_rn(sq, beta2));
    const float below = __fadd_rn(__fdiv_rn(__fsqrt_rn(sq), correction), eps);
    param = __fadd_rn(__fmul_rn(param, decay), __fdiv_rn(__fmul_rn(step, avg), below));
  }
};

__device__ __forceinline__ void update_one(const Arena& a, const Step& step, int64_t i) {
  float p = a.param[i], m = a.avg[i], v = a.sq[i];
  step.of(a.grad[i], p, m, v);
  a.param[i] = p;
  a.avg[i] = m;
  a.sq[i] = v;
  if (a.weights) a.weights[i] = to_bf16(p);
}

__device__ __forceinline__ float4& four(float* p) { return *reinterpret_cast<float4*>(p); }
__device__ __forceinline__ float4 four(const float* p) { return *reinterpret_cast<const float4*>(p); }

__device__ __forceinline__ void update_four(const Arena& a, const Step& step, int64_t i) {
  const float4 g = four(a.grad + i);
  float4 p = four(a.param + i), m = four(a.avg + i), v = four(a.sq + i);
  step.of(g.x, p.x, m.x, v.x);
  step.of(g.y, p.y, m.y, v.y);
  step.of(g.z, p.z, m.z, v.z);
  step.of(g.w, p.w, m.w, v.w);
  four(a.param + i) = p;
  four(a.avg + i) = m;
  four(a.sq + i) = v;
  if (a.weights) *reinterpret_cast<uint2*>(a.weights + i) = make_uint2(ptx::pack_bf16(p.x, p.y), ptx::pack_bf16(p.z, p.w));
}

/// kWidth 4: all arenas start at 16 bytes (the copy of the weights at 8). Fours then lie at multiples of four of the arena; those that a
/// segment's ends cut go one by one.
template <int kWidth>
__global__ void __launch_bounds__(kThreads) adamw_kernel(const __grid_constant__ Arena a) {
  const float clip = *a.clip;
  if (clip != clip) return;  // no finite norm: nothing at all is touched
  Step step{clip, a.weight, a.beta2, a.value, a.eps, 1.0f, 0.0f, 1.0f};
  const int64_t begin = blockIdx.x * a.span, end = begin + a.span < a.table.total ? begin + a.span : a.table.total;
  SegmentPiece piece;
  for (DeviceWalk walk(a.table, begin, end); walk.next(piece);) {
    const float* const slot = a.table.slots + piece.slot * kSegmentColumns;
    step.decay = piece.decay ? slot[0] : 1.0f;
    step.step = -slot[1];
    step.correction = slot[2];
    for (int64_t i = (piece.first / kWidth + threadIdx.x) * kWidth; i < piece.last; i += kThreads * kWidth) {
      if (kWidth == 4 && i >= piece.first && i + kWidth <= piece.last) {
        update_four(a, step, i);
        continue;
      }
      for (int64_t k = i < piece.first ? piece.first : i; k < i + kWidth && k < piece.last; ++k) update_one(a, step, k);
    }
  }
}

bool aligned(const void* p, uintptr_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

}  // namespace

void adamw(const AdamwArgs& args, const DeviceContext& context) {
  Arena a{};
  const int64_t total = args.param.size[0];
  if (total == 0) return;
  a.param = args.param.ptr<float>();
  a.grad = args.grad.ptr<float>();
  a.avg = args.exp_avg.ptr<float>();
  a.sq = args.exp_avg_sq.ptr<float>();
  a.weights = args.weights.present() ? args.weights.ptr<bf16>() : nullptr;
  a.clip = args.clip_factor.ptr<float>();
  a.table = segment_table(args.segments, args.slots, total);
  a.weight = static_cast<float>(1 - args.beta1);
  a.beta2 = static_cast<float>(args.beta2);
  a.value = static_cast<float>(1 - args.beta2);
  a.eps = static_cast<float>(args.eps);

  const int64_t most = context.info->multiprocessors * kBlocksPerUnit, wanted = ceil_div(total, kLeastSpan);
  a.span = round_up(ceil_div(total, wanted < most ? wanted : most), kLeastSpan);
  const dim3 grid(static_cast<unsigned>(ceil_div(total, a.span)));
  const bool wide = aligned(a.param, 16) && aligned(a.grad, 16) && aligned(a.avg, 16) && aligned(a.sq, 16) && aligned(a.weights, 8);
  launch("adamw", wide ? adamw_kernel<4> : adamw_kernel<1>, grid, dim3(kThreads), 0, context, a);
}

}  // namespace theia::THEIA_DEVICE
