// How both directions read p and t: which thread has which elements, and how they come from memory.
#pragma once
#include "kernels/cuda/runtime.h"
#include "kernels/distill_loss/distill_loss.h"
#include "kernels/ptx/convert.h"

namespace theia::THEIA_DEVICE::loss {

inline constexpr int kThreads = 256;

/// Eight neighbours of one type at 16 bytes, as they lie in memory: loaded first, converted when they are needed.
template <class E>
struct Wide {
  static constexpr int kWidth = 8, kBytes = 16;
  const E* at;
  uint4 raw;
  __device__ __forceinline__ void load(int64_t i) { raw = *reinterpret_cast<const uint4*>(at + i); }
  __device__ __forceinline__ float get(int k) const {
    const uint32_t pair = k < 2 ? raw.x : k < 4 ? raw.y : k < 6 ? raw.z : raw.w;
    if constexpr (std::is_same_v<E, bf16>)
      return k % 2 ? ptx::high_bf16(pair) : ptx::low_bf16(pair);
    else
      return ptx::unpack_f16(k % 2 ? pair >> 16 : pair);
  }
};
template <>
struct Wide<float> {
  static constexpr int kWidth = 8, kBytes = 32;
  const float* at;
  float4 lower, upper;
  __device__ __forceinline__ void load(int64_t i) {
    lower = *reinterpret_cast<const float4*>(at + i);
    upper = *reinterpret_cast<const float4*>(at + i + 4);
  }
  __device__ __forceinline__ float get(int k) const {
    const float4& half = k < 4 ? lower : upper;
    return k % 4 == 0 ? half.x : k % 4 == 1 ? half.y : k % 4 == 2 ? half.z : half.w;
  }
};

/// One element of any type at any address: what is left where rows or addresses do not divide into 16 bytes.
struct Narrow {
  static constexpr int kWidth = 1, kBytes = 4;
  const std::byte* at;
  DType type;
  float value;
  __device__ __forceinline__ void load(int64_t i) {
    if (type == DType::bf16)
      value = to_float(reinterpret_cast<const bf16*>(at)[i]);
    else if (type == DType::f16)
      value = to_float(reinterpret_cast<const f16*>(at)[i]);
    else
      value = reinterpret_cast<const float*>(at)[i];
  }
  __device__ __forceinline__ float get(int) const { return value; }
};

template <class E>
Wide<E> stream_of(const Tensor& t, Wide<E>*) {
  return {t.ptr<E>(), {}};
}
template <>
inline Wide<float> stream_of(const Tensor& t, Wide<float>*) {
  return {t.ptr<float>(), {}, {}};
}
inline Narrow stream_of(const Tensor& t, Narrow*) { return {t.base + t.offset * bytes_of(t.dtype), t.dtype, 0}; }

/// How a [B,P,C] is cut, by shape alone: the same sums on every GPU. A thread keeps its channels (and their mean and 1 / std in registers)
/// and goes down the positions; a block is `columns` vectors of channels wide and `rows` positions high; `each` positions of a sample
/// are one block's work.
struct Cut {
  int64_t positions, channels, t_stride;  // of a sample: P, C, and where the next sample of t starts
  int64_t vectors, tiles;                 // of a row: vectors, and blocks side by side
  int64_t each, chunks;                   // positions a block, blocks below each other
  int64_t work;                           // blocks in all: samples · chunks · tiles
  int columns, rows, threads;
  const float *mean, *std;  // or null
};

/// What a thread has of a block's work: vectors of its channels, one every `rows` positions.
struct Part {
  int64_t sample, channel;
  int64_t p, t, step;  // elements: the first vector in p and in t, and how far the next is
  int count;           // 0 for the threads left over
};

__device__ __forceinline__ Part part_of(const Cut& cut, int64_t work, int width) {
  const int column = static_cast<int>(threadIdx.x) % cut.columns, row = static_cast<int>(threadIdx.x) / cut.columns;
  const int64_t tile = work % cut.tiles, rest = work / cut.tiles, sample = rest / cut.chunks;
  const int64_t vector = tile * cut.columns + column, first = rest % cut.chunks * cut.each + row;
  const int64_t end = first - row + cut.each < cut.positions ? first - row + cut.each : cut.positions;
  const bool idle = row >= cut.rows || vector >= cut.vectors || first >= end;
  const int64_t channel = vector * width, start = first * cut.channels + channel;
  return {sample,
          channel,
          sample * cut.positions * cut.channels + start,
          sample * cut.t_stride + start,
          cut.rows * cut.channels,
          idle ? 0 : static_cast<int>((end - first + cut.rows - 1) / cut.rows)};
}

/// t' = (t - mean) / std of a thread's channels. The quotient is the product with the reciprocal, corrected once by what it leaves over:
/// rounded as a division rounds it, for three instructions where a division takes about ten.
template <int kWidth>
struct Normaliser {
  float mean[kWidth], std[kWidth], inverse[kWidth];
  __device__ __forceinline__ Normaliser(const Cut& cut, int64_t channel) {
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      mean[k] = cut.mean ? cut.mean[channel + k] : 0.0f;
      std[k] = cut.mean ? cut.std[channel + k] : 1.0f;
      inverse[k] = __fdiv_rn(1.0f, std[k]);
    }
  }
  __device__ __forceinline__ float of(float t, int k) const {
    const float difference = t - mean[k], quotient = difference * inverse[k];
    return fmaf(fmaf(-quotient, std[k], difference), inverse[k], quotient);
  }
};

