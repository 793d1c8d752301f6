// Backward of layernorm_map: a pass over x and dy for each sample's Σg and Σ g·xhat and, in the same read, for dgamma and dbeta, which add
// up the samples in their order; then a pass that writes dx. Where a map has too few slices to fill the device the batch is cut into
// groups, each with gradients of its own in the workspace, and sum_rows adds those up in their order.
#include "kernels/cuda/four.cuh"
#include "kernels/cuda/sum_rows.cuh"
#include "kernels/cuda/sums.cuh"
#include "kernels/layernorm_map/layernorm_map.h"
#include "kernels/layernorm_map/map.cuh"

namespace theia::THEIA_DEVICE {

namespace {

/// The batch in groups, by shape alone: as many as make 800 blocks, none smaller than 8 samples.
struct Groups {
  int64_t samples, count;  // of a group; groups
};
Groups groups_of(int64_t batch, int64_t length) {
  constexpr int64_t kBlocks = 800;
  const int64_t wanted = ceil_div(kBlocks, ceil_div(length, kMapSlice)), most = ceil_div(batch, kMapGroup);
  const int64_t samples = ceil_div(batch, wanted < most ? wanted : most);
  return {samples, ceil_div(batch, samples)};
}

struct Backward {
  Stream x, dy, dx;
  const float *gamma, *mean, *rstd;
  float2* partial;        // [batch][slices]: Σg, Σ g·xhat
  const float2* totals;   // [batch]: mean(g), mean(g·xhat)
  float *dgamma, *dbeta;  // of group g at dgamma + g * 2 * length; null: not wanted
  int64_t batch, length, samples;
  bool accumulate, relu;
};

template <bool kWide>
__global__ void __launch_bounds__(kMapThreads) map_sums(const __grid_constant__ Backward a) {
  THEIA_SHARED(float, scratch, [2][kMapWarps][2 * kMapTogether]);
  const int thread = threadIdx.x, lane = thread % kWarp, warp = thread / kWarp;
  const int64_t slices = ceil_div(a.length, kMapSlice), items = slices * ceil_div(a.batch, a.samples);
  int turn = 0;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t group = item / slices, slice = item - group * slices, begin = slice * kMapSlice, left = a.length - begin;
    const int64_t first = group * a.samples, end = first + a.samples < a.batch ? first + a.samples : a.batch;
    float gamma[4], dgamma[4] = {}, dbeta[4] = {};
    read<kWide, kMapThreads>(a.gamma, begin, thread, left, gamma);
    for (int64_t sample = first; sample < end; sample += kMapTogether) {
      Four raw[kMapTogether], more[kMapTogether];
#pragma unroll
      for (int s = 0; s < kMapTogether; ++s) {
        const int64_t start = (sample + s) * a.length + begin, here = sample + s < end ? left : 0;
        raw[s] = fetch<kWide, kMapThreads>(a.x, start, thread, here);
        more[s] = fetch<kWide, kMapThreads>(a.dy, start, thread, here);
      }
      float sums[2 * kMapTogether];  // Σg and Σ g·xhat of each sample
#pragma unroll
      for (int s = 0; s < kMapTogether; ++s) {
        sums[2 * s] = sums[2 * s + 1] = 0;
        if (sample + s >= end) continue;
        const float mean = a.mean[sample + s], rstd = a.rstd[sample + s];
        float x[4], dy[4];
        unpack<kWide>(a.x, raw[s], x);
        unpack<kWide>(a.dy, more[s], dy);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          if (element_at<kWide, kMapThreads>(thread, k) >= left) continue;
          const float xhat = (x[k] - mean) * rstd, g = dy[k] * gamma[k];
          sums[2 * s] += g;
          sums[2 * s + 1] = fmaf(g, xhat, sums[2 * s + 1]);
          dgamma[k] = fmaf(dy[k], xhat, dgamma[k]);
          dbeta[k] += dy[k];
        }
      }
      const float sum = warp_sum_of_8(sums, lane);
      if (lane % 4 == 0) scratch[turn][warp][lane / 4] = sum;
      __syncthreads();
      if (thread < 2 * kMapTogether && sample + thread / 2 < end) {
        float total = scratch[turn][0][thread];
#pragma unroll
        for (int w = 1; w < kMapWarps; ++w) total += scratch[turn][w][thread];
        reinterpret_cast<float*>(a.partial + (sample + thread / 2) * slices + slice)[thread % 2] = total;
      }
      turn ^= 1;  // the next four samples write elsewhere, so that one barrier is enough
    }
    if (!a.dgamma) continue;
    const int64_t at = group * 2 * a.length + begin;
    if (a.accumulate) {
      float before[4];
      read<kWide, kMapThreads>(a.dgamma, at, thread, left, before);
#pragma unroll
      for (int k = 0; k < 4; ++k) dgamma[k] += before[k];
      read<kWide, kMapThreads>(a.dbeta, at, thread, left, before);
#pragma unroll
      for (int k = 0; k < 4; ++k) dbeta[k] += before[k];
    }
    write<kWide, kMapThreads>(a.dgamma, at, thread, left, dgamma);
    write<kWide, kMapThreads>(a.dbeta, at, thread, left, dbeta);
  }
}

/// One block a sample: what its slices add up to, as means.
__global__ void __launch_bounds__(kMapThreads)
    map_means(const float2* partial, int64_t slices, int64_t batch, int64_t length, float2* totals) {
  THEIA_SHARED(double, scratch, [2 * kMapWarps]);
  for (int64_t sample = blockIdx.x; sample < batch; sample += gridDim.x) {
    double first = 0, second = 0;
    for (int64_t i = threadIdx.x; i < slices; i += kMapThreads) {
      const float2 p = partial[sample * slices + i];
      first += double{p.x};
      second += double{p.y};
    }
    block_sum<kMapWarps>(first, second, scratch);
    if (threadIdx.x == 0)
      totals[sample] =
          make_float2(static_cast<float>(first / static_cast<double>(length)), static_cast<float>(second / static_cast<double>(length)));
  }
}

