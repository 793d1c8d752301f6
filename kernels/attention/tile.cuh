// Tokens of one head as warps work on them: bf16 rows in shared memory, padded to HD channels with zeros, in steps of 16 rows.
#pragma once
#include "kernels/core/dtype.h"
#include "kernels/core/tensor.h"
#include "kernels/cuda/runtime.h"
#include "kernels/ptx/convert.h"
#include "kernels/ptx/cp_async.h"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/mma.h"

namespace theia::THEIA_DEVICE::heads {

inline constexpr int kStep = 16;           // rows of an mma tile
inline constexpr int kStage = kStep * 32;  // bf16 that a warp passes results through on their way out: 32 channels at a time
inline constexpr float kLog2e = 1.4426950408889634f;

/// A [B,N,H,hd] view whose rows are packed. `width`: the bytes that every row's address is a multiple of, 2 to 16.
template <class T>
struct Tokens {
  T* base;
  int64_t batch, token, head;  // strides in elements
  int width;
  __device__ __forceinline__ T* of(int b, int h) const { return base + b * batch + h * head; }
};

/// What a launcher hands to a kernel of an operand.
template <class T>
Tokens<T> tokens_of(const Tensor& t) {
  T* base = t.ptr<T>();
  uint64_t bits = reinterpret_cast<uint64_t>(base) | 16;
  for (int i = 0; i < 3; ++i)
    if (t.size[i] > 1) bits |= static_cast<uint64_t>(t.stride[i]) * sizeof(T);
  return {base, t.stride[0], t.stride[1], t.stride[2], static_cast<int>(bits & -bits)};
}

/// Start of the 16-byte chunk in a tile: chunks of a row are permuted so that 8 rows at one chunk, which is what ldmatrix reads at a time,
/// lie in 8 different groups of 4 banks.
template <int HD>
__device__ __forceinline__ int chunk_at(int row, int chunk) {
  static_assert(HD == 32 || HD == 64 || HD == 80 || HD == 128);
  const int turn = HD == 32 ? (row >> 1) & 3 : HD == 80 ? (row >> 2) & 1 : row & 7;
  return row * HD + 8 * (chunk ^ turn);
}

/// 16 bytes to shared memory in copies of W bytes: `valid` elements are read, zeros fill the rest.
template <int W>
__device__ __forceinline__ void copy_chunk(bf16* to, const bf16* from, int valid) {
  constexpr int n = W / 2;
#pragma unroll
  for (int i = 0; i < 8; i += n) {
    const int count = min(max(valid - i, 0), n);
    const bf16* source = count > 0 ? from + i : from;
    if constexpr (W == 16) ptx::cp_async_16(to + i, source, 2 * count);
    if constexpr (W == 8) ptx::cp_async_8(to + i, source, 2 * count);
    if constexpr (W == 4) ptx::cp_async_4(to + i, source, 2 * count);
    if constexpr (W == 2) to[i] = count > 0 ? *source : bf16{0};
  }
}

template <int HD, int W>
__device__ __forceinline__ void copy_rows(bf16* tile, const bf16* from, int64_t stride, int rows, int valid_rows, int hd, int thread,
                                          int threads) {
  constexpr int chunks = HD / 8;
  if constexpr (chunks == 10) {
    for (int i = thread; i < rows * chunks; i += threads) {
      const int row = i / chunks, chunk = i % chunks;
      const int valid = row < valid_rows ? min(max(hd - 8 * chunk, 0), 8) : 0;
      copy_chunk<W>(tile + chunk_at<HD>(row, chunk), valid > 0 ? from + row * stride + 8 * chunk : from, valid);
    }
  } else {  // a thread keeps to its chunk of a row: `threads` is a multiple of a warp
    const int chunk = thread % chunks, down = threads / chunks, present = min(max(hd - 8 * chunk, 0), 8);
    const bf16* source = from + thread / chunks * stride + 8 * chunk;
    for (int row = thread / chunks; row < rows; row += down, source += down * stride) {
      const int valid = row < valid_rows ? present : 0;
      copy_chunk<W>(tile + chunk_at<HD>(row, chunk), valid > 0 ? source : from, valid);
    }
  }
}

/// Begins to copy rows to a tile: `rows` of it, of which the first `valid_rows` exist. The caller commits, waits and synchronises.
template <int HD>
__device__ __forceinline__ void load_rows(bf16* tile, const bf16* from, int64_t stride, int width, int rows, int valid_rows, int hd,
                                          int thread, int threads) {
  if (width >= 16)
    copy_rows<HD, 16>(tile, from, stride, rows, valid_rows, hd, thread, threads);
  else if (width == 8)
    copy_rows<HD, 8>(tile, from, stride, rows, valid_rows, hd, thread, threads);
  else if (width == 4)
    copy_rows<HD, 4>(tile, from, stride, rows, valid_rows, hd, thread, threads);
  else
    copy_rows<HD, 2>(tile, from, stride, rows, valid_rows, hd, thread, threads);
}

/// Where a lane points ldmatrix.x4 in a step of 16 rows: row lane % 16, at the left or right chunk of each 16 channels. The same for a tile
/// as A, as B and as transposed B; only the meaning of the four registers differs.
template <int HD>
struct Lane {
  int at[HD / 16];
  __device__ __forceinline__ explicit Lane(int lane) {
#pragma unroll
    for (int k = 0; k < HD / 16; ++k) at[k] = chunk_at<HD>(lane & 15, 2 * k + (lane >> 4));
  }
};

template <int HD>
using Rows = uint32_t[HD / 16][4];  // 16 rows as operand A
template <int HD>
using Sums = float[HD / 8][4];  // 16 rows of HD sums

template <int HD>
__device__ __forceinline__ void read_rows(Rows<HD>& a, const bf16* step, const Lane<HD>& lane) {
#pragma unroll
  for (int k = 0; k < HD / 16; ++k) ptx::ldmatrix_x4(a[k], step + lane.at[k]);
}

/// s[16 rows of a, 16 rows of the step] += a · stepᵀ, as two tiles of 8 columns.
template <int HD>
__device__ __forceinline__ void add_scores(float (&left)[4], float (&right)[4], const Rows<HD>& a, const bf16* step, const Lane<HD>& lane) {
#pragma unroll
  for (int k = 0; k < HD / 16; ++k) {
    uint32_t r[4];
    ptx::ldmatrix_x4(r, step + lane.at[k]);
    const uint32_t b0[2] = {r[0], r[2]}, b1[2] = {r[1], r[3]};
    ptx::mma_m16n8k16<bf16>(left, a[k], b0);
    ptx::mma_m16n8k16<bf16>(right, a[k], b1);
  }
}

/// The same with the rows of a in shared memory: where registers are needed for sums.
template <int HD>
__device__ __forceinline__ void add_scores(float (&left)[4], float (&right)[4], const bf16* a, const bf16* step, const Lane<HD>& lane) {
#pragma unroll
  for (int k = 0; k < HD / 16; ++k) {
    uint32_t own[4], r[4];
    ptx::ldmatrix_x4(own, a + lane.at[k]);
    ptx::ldmatrix_x4(r, step + lane.at[k]);
    const uint32_t b0[2] = {r[0], r[2]}, b1[2] = {r[1], r[3]};
    ptx::mma_m16n8k16<bf16>(left, own, b0);
    ptx::mma_m16n8k16<bf16>(right, own, b1);
  }
}

/// sums += p[16,16] · step[16,HD]
template <int HD>
__device__ __forceinline__ void add_rows(Sums<HD>& sums, const uint32_t (&p)[4], const bf16* step, const Lane<HD>& lane) {
#pragma unroll
  for (int k = 0; k < HD / 16; ++k) {
    uint32_t r[4];
    ptx::ldmatrix_x4_trans(r, step + lane.at[k]);
    const uint32_t b0[2] = {r[0], r[1]}, b1[2] = {r[2], r[3]};
    ptx::mma_m16n8k16<bf16>(sums[2 * k], p, b0);
    ptx::mma_m16n8k16<bf16>(sums[2 * k + 1], p, b1);
  }
}

/// Two tiles of 8 columns, as an mma leaves them, as operand A of the next: no data moves between lanes.
__device__ __forceinline__ void pack_operand(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = ptx::pack_bf16(left[0], left[1]);
  a[1] = ptx::pack_bf16(left[2], left[3]);
  a[2] = ptx::pack_bf16(right[0], right[1]);
  a[3] = ptx::pack_bf16(right[2], right[3]);
}

/// Of all four lanes that share a row.
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullMask, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullMask, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(kFullMask, x, 1);
  return x + __shfl_xor_sync(kFullMask, x, 2);
}