template <class Args>
Cut cut_of(const Args& a, int width) {
  constexpr int64_t kLeastRounds = 8, kMostRounds = 64, kWork = 2048;
  Cut cut{};
  cut.positions = a.p.size[1];
  cut.channels = a.p.size[2];
  cut.t_stride = a.t.stride[0];
  cut.vectors = cut.channels / width;
  cut.tiles = ceil_div(cut.vectors, kThreads);
  cut.columns = static_cast<int>(ceil_div(cut.vectors, cut.tiles));
  cut.rows = kThreads / cut.columns;
  cut.threads = static_cast<int>(round_up(cut.columns * cut.rows, kWarp));
  // As many rounds of a block as leave about kWork blocks: each of them has a start and a sum over its threads to pay for.
  const int64_t rounds = ceil_div(a.p.size[0] * cut.tiles * ceil_div(cut.positions, cut.rows), kWork);
  cut.each = cut.rows * (rounds < kLeastRounds ? kLeastRounds : rounds > kMostRounds ? kMostRounds : rounds);
  cut.chunks = ceil_div(cut.positions, cut.each);
  cut.work = a.p.size[0] * cut.chunks * cut.tiles;
  cut.mean = a.mean.present() ? a.mean.template ptr<float>() : nullptr;
  cut.std = a.mean.present() ? a.std.template ptr<float>() : nullptr;
  return cut;
}

inline bool at_16_bytes(const Tensor& t) { return (reinterpret_cast<uintptr_t>(t.base) + t.offset * bytes_of(t.dtype)) % 16 == 0; }

/// Rows of whole vectors, and every sample's first element at 16 bytes.
template <class Args>
bool wide(const Args& a) {
  return a.p.size[2] % 8 == 0 && at_16_bytes(a.p) && at_16_bytes(a.t) &&
         (a.p.size[0] == 1 || a.t.stride[0] * bytes_of(a.t.dtype) % 16 == 0);
}

/// Calls f with null pointers to the streams of p and t.
template <class F>
void with_streams(DType p, DType t, bool wide, F&& f) {
  const auto with_p = [&](auto* p_stream) {
    if (t == DType::bf16)
      f(p_stream, static_cast<Wide<bf16>*>(nullptr));
    else if (t == DType::f16)
      f(p_stream, static_cast<Wide<f16>*>(nullptr));
    else
      f(p_stream, static_cast<Wide<float>*>(nullptr));
  };
  if (!wide)
    f(static_cast<Narrow*>(nullptr), static_cast<Narrow*>(nullptr));
  else if (p == DType::bf16)
    with_p(static_cast<Wide<bf16>*>(nullptr));
  else
    with_p(static_cast<Wide<float>*>(nullptr));
}

inline dim3 grid_of(const Cut& cut, const DeviceInfo& info) {
  const int64_t most = info.multiprocessors * int64_t{16};  // blocks take further work in turn
  return dim3(static_cast<unsigned>(cut.work < most ? cut.work : most));
}

// The cosine as published, from the three sums, and its slopes: d cosine / dp = p·p_ + t·t' (distill_loss.h).
struct Cosine {
  double value, p, t;
};
__device__ __forceinline__ Cosine cosine(double dot, double p2, double t2) {
  constexpr double kEps = 1e-12;
  const double p_norm = sqrt(p2), t_norm = sqrt(t2);
  const double a = p_norm < kEps ? kEps : p_norm, b = t_norm < kEps ? kEps : t_norm;
  const double a2 = p2 / (a * a) + kEps, b2 = t2 / (b * b) + kEps;
  const double below = sqrt(a2 * b2);
  const double value = dot / (a * b) / below;
  // Where the clamp holds, a is a constant and |p/a|² varies; elsewhere |p/a| is 1 and a varies.
  const double slope = p_norm < kEps ? value / (a * a * a2) : value / p2;
  return {value, -slope, 1.0 / (a * b) / below};
}

__device__ __forceinline__ bool finite(double x) { return x - x == 0; }

}  // namespace theia::THEIA_DEVICE::loss
