// Three launches: the weights of both axes, one thread a position; then the passes, one thread a byte of the line that is written, for
// every line that the grid leaves over. Sums are whole numbers; the weights' doubles are rounded where taps.cpp rounds them, nothing fused.
#include "kernels/cuda/runtime.h"
#include "kernels/preprocess/preprocess.h"

namespace theia::THEIA_DEVICE {

namespace {

constexpr int kThreads = 128;
constexpr int kFraction = 22;  // bits of a weight behind the point, as Pillow has them: 32 - 8 - 2

/// One axis: `in` pixels resized to `out`, of which `count` from `from` on are wanted; and its table, rows of first, taps, weights.
struct Axis {
  int64_t in, out, from, count;
  int64_t stride;  // int32 a row
  int32_t* table;
  bool bicubic;

  double reach() const { return bicubic ? 2.0 : 1.0; }
  int64_t bytes() const { return round_up(count * stride * 4, 256); }
  /// Neither resized nor cut.
  bool unchanged() const { return in == out && out == count; }
};

Axis axis_of(int64_t in, int64_t out, int64_t from, int64_t count, bool bicubic) {
  Axis a{in, out, from, count, 0, nullptr, bicubic};
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  a.stride = static_cast<int64_t>(ceil(a.reach() * (scale > 1 ? scale : 1.0))) * 2 + 1 + 2;
  return a;
}
Axis across_of(const PreprocessArgs& a) {
  return axis_of(a.image.size[2], a.width, a.left, a.out.size[2], a.filter == static_cast<int64_t>(ResizeFilter::bicubic));
}
Axis down_of(const PreprocessArgs& a) {
  return axis_of(a.image.size[1], a.height, a.top, a.out.size[1], a.filter == static_cast<int64_t>(ResizeFilter::bicubic));
}

/// Pillow's triangle, or its cubic with a = -0.5.
__device__ __forceinline__ double weight_at(bool bicubic, double t) {
  t = fabs(t);
  if (!bicubic) return t < 1 ? 1 - t : 0;
  if (t < 1) return __dadd_rn(__dmul_rn(__dmul_rn(__dadd_rn(__dmul_rn(1.5, t), -2.5), t), t), 1);
  if (t < 2) return __dmul_rn(__dadd_rn(__dmul_rn(__dadd_rn(__dmul_rn(__dadd_rn(t, -5), t), 8), t), -4), -0.5);
  return 0;
}

__global__ void __launch_bounds__(kThreads) taps_kernel(const __grid_constant__ Axis across, const __grid_constant__ Axis down) {
  const Axis& a = blockIdx.y ? down : across;
  const int64_t o = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (o >= a.count) return;
  const double scale = static_cast<double>(a.in) / static_cast<double>(a.out), stretch = scale > 1 ? scale : 1.0;
  const double support = a.bicubic ? 2.0 * stretch : stretch, inverse = 1.0 / stretch;
  const double centre = __dmul_rn(static_cast<double>(a.from + o) + 0.5, scale);
  const int64_t start = static_cast<int64_t>(centre - support + 0.5), end = static_cast<int64_t>(centre + support + 0.5);
  const int64_t first = start > 0 ? start : 0, last = end < a.in ? end : a.in;
  const auto raw = [&](int64_t i) { return weight_at(a.bicubic, __dmul_rn(static_cast<double>(i) - centre + 0.5, inverse)); };
  double sum = 0;
  for (int64_t i = first; i < last; ++i) sum = __dadd_rn(sum, raw(i));
  int32_t* const row = a.table + o * a.stride;
  row[0] = static_cast<int32_t>(first);
  row[1] = static_cast<int32_t>(last - first);
  for (int64_t i = first; i < last; ++i) {
    double w = raw(i);
    if (sum != 0) w /= sum;
    const double fixed = __dmul_rn(w, 1 << kFraction);
    row[2 + i - first] = static_cast<int32_t>(__dadd_rn(fixed, w < 0 ? -0.5 : 0.5));
  }
}

/// The weighted sum of `count` bytes that lie `step` apart.
__device__ __forceinline__ uint8_t blend(const uint8_t* from, int64_t step, const int32_t* weights, int32_t count) {
  int32_t sum = 1 << (kFraction - 1);
  for (int32_t i = 0; i < count; ++i, from += step) sum += *from * weights[i];
  const int32_t v = sum >> kFraction;  // arithmetic shift
  return static_cast<uint8_t>(v < 0 ? 0 : v > 255 ? 255 : v);
}

/// Lines of in_width pixels to lines of across.count.
__global__ void __launch_bounds__(kThreads)
    across_kernel(const uint8_t* in, uint8_t* out, const __grid_constant__ Axis across, int64_t lines, int64_t channels) {
  const int64_t at = blockIdx.x * int64_t{kThreads} + threadIdx.x, bytes = across.count * channels;
  if (at >= bytes) return;
  const int32_t* const taps = across.table + at / channels * across.stride;
  in += taps[0] * channels + at % channels;
  for (int64_t line = blockIdx.y; line < lines; line += gridDim.y)
    out[line * bytes + at] = blend(in + line * across.in * channels, channels, taps + 2, taps[1]);
}

/// Images of down.in lines of `bytes` to images of down.count lines.
__global__ void __launch_bounds__(kThreads)
    down_kernel(const uint8_t* in, uint8_t* out, const __grid_constant__ Axis down, int64_t images, int64_t bytes) {
  const int64_t at = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (at >= bytes) return;
  for (int64_t line = blockIdx.y; line < images * down.count; line += gridDim.y) {
    const int32_t* const taps = down.table + line % down.count * down.stride;
    out[line * bytes + at] = blend(in + (line / down.count * down.in + taps[0]) * bytes + at, bytes, taps + 2, taps[1]);
  }
}

/// A few rounds of blocks everywhere; a thread then goes on with lines further down.
dim3 grid_of(int64_t bytes, int64_t lines, const DeviceInfo& info) {
  const int64_t across = ceil_div(bytes, kThreads), most = ceil_div(info.multiprocessors * int64_t{64}, across);
  return dim3(static_cast<unsigned>(across), static_cast<unsigned>(lines < most ? lines : most));
}

}  // namespace

int64_t preprocess_workspace(const PreprocessArgs& a, const DeviceInfo&) {
  const Axis across = across_of(a), down = down_of(a);
  // the tables, and the images between the passes: [B,H,w,C] bytes
  return across.bytes() + down.bytes() + a.image.size[0] * a.image.size[1] * a.out.size[2] * a.image.size[3];
}

void preprocess(const PreprocessArgs& a, const DeviceContext& context) {
  const int64_t images = a.image.size[0], channels = a.image.size[3];
  if (images == 0 || channels == 0) return;
  Axis across = across_of(a), down = down_of(a);
  across.table = reinterpret_cast<int32_t*>(context.workspace);
  down.table = reinterpret_cast<int32_t*>(context.workspace + across.bytes());
  uint8_t* const between = reinterpret_cast<uint8_t*>(context.workspace + across.bytes() + down.bytes());
  const int64_t longest = across.count > down.count ? across.count : down.count;
  launch("preprocess taps", taps_kernel, dim3(static_cast<unsigned>(ceil_div(longest, kThreads)), 2), dim3(kThreads), 0, context, across,
         down);
  const uint8_t* from = a.image.ptr<uint8_t>();
  const int64_t wide = across.count * channels;
  if (!across.unchanged()) {
    launch("preprocess across", across_kernel, grid_of(wide, images * down.in, *context.info), dim3(kThreads), 0, context, from, between,
           across, images * down.in, channels);
    from = between;
  }
  // Where nothing changes along this axis either, its weights are exactly 1: a copy.
  launch("preprocess down", down_kernel, grid_of(wide, images * down.count, *context.info), dim3(kThreads), 0, context, from,
         a.out.ptr<uint8_t>(), down, images, wide);
}

}  // namespace theia::THEIA_DEVICE
