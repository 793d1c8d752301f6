// Bringing the tiles of an operand in by 16-byte cp.async: where pointers, strides and runs are multiples of 16 bytes.
//
// A loader is made once by each thread of a block, for a Part. fetch(slab) starts what brings the thread's share of the next kDepth of k
// in; land(slab), called after the arithmetic of a step and before the next barrier, finishes it. Copies by cp.async need no land.
// args() makes of an operand what the kernel gets. kTableBytes: shared memory of its own, which the constructor fills; a barrier comes
// between construction and the first fetch. What lies outside the operand becomes 0.
#pragma once
#include "kernels/gemm/device/lines.cuh"
#include "kernels/ptx/cp_async.h"

namespace theia::THEIA_DEVICE {

/// A matrix: lines one stride apart, one run. Two pointers' worth of state.
struct PlainOperand {
  const void* data;
  int64_t stride;
};

template <class Slab_>
class PlainLoader {
 public:
  using Slab = Slab_;
  using T = typename Slab::T;
  using Args = PlainOperand;
  static constexpr int kTableBytes = 0;
  static Args args(const DeviceOperand& o, int) { return {static_cast<const T*>(o.data) + o.tap_offset[0], o.lines.b}; }

  __device__ __forceinline__ PlainLoader(const Args& a, const Part& part, std::byte*) {
    const int line = static_cast<int>(threadIdx.x) / Slab::kChunks;
    chunk_ = static_cast<int>(threadIdx.x) % Slab::kChunks;
    const int column = chunk_ * Slab::kChunkElements;
    if constexpr (Slab::kAlongK) {
      next_ = static_cast<const T*>(a.data) + (part.outer + line) * a.stride + part.k_begin + column;
      lines_left_ = part.outer_end - part.outer - line;
      columns_left_ = part.k_end - part.k_begin - column;
    } else {
      next_ = static_cast<const T*>(a.data) + (part.k_begin + line) * a.stride + part.outer + column;
      lines_left_ = part.k_end - part.k_begin - line;
      columns_left_ = part.outer_end - part.outer - column;
    }
    pass_ = a.stride * Slab::kPassLines;
  }

  __device__ __forceinline__ void fetch(std::byte* slab) {
    const int line = static_cast<int>(threadIdx.x) / Slab::kChunks;
    const int valid = bytes_left(columns_left_, sizeof(T), kChunkBytes);
    const T* from = next_;
#pragma unroll
    for (int pass = 0; pass < Slab::kPasses; ++pass) {
      const int l = line + pass * Slab::kPassLines;
      ptx::cp_async_16(slab + chunk_at<Slab::kChunks>(l, chunk_) * kChunkBytes, from, pass * Slab::kPassLines < lines_left_ ? valid : 0);
      from += pass_;
    }
    if constexpr (Slab::kAlongK) {
      next_ += Slab::kDepth;
      columns_left_ -= Slab::kDepth;
    } else {
      next_ = from;
      lines_left_ -= Slab::kDepth;
    }
  }
  __device__ __forceinline__ void land(std::byte*) {}

 private:
  const T* next_;
  int64_t pass_, lines_left_, columns_left_;
  int chunk_;
};

/// Everything a DeviceOperand can say.
template <class Slab_>
class MappedLoader {
 public:
  using Slab = Slab_;
  using T = typename Slab::T;
  using Args = DeviceOperand;
  static Args args(const DeviceOperand& o, int) { return o; }
  static constexpr int kTableBytes = Slab::kAlongK ? Slab::kOuter * static_cast<int>(sizeof(Line)) : 0;

  __device__ __forceinline__ MappedLoader(const Args& a, const Part& part, std::byte* table)
      : a_(a), lines_(reinterpret_cast<const Line*>(table)), walk_(a, Slab::kAlongK ? 0 : part.k_begin + first_line(), Slab::kPassLines) {
    int64_t column = first_chunk() * Slab::kChunkElements;
    if constexpr (Slab::kAlongK) {
      fill_lines<Slab>(a, part, reinterpret_cast<Line*>(table));
      column += part.k_begin;
      left_ = part.k_end - column;
    } else {
      column += part.outer;
      columns_left_ = bytes_left(part.outer_end - column, sizeof(T), kChunkBytes);
      left_ = part.k_end - part.k_begin - first_line();
    }
    tap_ = static_cast<int>(column / a.run);
    column_ = column - tap_ * a.run;
    if (tap_ >= a.taps) tap_ = 0;  // beyond the last column: nothing will be read
  }

  __device__ __forceinline__ void fetch(std::byte* slab) {
    const T* from = static_cast<const T*>(a_.data) + a_.tap_offset[tap_] + column_;
#pragma unroll
    for (int pass = 0; pass < Slab::kPasses; ++pass) {
      const int l = first_line() + pass * Slab::kPassLines;
      std::byte* const to = slab + chunk_at<Slab::kChunks>(l, first_chunk()) * kChunkBytes;
      if constexpr (Slab::kAlongK) {
        const Line line = lines_[l];
        const bool some = line.y != kOutside && inside(a_, line.y, line.x, tap_);
        ptx::cp_async_16(to, from + line.offset, some ? bytes_left(left_, sizeof(T), kChunkBytes) : 0);
      } else {
        const Line line = walk_.line(a_);
        const bool some = pass * Slab::kPassLines < left_ && inside(a_, line.y, line.x, tap_);
        ptx::cp_async_16(to, from + line.offset, some ? columns_left_ : 0);
        walk_.next(a_);
      }
    }
    left_ -= Slab::kDepth;
    if constexpr (Slab::kAlongK) {
      column_ += Slab::kDepth;
      while (column_ >= a_.run && tap_ + 1 < a_.taps) column_ -= a_.run, ++tap_;
    }
  }
  __device__ __forceinline__ void land(std::byte*) {}

 private:
  __device__ __forceinline__ static int first_line() { return static_cast<int>(threadIdx.x) / Slab::kChunks; }
  __device__ __forceinline__ static int first_chunk() { return static_cast<int>(threadIdx.x) % Slab::kChunks; }

  const DeviceOperand& a_;
  const Line* lines_;
  WalkingLine walk_;        // not along k
  int64_t left_;            // along k: columns, else lines, before the end
  int64_t column_;          // inside the tap
  int tap_, columns_left_;  // bytes of the chunk that exist, not along k
};

}  // namespace theia::THEIA_DEVICE