template <int HD>
__device__ __forceinline__ void clear(Sums<HD>& sums) {
#pragma unroll
  for (int j = 0; j < HD / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[j][i] = 0;
}

/// 8 packed elements, of which `valid` exist, to global memory in stores of W bytes.
template <int W>
__device__ __forceinline__ void store_chunk(bf16* to, uint4 chunk, int valid) {
  const uint32_t pair[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
  if (W >= 16 && valid == 8) {
    *reinterpret_cast<uint4*>(to) = chunk;
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (W >= 4 && 2 * i + 1 < valid) {
      *reinterpret_cast<uint32_t*>(to + 2 * i) = pair[i];
    } else {
      if (2 * i < valid) to[2 * i] = {static_cast<uint16_t>(pair[i])};
      if (2 * i + 1 < valid) to[2 * i + 1] = {static_cast<uint16_t>(pair[i] >> 16)};
    }
  }
}

/// Writes a warp's 16 rows of sums, times `low` (rows 0..7: this lane's row lane / 4) and `high` (rows 8..15), as bf16. They go through
/// `stage` (kStage elements of this warp's own), 32 channels at a time, so that whole sectors of 32 bytes are written.
template <int HD>
__device__ __forceinline__ void store_rows(bf16* stage, const Sums<HD>& sums, float low, float high, bf16* to, int64_t stride, int width,
                                           int valid_rows, int hd, int lane) {
#pragma unroll
  for (int first = 0; first < HD / 8; first += 4) {
    __syncwarp();
#pragma unroll
    for (int j = first; j < first + 4 && j < HD / 8; ++j) {
      const int row = lane >> 2, at = 2 * (lane & 3);
      *reinterpret_cast<uint32_t*>(stage + chunk_at<32>(row, j - first) + at) = ptx::pack_bf16(sums[j][0] * low, sums[j][1] * low);
      *reinterpret_cast<uint32_t*>(stage + chunk_at<32>(row + 8, j - first) + at) = ptx::pack_bf16(sums[j][2] * high, sums[j][3] * high);
    }
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = 8 * half + (lane >> 2), chunk = lane & 3, channel = 8 * (first + chunk);
      const int valid = row < valid_rows && channel < HD ? min(max(hd - channel, 0), 8) : 0;
      if (valid == 0) continue;
      const uint4 packed = *reinterpret_cast<const uint4*>(stage + chunk_at<32>(row, chunk));
      bf16* target = to + row * stride + channel;
      if (width >= 16)
        store_chunk<16>(target, packed, valid);
      else if (width >= 4)
        store_chunk<4>(target, packed, valid);
      else
        store_chunk<2>(target, packed, valid);
    }
  }
}

}  // namespace theia::THEIA_DEVICE::heads
