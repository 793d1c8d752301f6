#include "kernels/gemm/gemm.h"

#include <algorithm>

#include "kernels/gemm/plan.h"

namespace theia {

namespace {

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Below this many multiply-adds (about 5 us) a task costs more in hand-over than it brings.
constexpr int64_t kTaskWork = 700'000;
constexpr int64_t kEnoughTasks = 16;

}  // namespace

Gemm make_gemm(int64_t m, int64_t n, int64_t k, void* c, int64_t row_stride) {
  Gemm g{};
  g.m = m, g.n = n, g.k = k;
  g.c = c;
  g.c_rows = plain_rows(row_stride);
  g.groups = 1;
  return g;
}

Operand matrix(const void* data, int64_t row_stride, bool transposed) {
  Operand o{};
  o.source = Source::matrix;
  o.transposed = transposed;
  o.data = data;
  o.rows = plain_rows(row_stride);
  return o;
}

Operand packed(const void* data, int64_t panel_rows) {
  Operand o{};
  o.source = Source::packed;
  o.data = data;
  o.panel_rows = panel_rows;
  return o;
}

WeightView forward_view(const void* w, int64_t n, int64_t k) { return {w, n, 1, k, k, 1, {0}}; }

WeightView backward_view(const void* w, int64_t o, int64_t taps, int64_t i) {
  WeightView v{w, i, taps, o, 1, taps * i, {0}};
  for (int64_t t = 0; t < taps; ++t) v.tap_offset[t] = t * i;
  return v;
}

int64_t packed_elements(const WeightView& w) { return divide_up(w.n, kPanel) * kPanel * w.taps * w.run; }

int64_t block_end(const Gemm& g, int64_t k0) {
  int64_t limit = g.k;
  const Operand& b = g.b;
  if (b.source == Source::packed && b.taps > 0) {
    int64_t t = k0 / b.run;
    while (t + 1 < b.taps && b.tap_row[t + 1] == b.tap_row[t] + b.run) ++t;
    limit = (t + 1) * b.run;
  }
  const int64_t left = limit - k0;
  if (left <= 0) return k0;
  // Nothing to copy: long blocks, as few passes over C as can be. Else what the workspace holds.
  const bool packed_b = b.source == Source::packed;
  const int64_t most = packed_b && g.a.source == Source::matrix && !g.a.transposed ? kLongBlockK : packed_b ? kCopiedBlockK : kBlockK;
  const int64_t share = divide_up(divide_up(left, divide_up(left, most)), 8) * 8;
  return k0 + std::min(left, share);
}

GemmPlan plan_gemm(const Gemm& g, int mr) {
  GemmPlan p{};
  p.strips = divide_up(g.m, mr);
  p.group_columns = g.n / g.groups;
  p.group_panels = divide_up(p.group_columns, kPanel);
  p.panels = p.group_panels * g.groups;
  p.plain = !g.bias && g.activation == Activation::none && g.multiply == Multiply::none && !g.residual;
  p.direct_a = g.a.source == Source::matrix && !g.a.transposed && !g.a.mask;
  p.many_blocks = block_end(g, 0) < g.k;

  int64_t longest = 0;
  for (int64_t k = 0; k < g.k; k = block_end(g, k)) longest = std::max(longest, block_end(g, k) - k);
  const bool tall = p.direct_a || (p.plain && g.b.source != Source::packed);  // the workspace need not hold a copy of A and tiles of C
  const int64_t max_strips = std::min<int64_t>(p.strips, (tall ? kTaskRows : kCopiedRows) / mr);
  const int64_t a_floats = p.direct_a ? 0 : divide_up(max_strips * mr * longest, 16) * 16;
  const int64_t b_floats = g.b.source == Source::packed ? 0 : kPanel * longest;
  p.a_at = 0, p.b_at = a_floats, p.tiles_at = a_floats + b_floats;
  const int64_t tile_floats = p.plain || !p.many_blocks ? 0 : max_strips * mr * kPanel;
  int64_t max_panels = std::min<int64_t>(p.panels, 24);
  if (tile_floats) max_panels = std::min(max_panels, (kThreadFloats - p.tiles_at) / tile_floats);

  p.row_tasks = divide_up(p.strips, std::max<int64_t>(max_strips, 1));
  p.column_tasks = divide_up(p.panels, std::max<int64_t>(max_panels, 1));
  // Where A is read in place, tall tasks of few columns load B least often. Where it is copied, every column task copies it again.
  const int64_t few_panels = p.direct_a ? 1 : 6;
  const int64_t wanted = std::min(p.direct_a ? kEnoughTasks : kEnoughTasks / 2, g.m * g.n * g.k / kTaskWork);
  // What a thread wrote in one layer it reads in the next: a modified line comes slowly from another core, weights can be prefetched.
  p.by_rows = p.direct_a;
  if (p.by_rows && p.row_tasks == 1 && p.strips >= 12) p.row_tasks = 2;
  while (p.row_tasks * p.column_tasks < wanted) {
    if (p.panels > (2 * few_panels - 1) * p.column_tasks)
      p.column_tasks += 1;
    else if (p.strips >= 6 * p.row_tasks)
      p.row_tasks += 1;
    else if (p.panels >= 2 * p.column_tasks)
      p.column_tasks += 1;
    else
      break;
  }
  p.thread_floats = p.tiles_at + tile_floats * divide_up(p.panels, std::max<int64_t>(p.column_tasks, 1));
  return p;
}

int64_t gemm_workspace(const Gemm& g, int threads) {
  const int64_t a = plan_gemm(g, 8).thread_floats, b = plan_gemm(g, 6).thread_floats;
  return threads * divide_up(std::max(a, b) * 4, 64) * 64;
}

}  // namespace theia
