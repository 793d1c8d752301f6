// Bringing in the tiles of an operand that 16-byte copies cannot: lines or runs that are not multiples of 16 bytes, pointers that are not,
// other element types. A chunk is cut into pieces that lie in one tap each: 16, 8 or 4 bytes by cp.async, else single elements through
// registers, converted on the way.
#pragma once
#include "kernels/gemm/device/lines.cuh"
#include "kernels/ptx/convert.h"
#include "kernels/ptx/cp_async.h"

namespace theia::THEIA_DEVICE {

/// `width` elements of the arithmetic's type to a piece: pointer, strides and runs are multiples of it. 0: single elements of o.dtype.
struct AnyOperand {
  DeviceOperand o;
  int width;
};

__device__ __forceinline__ float element_of(const DeviceOperand& o, int64_t at, int64_t column) {
  if (o.dtype == DType::f32) return static_cast<const float*>(o.data)[at];
  if (o.dtype == DType::bf16) return ptx::low_bf16(static_cast<const uint16_t*>(o.data)[at]);
  return o.table[static_cast<int>(column % o.channels) * 256 + static_cast<const uint8_t*>(o.data)[at]];
}
__device__ __forceinline__ uint4 pack_chunk(const float (&v)[8]) {
  return make_uint4(ptx::pack_bf16(v[0], v[1]), ptx::pack_bf16(v[2], v[3]), ptx::pack_bf16(v[4], v[5]), ptx::pack_bf16(v[6], v[7]));
}
__device__ __forceinline__ uint4 pack_chunk(const float (&v)[4]) {
  return make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]), __float_as_uint(v[3]));
}

template <class Slab_>
class AnyLoader {
 public:
  using Slab = Slab_;
  using Args = AnyOperand;
  static Args args(const DeviceOperand& o, int width) { return {o, width}; }
  static constexpr int kTableBytes = Slab::kAlongK ? Slab::kOuter * static_cast<int>(sizeof(Line)) : 0;

  __device__ __forceinline__ AnyLoader(const Args& a, const Part& part, std::byte* table)
      : o_(a.o),
        width_(a.width),
        lines_(reinterpret_cast<const Line*>(table)),
        walk_(a.o, Slab::kAlongK ? 0 : part.k_begin + first_line(), Slab::kPassLines) {
    int64_t column = first_chunk() * Slab::kChunkElements;
    if constexpr (Slab::kAlongK) {
      fill_lines<Slab>(o_, part, reinterpret_cast<Line*>(table));
      column += part.k_begin;
      columns_left_ = part.k_end - column;
    } else {
      column += part.outer;
      columns_left_ = part.outer_end - column;
      lines_left_ = part.k_end - part.k_begin - first_line();
    }
    tap_ = static_cast<int>(column / o_.run);
    column_ = column - tap_ * o_.run;
    if (tap_ >= o_.taps) tap_ = 0;  // beyond the last column: nothing will be read
  }

  __device__ __forceinline__ void fetch(std::byte* slab) {
#pragma unroll 1
    for (int pass = 0; pass < Slab::kPasses; ++pass) {
      const int l = first_line() + pass * Slab::kPassLines;
      std::byte* const to = slab + chunk_at<Slab::kChunks>(l, first_chunk()) * kChunkBytes;
      if constexpr (Slab::kAlongK) {
        const Line line = lines_[l];
        chunk(to, line, line.y != kOutside);
      } else {
        chunk(to, walk_.line(o_), pass * Slab::kPassLines < lines_left_);
        walk_.next(o_);
      }
    }
    if constexpr (Slab::kAlongK) {
      columns_left_ -= Slab::kDepth;
      column_ += Slab::kDepth;
      while (column_ >= o_.run && tap_ + 1 < o_.taps) column_ -= o_.run, ++tap_;
    } else {
      lines_left_ -= Slab::kDepth;
    }
  }
  __device__ __forceinline__ void land(std::byte*) {}

 private:
  using T = typename Slab::T;
  __device__ __forceinline__ static int first_line() { return static_cast<int>(threadIdx.x) / Slab::kChunks; }
  __device__ __forceinline__ static int first_chunk() { return static_cast<int>(threadIdx.x) % Slab::kChunks; }

  /// The chunk at the thread's columns of one line.
  __device__ __forceinline__ void chunk(std::byte* to, const Line& line, bool exists) {
    int tap = tap_;
    int64_t column = column_;
    const auto step = [&](int by) {
      column += by;
      while (column >= o_.run && tap + 1 < o_.taps) column -= o_.run, ++tap;
    };
    if (width_ == 0) {
      float v[Slab::kChunkElements];
#pragma unroll
      for (int e = 0; e < Slab::kChunkElements; ++e) {
        const bool some = exists && e < columns_left_ && inside(o_, line.y, line.x, tap);
        v[e] = some ? element_of(o_, line.offset + o_.tap_offset[tap] + column, column) : 0.0f;
        step(1);
      }
      *reinterpret_cast<uint4*>(to) = pack_chunk(v);
      return;
    }
    const int piece = width_ * static_cast<int>(sizeof(T));
#pragma unroll 1
    for (int e = 0; e < Slab::kChunkElements; e += width_) {
      const bool some = exists && inside(o_, line.y, line.x, tap);
      const int valid = some ? bytes_left(columns_left_ - e, sizeof(T), piece) : 0;
      const T* from = static_cast<const T*>(o_.data) + line.offset + o_.tap_offset[tap] + column;
      if (piece == 16)
        ptx::cp_async_16(to, from, valid);
      else if (piece == 8)
        ptx::cp_async_8(to + e * sizeof(T), from, valid);
      else
        ptx::cp_async_4(to + e * sizeof(T), from, valid);
      step(width_);
    }
  }

  const DeviceOperand& o_;
  int width_;
  const Line* lines_;
  WalkingLine walk_;
  int64_t columns_left_, lines_left_ = 0;  // before the end, from the thread's first
  int64_t column_;                         // inside the tap
  int tap_;
};

}  // namespace theia::THEIA_DEVICE
