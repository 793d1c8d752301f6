// The float32 path, for checking the others: plain multiply-adds, probabilities from the row's own maximum as in the CPU's plain variant. A
// warp has one query (or key) and passes over the other side 32 rows at a time: a lane computes one score, then the lanes share the
// channels.
#include <cmath>

#include "kernels/attention/launch.cuh"

namespace theia::THEIA_DEVICE::heads {

namespace {

constexpr int kRows = 4;  // warps a block
constexpr int kChannels = kMaxHeadDim / kWarp;

struct Exact {
  Tokens<const float> q, k, v, out, dout;
  Tokens<float> y, dq, dk, dv;
  float *lse, *delta;  // [B,H,N]; delta: workspace
  int64_t queries, keys, heads;
  int first_batch, first_head, hd;
  float scale;
};

__device__ __forceinline__ float dot(const float* a, const float* b, int hd) {
  float sum = 0;
  for (int i = 0; i < hd; ++i) sum = fmaf(a[i], b[i], sum);
  return sum;
}

/// sums[c] += Σ weights[j] · rows[j][lane + 32c] over `count` rows, in their order.
__device__ __forceinline__ void gather(float (&sums)[kChannels], const float (&weights)[kWarp], const float* rows, int64_t stride,
                                       int count, int hd, int lane) {
  for (int j = 0; j < count; ++j) {
#pragma unroll
    for (int c = 0; c < kChannels; ++c)
      if (lane + c * kWarp < hd) sums[c] = fmaf(weights[j], rows[j * stride + lane + c * kWarp], sums[c]);
  }
}

__device__ __forceinline__ void put(float* to, const float (&sums)[kChannels], int hd, int lane) {
#pragma unroll
  for (int c = 0; c < kChannels; ++c)
    if (lane + c * kWarp < hd) to[lane + c * kWarp] = sums[c];
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kFullMask, x, step);
  return x;
}

__device__ __forceinline__ int rows_from(int64_t first, int64_t count) { return static_cast<int>(min(count - first, int64_t{kWarp})); }

__global__ void __launch_bounds__(kWarp* kRows) forward(const __grid_constant__ Exact p) {
  const int lane = threadIdx.x % kWarp;
  const int b = p.first_batch + static_cast<int>(blockIdx.z), h = p.first_head + static_cast<int>(blockIdx.y);
  const int64_t n = int64_t{kRows} * blockIdx.x + threadIdx.x / kWarp;
  if (n >= p.queries) return;  // a whole warp
  const float *q = p.q.of(b, h) + n * p.q.token, *k = p.k.of(b, h), *v = p.v.of(b, h);
  THEIA_SHARED(float, shared, [kRows][kWarp]);
  float(&weights)[kWarp] = shared[threadIdx.x / kWarp];
  float max = -INFINITY;
  for (int64_t m = lane; m < p.keys; m += kWarp) max = fmaxf(max, p.scale * dot(q, k + m * p.k.token, p.hd));
#pragma unroll
  for (int step = 16; step > 0; step /= 2) max = fmaxf(max, __shfl_xor_sync(kFullMask, max, step));
  float sum = 0, out[kChannels] = {};
  for (int64_t m = 0; m < p.keys; m += kWarp) {
    const int count = rows_from(m, p.keys);
    const float weight = lane < count ? expf(__fmul_rn(p.scale, dot(q, k + (m + lane) * p.k.token, p.hd)) - max) : 0;
    sum += weight;
    weights[lane] = weight;
    __syncwarp();
    gather(out, weights, v + m * p.v.token, p.v.token, count, p.hd, lane);
    __syncwarp();
  }
  sum = warp_sum(sum);
#pragma unroll
  for (int c = 0; c < kChannels; ++c) out[c] /= sum;
  put(p.y.of(b, h) + n * p.y.token, out, p.hd, lane);
  if (lane == 0) p.lse[(b * p.heads + h) * p.queries + n] = max + logf(sum);
}

__global__ void __launch_bounds__(kWarp* kRows) query_gradient(const __grid_constant__ Exact p) {
  const int lane = threadIdx.x % kWarp;
  const int b = p.first_batch + static_cast<int>(blockIdx.z), h = p.first_head + static_cast<int>(blockIdx.y);
  const int64_t n = int64_t{kRows} * blockIdx.x + threadIdx.x / kWarp;
  if (n >= p.queries) return;  // a whole warp
  const float *q = p.q.of(b, h) + n * p.q.token, *dout = p.dout.of(b, h) + n * p.dout.token, *k = p.k.of(b, h), *v = p.v.of(b, h);
  const int64_t at = (b * p.heads + h) * p.queries + n;
  const float lse = p.lse[at], delta = dot(dout, p.out.of(b, h) + n * p.out.token, p.hd);
  if (lane == 0) p.delta[at] = delta;
  THEIA_SHARED(float, shared, [kRows][kWarp]);
  float(&weights)[kWarp] = shared[threadIdx.x / kWarp];
  float dq[kChannels] = {};
  for (int64_t m = 0; m < p.keys; m += kWarp) {
    const int count = rows_from(m, p.keys);
    float ds = 0;
    if (lane < count) {
      const float weight = expf(__fmul_rn(p.scale, dot(q, k + (m + lane) * p.k.token, p.hd)) - lse);
      ds = p.scale * weight * (dot(dout, v + (m + lane) * p.v.token, p.hd) - delta);
    }
    weights[lane] = ds;
    __syncwarp();
    gather(dq, weights, k + m * p.k.token, p.k.token, count, p.hd, lane);
    __syncwarp();
  }
  put(p.dq.of(b, h) + n * p.dq.token, dq, p.hd, lane);
}

__global__ void __launch_bounds__(kWarp* kRows) key_gradients(const __grid_constant__ Exact p) {
  const int lane = threadIdx.x % kWarp;
  const int b = p.first_batch + static_cast<int>(blockIdx.z), h = p.first_head + static_cast<int>(blockIdx.y);
  const int64_t m = int64_t{kRows} * blockIdx.x + threadIdx.x / kWarp;
  if (m >= p.keys) return;  // a whole warp
  const float *k = p.k.of(b, h) + m * p.k.token, *v = p.v.of(b, h) + m * p.v.token, *q = p.q.of(b, h), *dout = p.dout.of(b, h);
  const int64_t row = (b * p.heads + h) * p.queries;
  THEIA_SHARED(float, shared, [kRows][2][kWarp]);
  float(&weights)[2][kWarp] = shared[threadIdx.x / kWarp];
  float dk[kChannels] = {}, dv[kChannels] = {};
  for (int64_t n = 0; n < p.queries; n += kWarp) {
    const int count = rows_from(n, p.queries);
    float weight = 0, ds = 0;
    if (lane < count) {
      weight = expf(__fmul_rn(p.scale, dot(k, q + (n + lane) * p.q.token, p.hd)) - p.lse[row + n + lane]);
      ds = p.scale * weight * (dot(v, dout + (n + lane) * p.dout.token, p.hd) - p.delta[row + n + lane]);
    }
    weights[0][lane] = ds;
    weights[1][lane] = weight;
    __syncwarp();
    gather(dk, weights[0], q + n * p.q.token, p.q.token, count, p.hd, lane);
    gather(dv, weights[1], dout + n * p.dout.token, p.dout.token, count, p.hd, lane);
    __syncwarp();
  }
  put(p.dk.of(b, h) + m * p.dk.token, dk, p.hd, lane);
  put(p.dv.of(b, h) + m * p.dv.token, dv, p.hd, lane);
}

template <class Args>
Exact exact_of(const Args& a) {
  Exact p{};
  p.q = tokens_of<const float>(a.q);
  p.k = tokens_of<const float>(a.k);
  p.v = tokens_of<const float>(a.v);
  p.lse = a.lse.template ptr<float>();
  p.queries = a.q.size[1];
  p.keys = a.k.size[1];
  p.heads = a.q.size[2];
  p.hd = static_cast<int>(a.q.size[3]);
  p.scale = static_cast<float>(a.scale);
  return p;
}

void start(const char* name, void (*kernel)(Exact), Exact p, int64_t rows, int64_t batch, const DeviceContext& context) {
  each_grid(ceil_div(rows, kRows), p.heads, batch, [&](dim3 grid, int first_batch, int first_head) {
    p.first_batch = first_batch;
    p.first_head = first_head;
    launch(name, kernel, grid, dim3(kWarp * kRows), 0, context, p);
  });
}

}  // namespace

void exact(const AttentionArgs& a, const DeviceContext& context) {
  Exact p = exact_of(a);
  p.y = tokens_of<float>(a.out);
  start("attention", forward, p, p.queries, a.q.size[0], context);
}

int64_t exact_workspace(const AttentionGradArgs& a) { return a.lse.numel() * static_cast<int64_t>(sizeof(float)); }

void exact(const AttentionGradArgs& a, const DeviceContext& context) {
  Exact p = exact_of(a);
  p.out = tokens_of<const float>(a.out);
  p.dout = tokens_of<const float>(a.dout);
  p.dq = tokens_of<float>(a.dq);
  p.dk = tokens_of<float>(a.dk);
  p.dv = tokens_of<float>(a.dv);
  p.delta = reinterpret_cast<float*>(context.workspace);
  start("attention_grad", query_gradient, p, p.queries, a.q.size[0], context);
  start("attention_grad", key_gradients, p, p.keys, a.q.size[0], context);
}

}  // namespace theia::THEIA_DEVICE::heads
