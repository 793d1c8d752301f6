// What a copy comes to on a device: its dimensions in the order of dst, joined where both sides run on, in pieces that 32 bits can count.
#pragma once
#include "kernels/copy/copy.h"
#include "kernels/cuda/runtime.h"

namespace theia::THEIA_DEVICE {

/// n / divisor for n below 2^31 by a multiplication (Granlund, Montgomery 1994): a division takes some twenty instructions.
struct Divider {
  uint32_t divisor, factor, shift;
  __device__ __forceinline__ uint32_t operator()(uint32_t n) const { return divisor == 1 ? n : __umulhi(n, factor) >> shift; }
};
inline Divider divider(int64_t divisor) {
  uint32_t shift = 0;
  while ((int64_t{1} << (shift + 1)) < divisor) ++shift;  // the smallest power of two not below it is 2^(shift + 1)
  const uint64_t scale = uint64_t{1} << (32 + shift);
  const uint64_t d = static_cast<uint64_t>(divisor);
  return {static_cast<uint32_t>(d), static_cast<uint32_t>((scale + d - 1) / d), shift};
}

struct Loop {
  int64_t size, src, dst;  // steps in elements
};

/// The dimensions of a copy, the innermost last.
struct Loops {
  Loop loop[kMaxRank];
  int count;
  int64_t total() const {
    int64_t n = 1;
    for (int i = 0; i < count; ++i) n *= loop[i].size;
    return n;
  }
};

inline Loops loops_of(const CopyArgs& a) {
  Loops l{};
  for (int i = 0; i < a.dst.rank; ++i) {
    if (a.dst.size[i] == 1) continue;
    int at = l.count++;
    for (; at > 0 && l.loop[at - 1].dst < a.dst.stride[i]; --at) l.loop[at] = l.loop[at - 1];
    l.loop[at] = {a.dst.size[i], a.src.stride[i], a.dst.stride[i]};
  }
  if (l.count == 0) l.loop[l.count++] = {1, 1, 1};
  int kept = 0;  // joins each loop with the one outside it where that goes on where this one ends
  for (int i = 1; i < l.count; ++i) {
    Loop &outer = l.loop[kept], &next = l.loop[i];
    if (outer.dst == next.dst * next.size && outer.src == next.src * next.size)
      outer = {outer.size * next.size, next.src, next.dst};
    else
      l.loop[++kept] = next;
  }
  l.count = kept + 1;
  return l;
}

/// Several elements as one: divides the innermost size, which is packed on both sides, and all other steps. False if something does not
/// divide.
inline bool widen(Loops& l, int64_t by, const std::byte* src, const std::byte* dst, int64_t src_bytes, int64_t dst_bytes) {
  Loop& inner = l.loop[l.count - 1];
  bool fits = inner.src == 1 && inner.dst == 1 && inner.size % by == 0;
  fits = fits && reinterpret_cast<uintptr_t>(src) % static_cast<uintptr_t>(by * src_bytes) == 0 &&
         reinterpret_cast<uintptr_t>(dst) % static_cast<uintptr_t>(by * dst_bytes) == 0;
  for (int i = 0; i < l.count - 1; ++i) fits = fits && l.loop[i].src % by == 0 && l.loop[i].dst % by == 0;
  if (!fits) return false;
  inner.size /= by;
  for (int i = 0; i < l.count - 1; ++i) {
    l.loop[i].src /= by;
    l.loop[i].dst /= by;
  }
  return true;
}

/// Calls f(loops, src, dst) with the starts in elements, for parts of fewer than 2^31 elements: the outermost loop is halved until they
/// are.
template <class F>
void in_parts(const Loops& l, int64_t src, int64_t dst, F& f) {
  if (l.total() < int64_t{1} << 31) {
    f(l, src, dst);
    return;
  }
  Loops part = l;
  if (l.loop[0].size == 1) {  // cut as far as it goes: the next one is the outermost
    --part.count;
    for (int i = 0; i < part.count; ++i) part.loop[i] = l.loop[i + 1];
    in_parts(part, src, dst, f);
    return;
  }
  const int64_t half = l.loop[0].size / 2;
  part.loop[0].size = half;
  in_parts(part, src, dst, f);
  part.loop[0].size = l.loop[0].size - half;
  in_parts(part, src + half * l.loop[0].src, dst + half * l.loop[0].dst, f);
}

/// Loops as a kernel counts through them: element number i, a row-major count, to a place on either side.
struct Walk {
  int count;
  Divider size[kMaxRank];
  int64_t src[kMaxRank], dst[kMaxRank];
};
inline Walk walk_of(const Loops& l, int count) {
  Walk w{};
  w.count = count;
  for (int i = 0; i < count; ++i) {
    w.size[i] = divider(l.loop[i].size);
    w.src[i] = l.loop[i].src;
    w.dst[i] = l.loop[i].dst;
  }
  return w;
}

struct Position {
  int64_t src, dst;
};
__device__ __forceinline__ Position position_of(const Walk& w, uint32_t i) {
  Position p{0, 0};
#pragma unroll
  for (int k = kMaxRank - 1; k > 0; --k)
    if (k < w.count) {
      const uint32_t rest = w.size[k](i), at = i - rest * w.size[k].divisor;
      i = rest;
      p.src += int64_t{at} * w.src[k];
      p.dst += int64_t{at} * w.dst[k];
    }
  if (w.count > 0) {
    p.src += int64_t{i} * w.src[0];
    p.dst += int64_t{i} * w.dst[0];
  }
  return p;
}

}  // namespace theia::THEIA_DEVICE
