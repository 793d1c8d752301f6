// A thread takes 16 bytes of channels of one output position (one element where rows or addresses do not divide into 16 bytes), and
// every position of a column below it that the grid leaves over. Nothing is shared: neighbouring windows meet in the caches.
// Backward gathers: each input asks the windows over it, in order, whether it won them. No element is written twice.
#include <cstring>

#include "kernels/cuda/runtime.h"
#include "kernels/max_pool2d/max_pool2d.h"
#include "kernels/ptx/convert.h"
#include "kernels/ptx/store.h"

namespace theia::THEIA_DEVICE {

namespace {

constexpr int kThreads = 128;

/// A map as threads see it.
struct Map {
  std::byte* at;
  unsigned height, width;
  int64_t image, row, column;  // strides in elements
};

/// Channels of one position: as they lie in memory, and as numbers.
template <class T, int kWidth>
struct Channels {
  T raw[kWidth];

  __device__ __forceinline__ void load(const Map& m, int64_t image, unsigned y, unsigned x, int64_t c) {
    const T* const from = reinterpret_cast<const T*>(m.at) + image * m.image + y * m.row + x * m.column + c;
    if constexpr (kWidth == 1) {
      raw[0] = *from;
    } else {
      const uint4 all = *reinterpret_cast<const uint4*>(from);
      memcpy(raw, &all, sizeof all);
    }
  }
  __device__ __forceinline__ void store(const Map& m, int64_t image, unsigned y, unsigned x, int64_t c) const {
    T* const to = reinterpret_cast<T*>(m.at) + image * m.image + y * m.row + x * m.column + c;
    if constexpr (kWidth == 1) {
      *to = raw[0];
    } else {
      uint4 all;
      memcpy(&all, raw, sizeof all);
      ptx::store_16(to, all);
    }
  }
  __device__ __forceinline__ float get(int k) const { return to_float(raw[k]); }
};

__device__ __forceinline__ float stored(float x, float*) { return x; }
__device__ __forceinline__ bf16 stored(float x, bf16*) { return to_bf16(x); }

/// Does v, met behind w, take the window from it? The first maximum wins, and a NaN from everything.
__device__ __forceinline__ bool beats(float v, float w) { return v > w || v != v; }

/// Positions along one axis. Sizes are below 2^31 and paddings small, so sums of them fit in 32 unsigned bits.
struct Range {
  unsigned first, last;  // [first, last)
};

struct Pool {
  Map x, y, dx;  // y: dy in backward
  int64_t images, vectors;
  unsigned kernel, stride, padding;

