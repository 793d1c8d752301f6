// LayerNorm over whole maps: statistics of runs, which stay in registers for their second look; the runs of a sample combined by one block;
// then slices of all samples normalised, eight samples to each trip of gamma and beta, which are as large as a sample of float32.
#include "kernels/layernorm_map/layernorm_map.h"

#include "kernels/cuda/four.cuh"
#include "kernels/cuda/sums.cuh"
#include "kernels/layernorm_map/map.cuh"

namespace theia::THEIA_DEVICE {

namespace {

/// Slices of a run: 8 (8192 elements) where that gives every multiprocessor work, else 2. By shape alone.
constexpr int kRunSlices = 8, kShortRunSlices = 2;
int64_t run_of(int64_t batch, int64_t length) {
  const int64_t runs = batch * ceil_div(length, kRunSlices * kMapSlice);
  return (runs >= 256 ? kRunSlices : kShortRunSlices) * kMapSlice;
}

struct Runs {
  Stream x;
  int64_t batch, length, run;
  MapMoments* moments;  // [batch][runs]
};

template <bool kWide>
__global__ void __launch_bounds__(kMapThreads) map_moments(const __grid_constant__ Runs a) {
  THEIA_SHARED(float, scratch, [2 * kMapWarps]);
  const int thread = threadIdx.x;
  const int64_t runs = ceil_div(a.length, a.run);
  for (int64_t item = blockIdx.x; item < a.batch * runs; item += gridDim.x) {
    const int64_t sample = item / runs, begin = (item - sample * runs) * a.run;
    const int count = static_cast<int>(a.length - begin < a.run ? a.length - begin : a.run);
    const int64_t start = sample * a.length + begin;
    float v[kRunSlices][4];
    {
      Four raw[kRunSlices];
#pragma unroll
      for (int s = 0; s < kRunSlices; ++s) raw[s] = fetch<kWide, kMapThreads>(a.x, start + s * kMapSlice, thread, count - s * kMapSlice);
#pragma unroll
      for (int s = 0; s < kRunSlices; ++s) unpack<kWide>(a.x, raw[s], v[s]);
    }
    float sum = 0, none = 0;
#pragma unroll
    for (int s = 0; s < kRunSlices; ++s) sum += (v[s][0] + v[s][1]) + (v[s][2] + v[s][3]);  // 0 behind the end of the run
    block_sum<kMapWarps>(sum, none, scratch);
    const float about = sum / static_cast<float>(count);
    float deviations = 0, squares = 0;
#pragma unroll
    for (int s = 0; s < kRunSlices; ++s)
#pragma unroll
      for (int k = 0; k < 4; ++k)
        if (s * static_cast<int>(kMapSlice) + element_at<kWide, kMapThreads>(thread, k) < count) {
          const float d = v[s][k] - about;
          deviations += d;
          squares = fmaf(d, d, squares);
        }
    block_sum<kMapWarps>(deviations, squares, scratch);
    if (thread != 0) continue;
    // What rounding left in the mean is taken out of both, as in layernorm.
    const float rest = deviations / static_cast<float>(count);
    const float left = squares - rest * deviations;
    a.moments[item] = {static_cast<float>(count), about, rest, left < 0 ? 0.0f : left};
  }
}

/// One block a sample: mean and rstd of all its parts by Chan's formula, in double. A thread takes every 256th part.
__global__ void __launch_bounds__(kMapThreads) map_combine(const MapMoments* moments, int64_t parts, int64_t batch, int64_t length,
                                                           double eps, float2* totals, float* mean, float* rstd) {
  THEIA_SHARED(double, scratch, [2 * kMapWarps]);
  for (int64_t sample = blockIdx.x; sample < batch; sample += gridDim.x) {
    const MapMoments* of = moments + sample * parts;
    double sum = 0, squares = 0;
    for (int64_t i = threadIdx.x; i < parts; i += kMapThreads) sum += double{of[i].count} * (double{of[i].mean} + double{of[i].rest});
    block_sum<kMapWarps>(sum, squares, scratch);
    const double about = sum / static_cast<double>(length);
    double none = 0;
    for (int64_t i = threadIdx.x; i < parts; i += kMapThreads) {
      const double d = double{of[i].mean} + double{of[i].rest} - about;
      squares += double{of[i].squares} + double{of[i].count} * d * d;
    }
    block_sum<kMapWarps>(squares, none, scratch);
    if (threadIdx.x != 0) continue;
    totals[sample] = make_float2(static_cast<float>(about), static_cast<float>(1.0 / sqrt(squares / static_cast<double>(length) + eps)));
    if (!mean) continue;
    mean[sample] = totals[sample].x;
    rstd[sample] = totals[sample].y;
  }
}

struct Normalise {
  Stream x, y;
  const float *gamma, *beta;
  const float2* totals;  // mean and rstd
  int64_t batch, length;
};

template <bool kWide>
__global__ void __launch_bounds__(kMapThreads) map_normalise(const __grid_constant__ Normalise a) {
  const int thread = threadIdx.x;
  const int64_t slices = ceil_div(a.length, kMapSlice), items = slices * ceil_div(a.batch, kMapGroup);
  for (int64_t i = blockIdx.x; i < items; i += gridDim.x) {
    const int64_t item = items - 1 - i;  // what the statistics read last is still in L2
    const int64_t group = item / slices, begin = (item - group * slices) * kMapSlice, left = a.length - begin;
    const int64_t end = (group + 1) * kMapGroup < a.batch ? (group + 1) * kMapGroup : a.batch;
    float gamma[4], beta[4];
    read<kWide, kMapThreads>(a.gamma, begin, thread, left, gamma);
    read<kWide, kMapThreads>(a.beta, begin, thread, left, beta);
    for (int64_t sample = group * kMapGroup; sample < end; sample += kMapTogether) {
      Four raw[kMapTogether];
#pragma unroll
      for (int s = 0; s < kMapTogether; ++s)
        raw[s] = fetch<kWide, kMapThreads>(a.x, (sample + s) * a.length + begin, thread, sample + s < end ? left : 0);
#pragma unroll
      for (int s = 0; s < kMapTogether; ++s) {
        if (sample + s >= end) break;
        const float2 total = a.totals[sample + s];
        float v[4];
        unpack<kWide>(a.x, raw[s], v);
#pragma unroll
        for (int k = 0; k < 4; ++k) v[k] = fmaf((v[k] - total.x) * total.y, gamma[k], beta[k]);
        put<kWide, kMapThreads>(a.y, (sample + s) * a.length + begin, thread, left, v);
      }
    }
  }
}

}  // namespace

void layernorm_map_finish(const LayernormMapArgs& a, const MapMoments* moments, int64_t parts, float2* totals,
                          const DeviceContext& context) {
  const int64_t batch = a.x.size[0], length = a.x.size[1];
  launch("layernorm_map", map_combine, dim3(fold(batch)), dim3(kMapThreads), 0, context, moments, parts, batch, length, a.eps, totals,
         a.mean.present() ? a.mean.ptr<float>() : nullptr, a.mean.present() ? a.rstd.ptr<float>() : nullptr);
  const Normalise n{stream_of(a.x), stream_of(a.y), a.gamma.ptr<float>(), a.beta.ptr<float>(), totals, batch, length};
  const bool wide = in_fours(a.x) && in_fours(a.y) && in_fours(a.gamma) && in_fours(a.beta);
  launch("layernorm_map", wide ? map_normalise<true> : map_normalise<false>,
         dim3(fold(ceil_div(length, kMapSlice) * ceil_div(batch, kMapGroup))), dim3(kMapThreads), 0, context, n);
}

int64_t layernorm_map_workspace(const LayernormMapArgs& a, const DeviceInfo&) {
  const int64_t batch = a.x.size[0], length = a.x.size[1];
  return batch *
         (static_cast<int64_t>(sizeof(float2)) + ceil_div(length, run_of(batch, length)) * static_cast<int64_t>(sizeof(MapMoments)));
}

void layernorm_map(const LayernormMapArgs& a, const DeviceContext& context) {
  const int64_t batch = a.x.size[0], length = a.x.size[1], run = run_of(batch, length), runs = ceil_div(length, run);
  float2* totals = reinterpret_cast<float2*>(context.workspace);
  MapMoments* moments = reinterpret_cast<MapMoments*>(totals + batch);
  launch("layernorm_map", in_fours(a.x) ? map_moments<true> : map_moments<false>, dim3(fold(batch * runs)), dim3(kMapThreads), 0, context,
         Runs{stream_of(a.x), batch, length, run, moments});
  layernorm_map_finish(a, moments, runs, totals, context);
}

}  // namespace theia::THEIA_DEVICE
