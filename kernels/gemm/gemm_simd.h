// The product per instruction set: tasks, blocks of k, epilogue. Included by the files per instruction set only.
#pragma once
#include "kernels/core/pool.h"
#include "kernels/gemm/operand_simd.h"
#include "kernels/gemm/tile_peak.h"

namespace theia::THEIA_ISA {

/// Offsets of the rows of one task in every tensor of the epilogue.
struct TaskRows {
  int64_t c[kTaskRows], slope[kTaskRows], multiplier[kTaskRows], residual[kTaskRows];
};

/// Finished sums [rows][32] to C through the whole epilogue. `n` columns from logical column n0 go to element c_col of C's rows.
static void finish(const Gemm& g, const TaskRows& at, int64_t row, int64_t rows, int64_t n0, int64_t c_col, int64_t n, const float* tile,
                   bool add_c) {
  float* const c = static_cast<float*>(g.c) + c_col;
  const float* const bias = static_cast<const float*>(g.bias);
  const float* const residual = static_cast<const float*>(g.residual);
  const float* const multiplier = static_cast<const float*>(g.multiplier);
  float* const slope = static_cast<float*>(g.slope);
  for (int64_t v = 0; v < n; v += kLanes) {
    const int lanes = static_cast<int>(n - v < kLanes ? n - v : kLanes);
    const int64_t col = n0 + v;
    const vf b = bias ? load_n(bias + col, lanes) : vf{};
    for (int64_t i = 0; i < rows; ++i) {
      vf x = load(tile + i * kPanel + v) + b;
      if (residual && g.residual_first) x += load_n(residual + at.residual[row + i] + col, lanes);
      if (g.activation == Activation::relu) {
        x = vmax(vf{}, x);
      } else if (g.activation == Activation::gelu) {
        vf d;
        x = vgelu(x, d);
        if (slope) store_n(slope + at.slope[row + i] + col, d, lanes);
      }
      if (g.multiply != Multiply::none) {
        const vf f = load_n(multiplier + at.multiplier[row + i] + col, lanes);
        x = g.multiply == Multiply::value ? x * f : (f > 0.0f ? x : vf{});
      }
      if (residual && !g.residual_first) x += load_n(residual + at.residual[row + i] + col, lanes);
      float* o = c + at.c[row + i] + v;
      if (add_c) x += load_n(o, lanes);
      store_n(o, x, lanes);
    }
  }
}

/// finish() for bias and GELU alone, rows in fours (vgelu_many).
template <bool kSlope>
static void finish_gelu(const Gemm& g, const TaskRows& at, int64_t row, int64_t rows, int64_t n0, int64_t c_col, int64_t n,
                        const float* tile) {
  constexpr int kRows = 4;
  float* const c = static_cast<float*>(g.c) + c_col;
  const float* const bias = static_cast<const float*>(g.bias);
  float* const slope = static_cast<float*>(g.slope);
  for (int64_t v = 0; v < n; v += kLanes) {
    const int lanes = static_cast<int>(n - v < kLanes ? n - v : kLanes);
    const vf b = bias ? load_n(bias + n0 + v, lanes) : vf{};
    for (int64_t i = 0; i < rows; i += kRows) {
      vf x[kRows], d[kRows];
      for (int j = 0; j < kRows; ++j) x[j] = load(tile + (i + j < rows ? i + j : rows - 1) * kPanel + v) + b;
      vgelu_many<kRows, kSlope>(x, d);
      for (int j = 0; j < kRows && i + j < rows; ++j) {
        store_n(c + at.c[row + i + j] + v, x[j], lanes);
        if constexpr (kSlope) store_n(slope + at.slope[row + i + j] + n0 + v, d[j], lanes);
      }
    }
  }
}

/// A's block of k, as the register kernel reads it.
struct ABlock {
  const float* rows[kTaskRows];
  const float* k_major;
  int64_t begin[kTaskRows / kMr + 1], end[kTaskRows / kMr + 1];  // of each strip: the part of the block that is not 0 for all its rows
};

/// Patches at the upper and lower edge of a map have taps above and below it: the strips there skip them. (Those to the left and right are
/// spread over all strips.) `rows` then start where the strip does.
static void trim(const Gemm& g, int64_t row0, int64_t rows, int64_t k0, int64_t len, ABlock& a) {
  const Operand& o = g.a;
  const int64_t t0 = k0 / o.run, t1 = (k0 + len - 1) / o.run;
  Cursor at = cursor(o.rows, row0);
  for (int64_t strip = 0, row = 0; row < rows; ++strip) {
    int64_t begin = len, end = 0;
    for (const int64_t stop = row + kMr < rows ? row + kMr : rows, first = row; row < stop; ++row, at.next()) {
      if (row > first && at.x > 0) continue;  // another position of the same line of the map
      for (int64_t t = t0; t <= t1; ++t) {
        const int64_t y = at.y * o.step_y + o.dy[t];
        if (y < 0 || y >= o.height) continue;
        const int64_t from = t * o.run - k0, to = from + o.run;
        if (from < begin) begin = from > 0 ? from : 0;
        if (to > end) end = to < len ? to : len;
      }
    }
    if (begin >= end) begin = end = 0;
    a.begin[strip] = begin, a.end[strip] = end;
    for (int64_t i = strip * kMr; i < row; ++i) a.rows[i] += begin;
  }
}

static void load_a(const Gemm& g, const GemmPlan& plan, int64_t row0, int64_t rows, int64_t k0, int64_t len, float* workspace,
                   ABlock& out) {
  if (g.a.transposed) {
    pack_k_major(g.a, row0, rows, k0, len, workspace);
    out.k_major = workspace;
  } else if (plan.direct_a) {
    const float* const data = static_cast<const float*>(g.a.data) + k0;
    int64_t at[kTaskRows];
    row_offsets(g.a.rows, row0, rows, at);
    for (int64_t i = 0; i < rows; ++i) out.rows[i] = data + at[i];
  } else {
    pack_rows(g.a, row0, rows, k0, len, workspace);
    for (int64_t i = 0; i < rows; ++i) out.rows[i] = workspace + i * len;
    if (g.a.source == Source::patches && len > 0) return trim(g, row0, rows, k0, len, out);
  }
  for (int64_t strip = 0; strip * kMr < rows; ++strip) out.begin[strip] = 0, out.end[strip] = len;
}

/// Rows first .. stop lie a constant step apart.
static bool evenly(const RowMap& map, const int64_t* at, int64_t first, int64_t stop) {
  if (is_plain(map)) return true;
  bool even = true;
  for (int64_t i = first + 2; i < stop; ++i) even &= at[i] - at[i - 1] == at[first + 1] - at[first];
  return even;
}

static void run_task(const Gemm& g, const GemmPlan& plan, int64_t task, float* workspace) {
  const int64_t row_task = plan.by_rows ? task / plan.column_tasks : task % plan.row_tasks;
  const int64_t column_task = plan.by_rows ? task % plan.column_tasks : task / plan.row_tasks;
  const int64_t strip0 = row_task * plan.strips / plan.row_tasks, strips = (row_task + 1) * plan.strips / plan.row_tasks - strip0;
  const int64_t row0 = strip0 * kMr, rows = row0 + strips * kMr < g.m ? strips * kMr : g.m - row0;
  const int64_t panel0 = column_task * plan.panels / plan.column_tasks, panel1 = (column_task + 1) * plan.panels / plan.column_tasks;

  TaskRows at;
  row_offsets(g.c_rows, row0, rows, at.c);
  if (g.slope) row_offsets(g.slope_rows, row0, rows, at.slope);
  if (g.multiply != Multiply::none) row_offsets(g.multiplier_rows, row0, rows, at.multiplier);
  if (g.residual) row_offsets(g.residual_rows, row0, rows, at.residual);

  // Where the rows of a strip lie evenly in C (and in the residual) the register kernel works there itself: in matrices, and along a line
  // of a map.
  bool even[kTaskRows / kMr + 1], even_residual[kTaskRows / kMr + 1];
  for (int64_t strip = 0; strip < strips; ++strip) {
    const int64_t row = strip * kMr, stop = row + kMr < rows ? row + kMr : rows;
    even[strip] = evenly(g.c_rows, at.c, row, stop);
    even_residual[strip] = !g.residual || evenly(g.residual_rows, at.residual, row, stop);
  }
  // All of the epilogue fits into the register kernel.
  const bool lone_gelu = g.activation == Activation::gelu && g.multiply == Multiply::none && !g.residual && !g.accumulate;
  const bool light = g.activation != Activation::gelu && g.multiply == Multiply::none && !g.accumulate;
  alignas(64) float scratch[8 * kPanel];
  ABlock a{};
  Micro s{};
  s.alpha = 1.0f;
  int64_t k0 = 0;
  do {
    const int64_t k1 = block_end(g, k0), len = k1 - k0;
    const bool first = k0 == 0, last = k1 >= g.k;
    load_a(g, plan, row0, rows, k0, len, workspace + plan.a_at, a);
    for (int64_t panel = panel0; panel < panel1; ++panel) {
      const int64_t group = panel / plan.group_panels, col = panel % plan.group_panels * kPanel;
      const int64_t n = plan.group_columns - col < kPanel ? plan.group_columns - col : kPanel;
      const int64_t n0 = group * plan.group_columns + col, c_col = g.group_offset[group] + col;
      const float* b = workspace + plan.b_at;
      const float* next = nullptr;
      if (g.b.source == Source::packed) {
        b = panel_row(g.b, panel, k0);
        // Behind the last panel comes the next block of the first one, or the panel that the next task begins with.
        const bool hands_on = k1 >= g.k && (plan.by_rows || row_task + 1 == plan.row_tasks) && panel + 1 < plan.panels;
        next = panel + 1 < panel1 ? panel_row(g.b, panel + 1, k0)
               : k1 < g.k         ? panel_row(g.b, panel0, k1)
               : hands_on         ? panel_row(g.b, panel + 1, 0)
                                  : nullptr;
      } else {
        pack_panel(g, group, col, n, k0, len, workspace + plan.b_at);
      }
      const MicroKernel* kernels = kMicro[g.a.transposed][n > 16];
      for (int64_t strip = 0; strip < strips; ++strip) {
        const int64_t row = strip * kMr, count = rows - row < kMr ? rows - row : kMr;
        s.k = a.end[strip] - a.begin[strip];
        s.b = b + a.begin[strip] * kPanel;
        s.rows = a.rows + row;
        s.a = a.k_major + row * len;
        s.prefetch = next && strip < 8 ? next + strip * len * 4 : s.b;
        const bool in_place = plan.plain && even[strip] && n == kPanel;
        const bool fused = !plan.plain && light && last && even[strip] && even_residual[strip] && n == kPanel;
        float* const tile =
            plan.plain || !plan.many_blocks ? scratch : workspace + plan.tiles_at + ((panel - panel0) * strips + strip) * kMr * kPanel;
        s.bias = nullptr, s.partial = nullptr, s.residual = nullptr, s.relu = false;
        if (in_place || fused) {
          s.out = static_cast<float*>(g.c) + at.c[row] + c_col;
          s.ld = count > 1 ? at.c[row + 1] - at.c[row] : 0;
          s.add = in_place && (!first || g.accumulate);
        } else {
          s.out = tile;
          s.ld = kPanel;
          s.add = !plan.plain && !first;
        }
        if (fused) {
          s.bias = g.bias ? static_cast<const float*>(g.bias) + n0 : nullptr;
          s.partial = first ? nullptr : tile;
          s.relu = g.activation == Activation::relu;
          if (g.residual) {
            s.residual = static_cast<const float*>(g.residual) + at.residual[row] + n0;
            s.residual_ld = count > 1 ? at.residual[row + 1] - at.residual[row] : 0;
            s.residual_first = g.residual_first;
          }
        }
        kernels[count - 1](s);
        if (in_place || fused || !(plan.plain || last)) continue;
        if (lone_gelu)
          (g.slope ? finish_gelu<true> : finish_gelu<false>)(g, at, row, count, n0, c_col, n, s.out);
        else
          finish(g, at, row, count, n0, c_col, n, s.out, g.accumulate || (plan.plain && !first));
      }
    }
    k0 = k1;
  } while (k0 < g.k);
}

void gemm(const Gemm& g, const Context& context) {
  if (g.m <= 0 || g.n <= 0) return;
  const GemmPlan plan = plan_gemm(g, kMr);
  float* workspace = reinterpret_cast<float*>(context.workspace);
  context.pool->run(plan.row_tasks * plan.column_tasks,
                    [&](int64_t task, int thread) { run_task(g, plan, task, workspace + thread * plan.thread_floats); });
}

/// One chunk a panel: weights are packed once and used often.
void pack(const WeightView& w, float* out, const Context& context) {
  const int64_t panels = (w.n + kPanel - 1) / kPanel;
  context.pool->run(panels, [&](int64_t panel, int) {
    const int64_t n0 = panel * kPanel, n = w.n - n0 < kPanel ? w.n - n0 : kPanel;
    float* o = out + panel * w.taps * w.run * kPanel;
    for (int64_t t = 0; t < w.taps; ++t, o += w.run * kPanel) {
      const float* in = static_cast<const float*>(w.data) + n0 * w.n_stride + w.tap_offset[t];
      if (w.n_stride == 1) {
        for (int64_t c = 0; c < w.run; ++c) copy_panel_row(in + c * w.c_stride, n, o + c * kPanel);
      } else if (w.c_stride == 1) {
        const float* rows[kPanel];
        for (int64_t j = 0; j < n; ++j) rows[j] = in + j * w.n_stride;
        transpose_panel(rows, n, w.run, o);
      } else {
        for (int64_t c = 0; c < w.run; ++c)
          for (int64_t j = 0; j < kPanel; ++j) o[c * kPanel + j] = j < n ? in[j * w.n_stride + c * w.c_stride] : 0.0f;
      }
    }
  });
}

void small_pack(const float* b, int64_t ldb, bool b_transposed, int64_t n, int64_t k, float* packed) {
  for (int64_t n0 = 0; n0 < n; n0 += kPanel, packed += k * kPanel) {
    const int64_t count = n - n0 < kPanel ? n - n0 : kPanel;
    if (b_transposed) {
      const float* rows[kPanel];
      for (int64_t j = 0; j < count; ++j) rows[j] = b + (n0 + j) * ldb;
      transpose_panel(rows, count, k, packed);
    } else {
      for (int64_t i = 0; i < k; ++i) copy_panel_row(b + i * ldb + n0, count, packed + i * kPanel);
    }
  }
}

void small_gemm(const SmallGemm& g) {
  const int64_t panels = (g.n + kPanel - 1) / kPanel;
  alignas(64) float tile[8 * kPanel];
  const float* rows[8];
  Micro s{};
  s.k = g.k;
  s.rows = rows;
  s.a = g.scratch;
  s.alpha = g.alpha;
  for (int64_t i = 0; i < g.m; i += kMr) {
    const int64_t count = g.m - i < kMr ? g.m - i : kMr;
    if (g.a_transposed)
      for (int64_t k = 0; k < g.k; ++k)
        if (count == kMr)
          __builtin_memcpy(g.scratch + k * kMr, g.a + k * g.lda + i, sizeof(float) * kMr);
        else
          for (int64_t j = 0; j < count; ++j) g.scratch[k * kMr + j] = g.a[k * g.lda + i + j];
    else
      for (int64_t j = 0; j < count; ++j) rows[j] = g.a + (i + j) * g.lda;
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t n0 = panel * kPanel, n = g.n - n0 < kPanel ? g.n - n0 : kPanel;
      float* c = g.c + i * g.ldc + n0;
      s.b = g.packed_b + n0 * g.k;
      s.prefetch = s.b;
      const bool whole = n == kPanel || n == 16;
      s.out = whole ? c : tile;
      s.ld = whole ? g.ldc : kPanel;
      s.add = whole && g.accumulate;
      kMicro[g.a_transposed][n > 16][count - 1](s);
      if (whole) continue;
      for (int64_t j = 0; j < count; ++j)
        for (int64_t v = 0; v < n; v += kLanes) {
          const int lanes = static_cast<int>(n - v < kLanes ? n - v : kLanes);
          float* o = c + j * g.ldc + v;
          const vf x = load(tile + j * kPanel + v);
          store_n(o, g.accumulate ? x + load_n(o, lanes) : x, lanes);
        }
    }
  }
}

int tile_rows() { return kMr; }

void tile_burst(int64_t rounds, const float* a, const float* b, float* out) {
  const float* rows[kMr];
  for (int i = 0; i < kMr; ++i) rows[i] = a + i * kTileDepth;
  Micro s{};
  s.k = kTileDepth;
  s.rows = rows;
  s.b = s.prefetch = b;
  s.out = out;
  s.ld = kPanel;
  s.alpha = 1.0f;
  for (int64_t i = 0; i < rounds; ++i) kMicro[0][1][kMr - 1](s);
}

}  // namespace theia::THEIA_ISA
