// dy behind its ReLU, and its sums over all positions, in one pass: bytes of dy and y read once, dy written once.
#include "kernels/conv2d/window_device.h"
#include "kernels/cuda/runtime.h"
#include "kernels/ptx/convert.h"

namespace theia::THEIA_DEVICE {

namespace {

constexpr int kRows = 8;  // warps of a block: each takes every 8th position of the block's
constexpr int kThreads = kRows * kWarp;
constexpr int64_t kBandLeast = 64;  // positions a block takes, so that its sums are worth writing
constexpr int64_t kBandsMost = 256;

/// Neighbouring channels that are loaded and stored at once.
template <class T, int n>
struct alignas(sizeof(T) * n) Channels {
  T c[n];
  __device__ float get(int i) const { return to_float(c[i]); }
  __device__ void keep(int i, bool wanted) { c[i] = wanted ? c[i] : T{}; }
};
template <>
struct alignas(16) Channels<bf16, 8> {
  uint32_t pair[4];
  __device__ float get(int i) const { return i % 2 ? ptx::high_bf16(pair[i / 2]) : ptx::low_bf16(pair[i / 2]); }
  __device__ void keep(int i, bool wanted) { pair[i / 2] &= wanted ? 0xffffffffu : i % 2 ? 0xffffu : 0xffff0000u; }
};

struct Pass {
  const void *dy, *mask;
  void* masked;     // [positions][channels]
  float* partials;  // [bands][channels]
  uint32_t height, width;
  int64_t image, y, x;  // strides of dy and mask
  uint32_t positions, band;
  int64_t channels;
};

/// Grid (channels / (32·n), bands). Lane = n channels, warp = position.
template <class T, int n>
__global__ __launch_bounds__(kThreads) void pass_kernel(const __grid_constant__ Pass a) {
  THEIA_SHARED(float, sums, [kRows][kWarp * n]);
  const int lane = threadIdx.x % kWarp, row = threadIdx.x / kWarp;
  const int64_t channel = (static_cast<int64_t>(blockIdx.x) * kWarp + lane) * n;
  float sum[n] = {};
  if (channel < a.channels) {
    const uint32_t begin = blockIdx.y * a.band, end = a.positions - begin < a.band ? a.positions : begin + a.band;
#pragma unroll 2
    for (uint32_t p = begin + row; p < end; p += kRows) {
      const uint32_t line = p / a.width, image = line / a.height;
      const int64_t at = image * a.image + (line - image * a.height) * a.y + (p - line * a.width) * a.x + channel;
      Channels<T, n> d = *reinterpret_cast<const Channels<T, n>*>(static_cast<const T*>(a.dy) + at);
      if (a.mask) {
        Channels<T, n> m = *reinterpret_cast<const Channels<T, n>*>(static_cast<const T*>(a.mask) + at);
#pragma unroll
        for (int i = 0; i < n; ++i) d.keep(i, m.get(i) > 0.0f);
        if (a.masked)
          static_cast<Channels<T, n>*>(a.masked)[static_cast<uint64_t>(p * a.channels + channel) / n] = d;  // in whole vectors: one store
      }
#pragma unroll
      for (int i = 0; i < n; ++i) sum[i] += d.get(i);
    }
  }
  if (!a.partials) return;
#pragma unroll
  for (int i = 0; i < n; ++i) sums[row][i * kWarp + lane] = sum[i];  // lanes next to each other: no bank twice
  __syncthreads();
  for (int j = threadIdx.x; j < kWarp * n; j += kThreads) {
    const int64_t c = (static_cast<int64_t>(blockIdx.x) * kWarp + j % kWarp) * n + j / kWarp;
    float total = 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r) total += sums[r][j];
    if (c < a.channels) a.partials[blockIdx.y * a.channels + c] = total;
  }
}

/// dbias from the bands' sums. Grid (channels / 32).
__global__ __launch_bounds__(kThreads) void finish_kernel(const float* partials, int bands, int64_t channels, float* dbias,
                                                          bool accumulate) {
  THEIA_SHARED(float, sums, [kRows][kWarp]);
  const int lane = threadIdx.x % kWarp, row = threadIdx.x / kWarp;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kWarp + lane;
  float sum = 0;
  if (channel < channels)
    for (int band = row; band < bands; band += kRows) sum += partials[band * channels + channel];
  sums[row][lane] = sum;
  __syncthreads();
  if (row != 0 || channel >= channels) return;
  float total = 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) total += sums[r][lane];
  dbias[channel] = accumulate ? dbias[channel] + total : total;
}

int64_t positions_of(const Tensor& map) { return map.size[0] * map.size[1] * map.size[2]; }

/// Positions a band has: of the shape alone, so that the sums are the same on every device.
int64_t band_of(const Tensor& map) {
  const int64_t shared_out = ceil_div(positions_of(map), kBandsMost);
  return shared_out < kBandLeast ? kBandLeast : shared_out;
}

bool aligned(const Tensor& map, int n) {
  for (int i = 0; i < 3; ++i)
    if (map.size[i] > 1 && map.stride[i] % n != 0) return false;
  const auto address = reinterpret_cast<uintptr_t>(map.base + map.offset * bytes_of(map.dtype));
  return map.size[3] % n == 0 && address % static_cast<uintptr_t>(n * bytes_of(map.dtype)) == 0;
}

}  // namespace

int64_t mask_and_sum_workspace(const Tensor& dy, const Tensor& dbias) {
  return dbias.present() ? ceil_div(positions_of(dy), band_of(dy)) * dy.size[3] * 4 : 0;
}

void mask_and_sum(const char* name, const Tensor& dy, const Tensor& mask, void* masked, const Tensor& dbias, bool accumulate,
                  const DeviceContext& context) {
  const auto data_of = [](const Tensor& t) { return t.present() ? t.base + t.offset * bytes_of(t.dtype) : nullptr; };
  const int64_t band = band_of(dy), bands = ceil_div(positions_of(dy), band), channels = dy.size[3];
  float* const partials = dbias.present() ? reinterpret_cast<float*>(context.workspace) : nullptr;
  const Pass pass{data_of(dy),
                  data_of(mask),
                  masked,
                  partials,
                  static_cast<uint32_t>(dy.size[1]),
                  static_cast<uint32_t>(dy.size[2]),
                  dy.stride[0],
                  dy.stride[1],
                  dy.stride[2],
                  static_cast<uint32_t>(positions_of(dy)),
                  static_cast<uint32_t>(band),
                  channels};
  const bool half = dy.dtype == DType::bf16;
  const int widest = 16 / bytes_of(dy.dtype);
  const bool wide = aligned(dy, widest) && (!mask.present() || aligned(mask, widest));
  const dim3 grid(static_cast<unsigned>(ceil_div(channels, kWarp * (wide ? widest : 1))), static_cast<unsigned>(bands));
  launch(name,
         half   ? wide ? pass_kernel<bf16, 8> : pass_kernel<bf16, 1>
           : wide ? pass_kernel<float, 4>
                : pass_kernel<float, 1>,
         grid, dim3(kThreads), 0, context, pass);
  if (partials)
    launch(name, finish_kernel, dim3(static_cast<unsigned>(ceil_div(channels, kWarp))), dim3(kThreads), 0, context, partials,
           static_cast<int>(bands), channels, dbias.ptr<float>(), accumulate);
}

}  // namespace theia::THEIA_DEVICE
