// The unit in which streaming kernels read and write: four elements a thread, of a type known at run time. A block of kThreads threads
// (or a warp of 32) takes a piece of 4 * kThreads elements. Where the tensor allows it (kWide) a thread has four neighbours, in one access
// of 16 bytes (float32) or 8 (bf16), so that a warp's access is 512 or 256 bytes in a row; elsewhere it has every kThreads-th element, one
// access each, so that a warp's access is in a row all the same. The type is a branch that all threads take alike: with it in the template
// every kernel would be built for every mix of float32 and bf16. A fetch keeps what it read as it is, so that nothing waits for it until
// unpack: several fetches are under way together.
#pragma once
#include <bit>

#include "kernels/core/tensor.h"
#include "kernels/cuda/runtime.h"
#include "kernels/ptx/convert.h"
#include "kernels/ptx/store.h"

namespace theia::THEIA_DEVICE {

/// The x of a grid over `blocks`: what does not fit, the kernels' loops take.
inline unsigned fold(int64_t blocks) { return static_cast<unsigned>(blocks < kMaxGridX ? blocks : kMaxGridX); }

/// A float32 or bf16 tensor as kernels reach it: the address of its first element.
struct Stream {
  void* data;
  bool half;  // bf16
};
inline Stream stream_of(const Tensor& t) {
  return {t.present() ? t.base + t.offset * bytes_of(t.dtype) : nullptr, t.present() && t.dtype == DType::bf16};
}

/// True if every row of the tensor (its last dimension, packed) can be read four elements at once. Absent tensors do not mind.
inline bool in_fours(const Tensor& t) {
  if (!t.present()) return true;
  bool fits = (reinterpret_cast<uintptr_t>(t.base) + static_cast<uintptr_t>(t.offset * bytes_of(t.dtype))) % (4 * bytes_of(t.dtype)) == 0;
  for (int i = 0; i < t.rank - 1; ++i) fits = fits && (t.size[i] <= 1 || t.stride[i] % 4 == 0);
  return fits && (t.rank == 0 ? false : t.size[t.rank - 1] % 4 == 0);
}

/// What a thread fetched, as it lies in memory: float32 in four words, four bf16 in the first two.
struct Four {
  uint32_t word[4];
};

/// Where in its piece the k-th element of a thread lies.
template <bool kWide, int kThreads>
__device__ __forceinline__ int element_at(int thread, int k) {
  return kWide ? 4 * thread + k : k * kThreads + thread;
}

/// A thread's elements of the piece at `start`, of which `left` elements exist (any number; a multiple of 4 where kWide). Others are 0.
template <bool kWide, int kThreads>
__device__ __forceinline__ Four fetch(const Stream& s, int64_t start, int thread, int64_t left) {
  Four f = {};
  if constexpr (kWide) {
    if (4 * thread < left) {
      if (s.half) {
        const uint2 v = *reinterpret_cast<const uint2*>(static_cast<const bf16*>(s.data) + start + 4 * thread);
        f.word[0] = v.x;
        f.word[1] = v.y;
      } else {
        const uint4 v = *reinterpret_cast<const uint4*>(static_cast<const float*>(s.data) + start + 4 * thread);
        f.word[0] = v.x;
        f.word[1] = v.y;
        f.word[2] = v.z;
        f.word[3] = v.w;
      }
    }
  } else {
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (k * kThreads + thread < left) {
        const int64_t at = start + k * kThreads + thread;
        if (s.half)
          f.word[k] = static_cast<uint32_t>(static_cast<const bf16*>(s.data)[at].bits) << 16;
        else
          f.word[k] = std::bit_cast<uint32_t>(static_cast<const float*>(s.data)[at]);
      }
  }
  return f;
}

template <bool kWide>
__device__ __forceinline__ void unpack(const Stream& s, const Four& f, float (&v)[4]) {
  if (kWide && s.half) {
    v[0] = ptx::low_bf16(f.word[0]);
    v[1] = ptx::high_bf16(f.word[0]);
    v[2] = ptx::low_bf16(f.word[1]);
    v[3] = ptx::high_bf16(f.word[1]);
  } else {
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] = std::bit_cast<float>(f.word[k]);
  }
}

/// The same of a float32 array: parameters and their gradients.
template <bool kWide, int kThreads>
__device__ __forceinline__ void read(const float* p, int64_t start, int thread, int64_t left, float (&v)[4]) {
  const Stream s{const_cast<float*>(p), false};
  unpack<kWide>(s, fetch<kWide, kThreads>(s, start, thread, left), v);
}

/// One element.
__device__ __forceinline__ void put_one(const Stream& s, int64_t at, float v) {
  if (s.half)
    static_cast<bf16*>(s.data)[at].bits = static_cast<uint16_t>(ptx::pack_bf16(v, 0));
  else
    static_cast<float*>(s.data)[at] = v;
}

/// Writes what a thread has of the piece at `start`, bf16 rounded to nearest even.
template <bool kWide, int kThreads>
__device__ __forceinline__ void put(const Stream& s, int64_t start, int thread, int64_t left, const float (&v)[4]) {
  if constexpr (kWide) {
    if (4 * thread < left) {
      if (s.half)
        ptx::store_8(static_cast<bf16*>(s.data) + start + 4 * thread, make_uint2(ptx::pack_bf16(v[0], v[1]), ptx::pack_bf16(v[2], v[3])));
      else
        ptx::store_16(static_cast<float*>(s.data) + start + 4 * thread,
                      make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]), __float_as_uint(v[3])));
    }
  } else {
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (k * kThreads + thread < left) put_one(s, start + k * kThreads + thread, v[k]);
  }
}

template <bool kWide, int kThreads>
__device__ __forceinline__ void write(float* p, int64_t start, int thread, int64_t left, const float (&v)[4]) {
  put<kWide, kThreads>({p, false}, start, thread, left, v);
}

}  // namespace theia::THEIA_DEVICE
