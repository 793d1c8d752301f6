// The product in plain C++: the reference of the tests and of gradcheck, and the way of machines without AVX2. Sums run over k in order.
#include <cmath>

#include "kernels/core/pool.h"
#include "kernels/gemm/gemm.h"

namespace theia::cpu {

namespace {

/// Elements j .. j + n of stored row i, for a matrix or patches.
template <class T>
void fetch(const Operand& o, int64_t i, int64_t j, int64_t n, T* out) {
  const T* data = static_cast<const T*>(o.data);
  const T* mask = static_cast<const T*>(o.mask);
  const auto element = [&](int64_t at) { return mask && !(mask[at] > T(0)) ? T(0) : data[at]; };
  if (o.source == Source::matrix) {
    for (int64_t e = 0; e < n; ++e) out[e] = element(row_offset(o.rows, i) + j + e);
    return;
  }
  const int64_t image = i / (o.rows.gh * o.rows.gw), gy = i / o.rows.gw % o.rows.gh, gx = i % o.rows.gw;
  for (int64_t e = 0; e < n; ++e) {
    const int64_t t = (j + e) / o.run, c = (j + e) % o.run;
    const int64_t y = gy * o.step_y + o.dy[t], x = gx * o.step_x + o.dx[t];
    const int64_t at = image * o.rows.b + y * o.rows.y + x * o.rows.x + c;
    const int64_t last_x = o.stretch ? x + c / o.rows.x : x;
    if (y < 0 || y >= o.height || last_x < 0 || last_x >= o.width)
      out[e] = T(0);
    else if (o.table)
      out[e] = static_cast<const T*>(o.table)[c % o.channels * 256 + static_cast<const uint8_t*>(o.data)[at]];
    else
      out[e] = element(at);
  }
}

template <class T>
void fetch_a(const Operand& a, int64_t i, int64_t k, int64_t n, T* out) {
  if (!a.transposed) return fetch(a, i, k, n, out);
  for (int64_t e = 0; e < n; ++e) fetch(a, k + e, i, 1, out + e);
}

/// Row k of B, columns n0 .. n0 + n; they lie in one panel.
template <class T>
void fetch_b(const Operand& b, int64_t k, int64_t n0, int64_t n, T* out) {
  if (b.source == Source::packed) {
    const int64_t row = b.taps > 0 ? b.tap_row[k / b.run] + k % b.run : k;
    const T* in = static_cast<const T*>(b.data) + (n0 / kPanel * b.panel_rows + row) * kPanel + n0 % kPanel;
    for (int64_t e = 0; e < n; ++e) out[e] = in[e];
  } else if (b.transposed) {
    for (int64_t e = 0; e < n; ++e) fetch(b, n0 + e, k, 1, out + e);
  } else {
    fetch(b, k, n0, n, out);
  }
}

template <class T>
T gelu(T x, T& slope) {
  const T cdf = T(0.5) * (T(1) + std::erf(x * T(0.70710678118654752440)));
  slope = cdf + x * std::exp(T(-0.5) * x * x) * T(0.39894228040143267794);
  return x * cdf;
}

/// One element through the epilogue; `column` counts over all groups, `at` is its place in C.
template <class T>
void finish(const Gemm& g, int64_t row, int64_t column, int64_t at, T x) {
  if (g.bias) x += static_cast<const T*>(g.bias)[column];
  const auto add_residual = [&] { x += static_cast<const T*>(g.residual)[row_offset(g.residual_rows, row) + column]; };
  if (g.residual && g.residual_first) add_residual();
  if (g.activation == Activation::relu) x = x < T(0) ? T(0) : x;  // NaN stays
  if (g.activation == Activation::gelu) {
    T slope;
    x = gelu(x, slope);
    if (g.slope) static_cast<T*>(g.slope)[row_offset(g.slope_rows, row) + column] = slope;
  }
  if (g.multiply != Multiply::none) {
    const T f = static_cast<const T*>(g.multiplier)[row_offset(g.multiplier_rows, row) + column];
    x = g.multiply == Multiply::value ? x * f : f > T(0) ? x : T(0);
  }
  if (g.residual && !g.residual_first) add_residual();
  T* c = static_cast<T*>(g.c) + at;
  *c = g.accumulate ? *c + x : x;
}

constexpr int64_t kRows = 4, kDepth = 64;

}  // namespace

template <class T>
void gemm(const Gemm& g, const Context& context) {
  const int64_t group_columns = g.n / g.groups, group_panels = (group_columns + kPanel - 1) / kPanel;
  const int64_t panels = g.groups * group_panels, strips = (g.m + kRows - 1) / kRows;
  context.pool->run(strips, [&](int64_t strip, int) {
    const int64_t row0 = strip * kRows, rows = g.m - row0 < kRows ? g.m - row0 : kRows;
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t group = panel / group_panels, col = panel % group_panels * kPanel;
      const int64_t n = group_columns - col < kPanel ? group_columns - col : kPanel, n0 = group * group_columns + col;
      T sum[kRows][kPanel] = {}, a[kRows][kDepth], b[kPanel];
      for (int64_t k = 0; k < g.k; ++k) {
        if (k % kDepth == 0)
          for (int64_t i = 0; i < rows; ++i) fetch_a(g.a, row0 + i, k, g.k - k < kDepth ? g.k - k : kDepth, a[i]);
        fetch_b(g.b, k, n0, n, b);
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < n; ++j) sum[i][j] += a[i][k % kDepth] * b[j];
      }
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < n; ++j)
          finish(g, row0 + i, n0 + j, row_offset(g.c_rows, row0 + i) + g.group_offset[group] + col + j, sum[i][j]);
    }
  });
}

template <class T>
void pack(const WeightView& w, T* out, const Context& context) {
  const int64_t panels = (w.n + kPanel - 1) / kPanel;
  context.pool->run(panels, [&](int64_t panel, int) {
    T* o = out + panel * w.taps * w.run * kPanel;
    for (int64_t t = 0; t < w.taps; ++t)
      for (int64_t c = 0; c < w.run; ++c)
        for (int64_t j = 0; j < kPanel; ++j, ++o) {
          const int64_t n = panel * kPanel + j;
          *o = n < w.n ? static_cast<const T*>(w.data)[n * w.n_stride + w.tap_offset[t] + c * w.c_stride] : T(0);
        }
  });
}

template void gemm<float>(const Gemm&, const Context&);
template void gemm<double>(const Gemm&, const Context&);
template void pack<float>(const WeightView&, float*, const Context&);
template void pack<double>(const WeightView&, double*, const Context&);

}  // namespace theia::cpu