  /// The part of window o that lies on an axis of `size` inputs.
  __device__ __forceinline__ Range window(unsigned o, unsigned size) const {
    const unsigned start = o * stride, end = start + kernel - padding;
    return {start < padding ? 0 : start - padding, end < size ? end : size};
  }
  /// The windows, of `size`, that input i lies in.
  __device__ __forceinline__ Range windows_over(unsigned i, unsigned size) const {
    const unsigned at = i + padding, end = at / stride + 1;
    return {at < kernel ? 0 : (at - kernel) / stride + 1, end < size ? end : size};
  }
};

/// `across`: (position in a row, vector of channels) of the map that is written; its rows, of all images, are the grid's y.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, 8) max_pool_kernel(const __grid_constant__ Pool a) {
  const int64_t across = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (across >= a.y.width * a.vectors) return;
  const unsigned ox = static_cast<unsigned>(across / a.vectors);
  const int64_t c = across % a.vectors * kWidth;
  const Range columns = a.window(ox, a.x.width);
  for (int64_t line = blockIdx.y; line < a.images * a.y.height; line += gridDim.y) {
    const int64_t image = line / a.y.height;
    const unsigned oy = static_cast<unsigned>(line % a.y.height);
    const Range rows = a.window(oy, a.x.height);
    Channels<T, kWidth> best, next;
    best.load(a.x, image, rows.first, columns.first, c);
    for (unsigned y = rows.first; y < rows.last; ++y)
      for (unsigned x = columns.first; x < columns.last; ++x) {
        next.load(a.x, image, y, x, c);
#pragma unroll
        for (int k = 0; k < kWidth; ++k)
          if (beats(next.get(k), best.get(k))) best.raw[k] = next.raw[k];
      }
    best.store(a.y, image, oy, ox, c);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, 8) max_pool_grad_kernel(const __grid_constant__ Pool a) {
  const int64_t across = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (across >= a.x.width * a.vectors) return;
  const unsigned ix = static_cast<unsigned>(across / a.vectors);
  const int64_t c = across % a.vectors * kWidth;
  const Range over_x = a.windows_over(ix, a.y.width);
  for (int64_t line = blockIdx.y; line < a.images * a.x.height; line += gridDim.y) {
    const int64_t image = line / a.x.height;
    const unsigned iy = static_cast<unsigned>(line % a.x.height);
    const Range over_y = a.windows_over(iy, a.y.height);
    Channels<T, kWidth> own, other, dy;
    own.load(a.x, image, iy, ix, c);
    float sum[kWidth] = {};
    for (unsigned oy = over_y.first; oy < over_y.last; ++oy)
      for (unsigned ox = over_x.first; ox < over_x.last; ++ox) {
        const Range rows = a.window(oy, a.x.height), columns = a.window(ox, a.x.width);
        unsigned lost = 0;  // a bit a channel
        for (unsigned y = rows.first; y < rows.last; ++y)
          for (unsigned x = columns.first; x < columns.last; ++x) {
            if (y == iy && x == ix) continue;
            const bool before = y < iy || (y == iy && x < ix);
            other.load(a.x, image, y, x, c);
#pragma unroll
            for (int k = 0; k < kWidth; ++k) {
              const float v = own.get(k), w = other.get(k);
              lost |= static_cast<unsigned>(before ? !beats(v, w) : beats(w, v)) << k;
            }
          }
        dy.load(a.y, image, oy, ox, c);
#pragma unroll
        for (int k = 0; k < kWidth; ++k)
          if (!(lost >> k & 1)) sum[k] += dy.get(k);
      }
#pragma unroll
    for (int k = 0; k < kWidth; ++k) own.raw[k] = stored(sum[k], static_cast<T*>(nullptr));
    own.store(a.dx, image, iy, ix, c);
  }
}

Map map_of(const Tensor& t) {
  return {t.base + t.offset * bytes_of(t.dtype),
          static_cast<unsigned>(t.size[1]),
          static_cast<unsigned>(t.size[2]),
          t.stride[0],
          t.stride[1],
          t.stride[2]};
}

/// Every position's channels start at 16 bytes and are whole vectors.
bool by_vectors(const Tensor& t) {
  const int64_t width = 16 / bytes_of(t.dtype);
  if (t.size[3] % width || reinterpret_cast<uintptr_t>(t.base + t.offset * bytes_of(t.dtype)) % 16) return false;
  for (int i = 0; i < 3; ++i)
    if (t.size[i] > 1 && t.stride[i] % width) return false;
  return true;
}

/// `written`: the map that the threads are laid over.
void start(const char* name, void (*kernel)(Pool), Pool a, const Tensor& written, int64_t width, const DeviceContext& context) {
  a.images = written.size[0];
  a.vectors = written.size[3] / width;
  // Folded in y alone: more than 2^31 blocks of threads across would be a row of 2^38 elements.
  const int64_t across = ceil_div(written.size[2] * a.vectors, kThreads), lines = a.images * written.size[1];
  const int64_t most = ceil_div(context.info->multiprocessors * int64_t{64}, across);  // a few rounds of blocks everywhere
  const int64_t high = lines < most ? lines : most;
  launch(name, kernel, dim3(static_cast<unsigned>(across), static_cast<unsigned>(high)), dim3(kThreads), 0, context, a);
}

}  // namespace

void max_pool2d(const MaxPool2dArgs& args, const DeviceContext& context) {
  const Pool a{map_of(args.x),
               map_of(args.y),
               {},
               0,
               0,
               static_cast<unsigned>(args.kernel),
               static_cast<unsigned>(args.stride),
               static_cast<unsigned>(args.padding)};
  const bool wide = by_vectors(args.x) && by_vectors(args.y);
  if (args.x.dtype == DType::bf16)
    start("max_pool2d", wide ? max_pool_kernel<bf16, 8> : max_pool_kernel<bf16, 1>, a, args.y, wide ? 8 : 1, context);
  else
    start("max_pool2d", wide ? max_pool_kernel<float, 4> : max_pool_kernel<float, 1>, a, args.y, wide ? 4 : 1, context);
}

void max_pool2d_grad(const MaxPool2dGradArgs& args, const DeviceContext& context) {
  const Pool a{map_of(args.x),
               map_of(args.dy),
               map_of(args.dx),
               0,
               0,
               static_cast<unsigned>(args.kernel),
               static_cast<unsigned>(args.stride),
               static_cast<unsigned>(args.padding)};
  const bool wide = by_vectors(args.x) && by_vectors(args.dy) && by_vectors(args.dx);
  if (args.x.dtype == DType::bf16)
    start("max_pool2d_grad", wide ? max_pool_grad_kernel<bf16, 8> : max_pool_grad_kernel<bf16, 1>, a, args.dx, wide ? 8 : 1, context);
  else
    start("max_pool2d_grad", wide ? max_pool_grad_kernel<float, 4> : max_pool_grad_kernel<float, 1>, a, args.dx, wide ? 4 : 1, context);
}

}  // namespace theia::THEIA_DEVICE
