// The loops around a copy: dimensions put into the order of dst and joined where both sides run on, cut into chunks by shape alone.
#include <algorithm>

#include "kernels/copy/copy.h"
#include "kernels/core/pool.h"

namespace theia {

namespace {

struct Loop {
  int64_t size, src, dst;  // steps in elements
};

struct Loops {
  Loop loop[kMaxRank + 1];  // the innermost last
  int count = 0;
  Loop& inner(int i = 0) { return loop[count - 1 - i]; }
};

Loops simplify(const CopyArgs& a) {
  Loops l;
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

/// If src runs along another dimension than dst does, that one becomes the second loop from inside: both sides then have a dimension in
/// which they are close, and tiles of the two keep every cache line until it is used up.
bool make_tiles(Loops& l) {
  constexpr int64_t kWorth = 4;
  const Loop inner = l.inner();
  int best = -1;
  for (int i = 0; i + 1 < l.count; ++i)
    if (l.loop[i].src > 0 && l.loop[i].src < inner.src && (best < 0 || l.loop[i].src < l.loop[best].src)) best = i;
  if (best < 0 || inner.size < kWorth || l.loop[best].size < kWorth) return false;
  const Loop moved = l.loop[best];
  for (int i = best; i + 2 < l.count; ++i) l.loop[i] = l.loop[i + 1];
  l.inner(1) = moved;
  return true;
}

/// Where iteration number `i` of the first `count` loops begins.
struct Place {
  int64_t src = 0, dst = 0;
};
Place place_of(const Loops& l, int count, int64_t i) {
  Place p;
  for (int k = count - 1; k >= 0; --k) {
    const int64_t at = i % l.loop[k].size;
    i /= l.loop[k].size;
    p.src += at * l.loop[k].src;
    p.dst += at * l.loop[k].dst;
  }
  return p;
}

int64_t pieces(int64_t n, int64_t each) { return (n + each - 1) / each; }

}  // namespace

void walk(const CopyArgs& a, const Context& context, const CopyKernels& kernels) {
  if (a.dst.numel() == 0) return;
  Loops l = simplify(a);
  const bool tiled = make_tiles(l);
  const int64_t src_bytes = bytes_of(a.src.dtype), dst_bytes = bytes_of(a.dst.dtype);
  const std::byte* src = a.src.base + a.src.offset * src_bytes;
  std::byte* dst = a.dst.base + a.dst.offset * dst_bytes;
  const Loop in = l.inner();
  const int outside = l.count - (tiled ? 2 : 1);
  int64_t outer = 1;
  for (int k = 0; k < outside; ++k) outer *= l.loop[k].size;

  if (tiled) {
    constexpr int64_t kRows = 64, kColumns = 512;  // 128 KB of float32 on either side
    const Loop rows = l.inner(1);
    const int64_t down = pieces(rows.size, kRows), across = pieces(in.size, kColumns);
    context.pool->run(outer * down * across, [&](int64_t chunk, int) {
      const int64_t column = chunk % across * kColumns, row = chunk / across % down * kRows;
      const Place p = place_of(l, outside, chunk / across / down);
      kernels.tile(src + (p.src + row * rows.src + column * in.src) * src_bytes, rows.src, in.src,
                   dst + (p.dst + row * rows.dst + column * in.dst) * dst_bytes, rows.dst, in.dst, std::min(kRows, rows.size - row),
                   std::min(kColumns, in.size - column));
    });
    return;
  }

  const auto row = [&](const Place& p, int64_t n) {
    const std::byte* from = src + p.src * src_bytes;
    std::byte* to = dst + p.dst * dst_bytes;
    if (in.src == 1 && in.dst == 1)
      kernels.packed(from, to, n);
    else
      kernels.strided(from, in.src, to, in.dst, n);
  };
  constexpr int64_t kElements = 1 << 15;
  if (in.size > kElements) {
    const int64_t across = pieces(in.size, kElements);
    context.pool->run(outer * across, [&](int64_t chunk, int) {
      const int64_t begin = chunk % across * kElements;
      const Place p = place_of(l, outside, chunk / across);
      row({p.src + begin * in.src, p.dst + begin * in.dst}, std::min(kElements, in.size - begin));
    });
    return;
  }
  // Rows of one chunk: the loop around them is stepped through, the others are worked out anew when it wraps.
  const int64_t each = kElements / in.size;
  const Loop around = outside > 0 ? l.inner(1) : Loop{1, 0, 0};
  context.pool->run(pieces(outer, each), [&](int64_t chunk, int) {
    const int64_t end = std::min(outer, (chunk + 1) * each);
    for (int64_t i = chunk * each; i < end;) {
      const Place p = place_of(l, outside, i);
      const int64_t run = std::min(end - i, around.size - i % around.size);
      for (int64_t k = 0; k < run; ++k) row({p.src + k * around.src, p.dst + k * around.dst}, in.size);
      i += run;
    }
  });
}

}  // namespace theia