template <bool kWide>
__global__ void __launch_bounds__(kMapThreads) map_gradient(const __grid_constant__ Backward a) {
  const int thread = threadIdx.x;
  const int64_t slices = ceil_div(a.length, kMapSlice), items = slices * ceil_div(a.batch, kMapGroup);
  for (int64_t i = blockIdx.x; i < items; i += gridDim.x) {
    const int64_t item = items - 1 - i;  // what the sums read last is still in L2
    const int64_t group = item / slices, begin = (item - group * slices) * kMapSlice, left = a.length - begin;
    const int64_t end = (group + 1) * kMapGroup < a.batch ? (group + 1) * kMapGroup : a.batch;
    float gamma[4];
    read<kWide, kMapThreads>(a.gamma, begin, thread, left, gamma);
    for (int64_t sample = group * kMapGroup; sample < end; sample += kMapTogether) {
      Four raw[kMapTogether], more[kMapTogether];
#pragma unroll
      for (int s = 0; s < kMapTogether; ++s) {
        const int64_t start = (sample + s) * a.length + begin, here = sample + s < end ? left : 0;
        raw[s] = fetch<kWide, kMapThreads>(a.x, start, thread, here);
        more[s] = fetch<kWide, kMapThreads>(a.dy, start, thread, here);
      }
#pragma unroll
      for (int s = 0; s < kMapTogether; ++s) {
        if (sample + s >= end) break;
        const float mean = a.mean[sample + s], rstd = a.rstd[sample + s];
        const float2 total = a.totals[sample + s];
        float x[4], d[4];
        unpack<kWide>(a.x, raw[s], x);
        unpack<kWide>(a.dy, more[s], d);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          d[k] = rstd * fmaf(-((x[k] - mean) * rstd), total.y, fmaf(d[k], gamma[k], -total.x));
          if (a.relu && x[k] <= 0) d[k] = 0;
        }
        put<kWide, kMapThreads>(a.dx, (sample + s) * a.length + begin, thread, left, d);
      }
    }
  }
}

struct Layout {  // of the workspace, in bytes from its start
  int64_t totals, partial, gradients, end;
};
Layout layout_of(const LayernormMapGradArgs& a) {
  const int64_t batch = a.x.size[0], length = a.x.size[1], groups = batch > 0 ? groups_of(batch, length).count : 0;
  Layout l{};
  l.partial = round_up(batch * static_cast<int64_t>(sizeof(float2)), 256);
  l.gradients = l.partial + round_up(batch * ceil_div(length, kMapSlice) * static_cast<int64_t>(sizeof(float2)), 256);
  l.end = l.gradients + (a.dgamma.present() && groups > 1 ? groups * 2 * length * static_cast<int64_t>(sizeof(float)) : 0);
  return l;
}

}  // namespace

int64_t layernorm_map_grad_workspace(const LayernormMapGradArgs& a, const DeviceInfo&) { return layout_of(a).end; }

void layernorm_map_grad(const LayernormMapGradArgs& a, const DeviceContext& context) {
  constexpr const char* op = "layernorm_map_grad";
  const int64_t batch = a.x.size[0], length = a.x.size[1], slices = ceil_div(length, kMapSlice);
  float* into[2] = {a.dgamma.present() ? a.dgamma.ptr<float>() : nullptr, a.dgamma.present() ? a.dbeta.ptr<float>() : nullptr};
  if (batch == 0) {  // the gradient of the parameters is that of no samples
    if (into[0]) launch_sum_rows(op, nullptr, 0, length, into[0], into[1], a.accumulate != 0, context);
    return;
  }
  const Layout l = layout_of(a);
  const Groups groups = groups_of(batch, length);
  const bool direct = groups.count == 1;
  float* gradients = reinterpret_cast<float*>(context.workspace + l.gradients);
  float2* totals = reinterpret_cast<float2*>(context.workspace + l.totals);
  Backward b{};
  b.x = stream_of(a.x);
  b.dy = stream_of(a.dy);
  b.dx = stream_of(a.dx);
  b.gamma = a.gamma.ptr<float>();
  b.mean = a.mean.ptr<float>();
  b.rstd = a.rstd.ptr<float>();
  b.partial = reinterpret_cast<float2*>(context.workspace + l.partial);
  b.totals = totals;
  b.dgamma = !into[0] || direct ? into[0] : gradients;
  b.dbeta = !into[0] || direct ? into[1] : gradients + length;
  b.batch = batch;
  b.length = length;
  b.samples = groups.samples;
  b.accumulate = direct && a.accumulate != 0;
  b.relu = a.relu != 0;
  const bool wide = in_fours(a.x) && in_fours(a.dy) && in_fours(a.gamma);
  const bool wide_sums = wide && (!direct || (in_fours(a.dgamma) && in_fours(a.dbeta)));
  launch(op, wide_sums ? map_sums<true> : map_sums<false>, dim3(fold(slices * groups.count)), dim3(kMapThreads), 0, context, b);
  launch(op, map_means, dim3(fold(batch)), dim3(kMapThreads), 0, context, b.partial, slices, batch, length, totals);
  launch(op, wide && in_fours(a.dx) ? map_gradient<true> : map_gradient<false>, dim3(fold(slices * ceil_div(batch, kMapGroup))),
         dim3(kMapThreads), 0, context, b);
  if (into[0] && !direct) launch_sum_rows(op, gradients, groups.count, length, into[0], into[1], a.accumulate != 0, context);
}

}  // namespace theia::THEIA_DEVICE
