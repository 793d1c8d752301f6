// Bringing in uint8 patches as bf16: eight bytes a chunk wait in registers while the block multiplies, then each is looked up in the table
// of its channel, which lies in shared memory as bf16.
#pragma once
#include "kernels/gemm/device/lines.cuh"
#include "kernels/ptx/convert.h"

namespace theia::THEIA_DEVICE {

inline constexpr int kMostByteChannels = 4;

/// `vector`: pointer, strides and runs are multiples of eight bytes.
struct ByteOperand {
  DeviceOperand o;
  bool vector;
};

template <class Slab_>
class ByteLoader {
 public:
  using Slab = Slab_;
  using Args = ByteOperand;
  static_assert(Slab::kChunkElements == 8);
  static Args args(const DeviceOperand& o, int vector) { return {o, vector != 0}; }
  static constexpr int kLineBytes = Slab::kAlongK ? Slab::kOuter * static_cast<int>(sizeof(Line)) : 0;
  static constexpr int kTableBytes = kLineBytes + kMostByteChannels * 256 * 2;

  __device__ __forceinline__ ByteLoader(const Args& a, const Part& part, std::byte* table)
      : o_(a.o),
        vector_(a.vector),
        lines_(reinterpret_cast<const Line*>(table)),
        values_(reinterpret_cast<const uint16_t*>(table + kLineBytes)),
        walk_(a.o, Slab::kAlongK ? 0 : part.k_begin + first_line(), Slab::kPassLines) {
    uint16_t* const values = reinterpret_cast<uint16_t*>(table + kLineBytes);
    for (int i = static_cast<int>(threadIdx.x); i < o_.channels * 256; i += Slab::kThreads)
      values[i] = static_cast<uint16_t>(ptx::pack_bf16(o_.table[i], 0.0f));
    int64_t column = first_chunk() * 8;
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

  __device__ __forceinline__ void fetch(std::byte*) {
    channel_ = static_cast<int>(static_cast<unsigned>(column_) % static_cast<unsigned>(o_.channels));  // 64 bits would take 80 instructions
    count_ = columns_left_ >= 8 ? 8 : static_cast<int>(columns_left_);
    exist_ = 0;
#pragma unroll
    for (int pass = 0; pass < Slab::kPasses; ++pass) {
      Line line;
      bool some = count_ > 0;
      if constexpr (Slab::kAlongK) {
        line = lines_[first_line() + pass * Slab::kPassLines];
        some = some && line.y != kOutside;
      } else {
        line = walk_.line(o_);
        some = some && pass * Slab::kPassLines < lines_left_;
        walk_.next(o_);
      }
      raw_[pass] = make_uint2(0, 0);
      if (some) {
        exist_ |= 1u << pass;
        raw_[pass] = bytes_of_chunk(line);
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

  __device__ __forceinline__ void land(std::byte* slab) {
    int at[8];  // where each byte's channel lies in the table
#pragma unroll
    for (int e = 0, channel = channel_; e < 8; ++e) {
      at[e] = channel * 256;
      channel = channel + 1 == o_.channels ? 0 : channel + 1;
    }
#pragma unroll
    for (int pass = 0; pass < Slab::kPasses; ++pass) {
      uint32_t packed[4];
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        const uint32_t word = (pair < 2 ? raw_[pass].x : raw_[pass].y) >> (pair % 2 * 16);
        uint32_t low = values_[at[2 * pair] + (word & 255)], high = values_[at[2 * pair + 1] + (word >> 8 & 255)];
        if (2 * pair >= count_) low = 0;
        if (2 * pair + 1 >= count_) high = 0;
        packed[pair] = exist_ >> pass & 1 ? low | high << 16 : 0;
      }
      const int l = first_line() + pass * Slab::kPassLines;
      *reinterpret_cast<uint4*>(slab + chunk_at<Slab::kChunks>(l, first_chunk()) * kChunkBytes) =
          make_uint4(packed[0], packed[1], packed[2], packed[3]);
    }
  }

 private:
  __device__ __forceinline__ static int first_line() { return static_cast<int>(threadIdx.x) / Slab::kChunks; }
  __device__ __forceinline__ static int first_chunk() { return static_cast<int>(threadIdx.x) % Slab::kChunks; }

  /// Eight bytes of a line from the thread's columns on; those behind the last column are 0.
  __device__ __forceinline__ uint2 bytes_of_chunk(const Line& line) const {
    const uint8_t* data = static_cast<const uint8_t*>(o_.data) + line.offset;
    if (vector_) return *reinterpret_cast<const uint2*>(data + o_.tap_offset[tap_] + column_);
    uint64_t chunk = 0;
    int tap = tap_;
    int64_t column = column_;
#pragma unroll 1
    for (int e = 0; e < count_; ++e) {
      chunk |= static_cast<uint64_t>(data[o_.tap_offset[tap] + column]) << (8 * e);
      if (++column >= o_.run && tap + 1 < o_.taps) column = 0, ++tap;
    }
    return make_uint2(static_cast<uint32_t>(chunk), static_cast<uint32_t>(chunk >> 32));
  }

  const DeviceOperand& o_;
  bool vector_;
  const Line* lines_;
  const uint16_t* values_;
  WalkingLine walk_;
  int64_t columns_left_, lines_left_ = 0;
  int64_t column_;  // inside the tap
  int tap_;
  uint2 raw_[Slab::kPasses];
  uint32_t exist_ = 0;           // lines of this fetch that exist, a bit a pass
  int count_ = 0, channel_ = 0;  // columns of this fetch that exist; the first one's channel
};

}  // namespace theia::THEIA_DEVICE
