// Compiled once per instruction set: the including file defines THEIA_ISA.
#include "kernels/core/pool.h"
#include "kernels/core/simd.h"
#include "kernels/reduce/reduce.h"

namespace theia::THEIA_ISA {

/// NaN wins and stays: as torch has it, and as the plain loop does.
THEIA_INLINE vf larger(vf best, vf v) { return (v > best) | (v != v) ? v : best; }

template <bool kMax>
THEIA_INLINE vf join(vf a, vf b) {
  return kMax ? larger(a, b) : a + b;
}

/// y = y joined with kRows rows of `width` columns; a sum adds the rows up in pairs first, so that y grows by one term in kRows.
template <bool kMax, int kRows>
static void reduce_rows(const float* x, int64_t step, float* y, int64_t width, bool fresh) {
  for (int64_t d = 0; d < width; d += kLanes) {
    const int n = width - d < kLanes ? static_cast<int>(width - d) : kLanes;
    const bool whole = n == kLanes;
    vf v[kRows];
    for (int r = 0; r < kRows; ++r) v[r] = whole ? load(x + r * step + d) : load_n(x + r * step + d, n);
    for (int pair = 1; pair < kRows; pair *= 2)
      for (int r = 0; r < kRows; r += 2 * pair) v[r] = join<kMax>(v[r], v[r + pair]);
    const vf all = fresh ? v[0] : join<kMax>(whole ? load(y + d) : load_n(y + d, n), v[0]);
    if (whole)
      store(y + d, all);
    else
      store_n(y + d, all, n);
  }
}

/// Sums of any length: eight rows make a term, 32 such terms a partial sum, so that no float takes in more than 32 + N/256 terms.
/// `part` holds the partial sums of the columns.
template <bool kMax>
static void reduce_columns(const float* x, int64_t step, int64_t rows, float* y, float* part, int64_t width) {
  constexpr int64_t kPart = 256;
  for (int64_t begin = 0; begin < rows; begin += kPart) {
    const int64_t end = begin + kPart < rows ? begin + kPart : rows;
    float* into = begin == 0 ? y : part;
    int64_t n = begin;
    for (; n + 8 <= end; n += 8) reduce_rows<kMax, 8>(x + n * step, step, into, width, n == begin);
    for (; n < end; ++n) reduce_rows<kMax, 1>(x + n * step, step, into, width, n == begin);
    if (begin > 0) reduce_rows<kMax, 1>(part, 0, y, width, false);
  }
}

inline constexpr int64_t kReduceColumns = 256;

void reduce(const ReduceArgs& a, const Context& context) {
  const int64_t batch = a.x.size[0], rows = a.x.size[1], width = a.x.size[2];
  const int64_t across = (width + kReduceColumns - 1) / kReduceColumns;
  const Reduction kind = static_cast<Reduction>(a.kind);
  context.pool->run(batch * across, [&](int64_t chunk, int) {
    const int64_t b = chunk / across, begin = chunk % across * kReduceColumns;
    const int64_t n = width - begin < kReduceColumns ? width - begin : kReduceColumns;
    const float* x = a.x.ptr<float>() + b * a.x.stride[0] + begin;
    float* y = a.y.ptr<float>() + b * a.y.stride[0] + begin;
    float part[kReduceColumns];
    if (kind == Reduction::max)
      reduce_columns<true>(x, a.x.stride[1], rows, y, part, n);
    else
      reduce_columns<false>(x, a.x.stride[1], rows, y, part, n);
    if (kind == Reduction::mean)
      for (int64_t d = 0; d < n; ++d) y[d] /= static_cast<float>(rows);
  });
}

void reduce_grad(const ReduceGradArgs& a, const Context& context) {
  const int64_t batch = a.dx.size[0], rows = a.dx.size[1], width = a.dx.size[2];
  const int64_t across = (width + kReduceColumns - 1) / kReduceColumns;
  const Reduction kind = static_cast<Reduction>(a.kind);
  context.pool->run(batch * across, [&](int64_t chunk, int) {
    const int64_t b = chunk / across, begin = chunk % across * kReduceColumns;
    const int64_t count = width - begin < kReduceColumns ? width - begin : kReduceColumns;
    const float* dy = a.dy.ptr<float>() + b * a.dy.stride[0] + begin;
    float* dx = a.dx.ptr<float>() + b * a.dx.stride[0] + begin;
    float left[kReduceColumns];    // what a row gets
    int32_t open[kReduceColumns];  // all bits set until the maximum was met
    const bool max = kind == Reduction::max;
    const float scale = kind == Reduction::mean ? static_cast<float>(rows) : 1.0f;
    for (int64_t d = 0; d < count; ++d) {
      left[d] = dy[d] / scale;
      open[d] = -1;
    }
    const float* x = max ? a.x.ptr<float>() + b * a.x.stride[0] + begin : nullptr;
    const float* y = max ? a.y.ptr<float>() + b * a.y.stride[0] + begin : nullptr;
    for (int64_t n = 0; n < rows; ++n) {
      float* to = dx + n * a.dx.stride[1];
      if (!max) {
        for (int64_t d = 0; d < count; ++d) to[d] = left[d];
        continue;
      }
      const float* row = x + n * a.x.stride[1];
      for (int64_t d = 0; d < count; ++d) {
        const bool equal = (row[d] == y[d]) | ((row[d] != row[d]) & (y[d] != y[d]));
        const int32_t here = open[d] & -static_cast<int32_t>(equal);
        to[d] = here ? left[d] : 0.0f;
        open[d] &= ~here;
      }
    }
  });
}

}  // namespace theia::THEIA_ISA
