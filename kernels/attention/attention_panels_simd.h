// Matrices in panels, and the two inner products over them. A matrix of `rows` rows lies as panels of kPanel columns, [panel][row][kPanel]:
// every operand of the five products of attention is then read in order, either a vector of a row at a time or one broadcast float at
// constant distances from a moving pointer. Which of the two roles a packed matrix plays is the caller's choice, so one copy serves both.
#include "kernels/attention/attention.h"
#include "kernels/core/simd.h"

#if !defined(THEIA_ATTENTION_PANELS)  // not `pragma once`: one file, but a namespace for each instruction set
#define THEIA_ATTENTION_PANELS

namespace theia::THEIA_ISA {

// A tile of sums is 2 vectors wide and tall where there are rows enough, else short: 24 or 16 of 32 registers, 12 or 8 of 16. Eight sums
// in flight hide the latency of FMA; the rest saves loads and the start of a loop.
#if defined(__AVX512F__)
inline constexpr int kTall = 12, kShort = 8;
#else
inline constexpr int kTall = 6, kShort = 4;
#endif
static_assert(kRowBlock % kTall == 0 && kPanel % (2 * kLanes) == 0 && kPanel % kShort == 0);

/// Calls tall(r) and short(r) so that all rows are covered.
template <class TallTile, class ShortTile>
THEIA_INLINE void each_tile(int64_t rows, TallTile tall_tile, ShortTile short_tile) {
  int64_t r = 0;
  for (; rows - r > kShort; r += kTall) tall_tile(r);
  if (r < rows) short_tile(r);
}
/// Rows that each_tile touches. At most the next multiple of kRowBlock.
THEIA_INLINE int64_t padded_rows(int64_t rows) {
  const int64_t rest = rows % kTall;
  return rows - rest + (rest > kShort ? kTall : rest > 0 ? kShort : 0);
}

/// Tokens of one head: token t at base + t * step.
struct Rows {
  float* base;
  int64_t step;
};
THEIA_INLINE Rows rows_of(const Tensor& x, int64_t heads, int64_t head) {
  const int64_t b = head / heads, h = head % heads;
  return {x.ptr<float>() + b * x.stride[0] + h * x.stride[2], x.stride[1]};
}

THEIA_INLINE Rows from_token(Rows x, int64_t t) { return {x.base + t * x.step, x.step}; }

THEIA_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
THEIA_INLINE int64_t panels_of(int64_t columns) { return (columns + kPanel - 1) / kPanel; }
/// Vectors that hold the columns of panel p.
THEIA_INLINE int vectors_of(int64_t columns, int64_t p) {
  return static_cast<int>((smaller(columns - p * kPanel, kPanel) + kLanes - 1) / kLanes);
}
/// Start of piece i of n things cut into equal pieces.
THEIA_INLINE int64_t cut(int64_t n, int64_t pieces, int64_t i) { return n * i / pieces; }

/// e^x for x <= 0 or little above, as softmax needs it: 0 where the result would be subnormal, which would cost a trap into microcode of
/// some 150 cycles. NaN stays NaN. Relative error 1e-8 (2 + |x|), which is below the rounding of the x that softmax computes.
THEIA_INLINE vf probability(vf x) {
  constexpr float kLog2E = 1.44269504f;
  vf t = x * kLog2E;
#if defined(__AVX512F__)
  const __mmask16 normal = _mm512_cmp_ps_mask((__m512)t, (__m512)set1(-126.0f), _CMP_NLT_UQ);
#else
  const vi tiny = t < -126.0f;
  t = vmin(set1(128.0f), vmax(set1(-126.0f), t));  // where t is NaN, min and max return their second operand
#endif
  const vf n = vround(t), r = fma(x, set1(kLog2E), -n);
  vf p = set1(1.545316336e-4f);  // 2^r on |r| <= 1/2 within 1e-8
  p = fma(p, r, set1(1.339086331e-3f));
  p = fma(p, r, set1(9.618083015e-3f));
  p = fma(p, r, set1(5.550356954e-2f));
  p = fma(p, r, set1(2.402265072e-1f));
  p = fma(p, r, set1(6.931471825e-1f));
  p = fma(p, r, set1(1.0f));
#if defined(__AVX512F__)
  return (vf)_mm512_maskz_scalef_ps(normal, (__m512)p, (__m512)n);
#else
  return tiny ? vf{} : scale2(p, n);
#endif
}

/// Sums in registers: R rows of V vectors.
template <int R, int V>
struct Tile {
  vf at[R][V];
};

/// tile(r, :) = Σ_k a(r, k) · b(k, :). a points at its first row in panel 0 and has a panel every a_panel floats; b at its columns.
template <int R, int V>
THEIA_INLINE void multiply(Tile<R, V>& tile, const float* a, int64_t a_panel, const float* b, int64_t depth) {
  vf sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[r][v] = vf{};
  for (; depth > 0; depth -= kPanel, a += a_panel) {
    const float* end = a + smaller(depth, kPanel);
    for (const float* x = a; x < end; ++x, b += kPanel) {
      vf y[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) y[v] = load(b + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[r][v] = fma(set1(x[r * kPanel]), y[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) tile.at[r][v] = sum[r][v];
}

/// sum(r, :) (+)= Σ_k a(k, r) · b(k, :): a points at its first column, so R columns of one panel of a are the rows of the result.
template <int R, int V>
THEIA_INLINE void gather(float* into, const float* a, const float* b, int64_t depth, bool add) {
  vf sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[r][v] = add ? load(into + r * kPanel + v * kLanes) : vf{};
  for (const float* end = a + depth * kPanel; a < end; a += kPanel, b += kPanel) {
    vf y[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) y[v] = load(b + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = fma(set1(a[r]), y[v], sum[r][v]);
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(into + r * kPanel + v * kLanes, sum[r][v]);
}

THEIA_INLINE vf load_first(const float* p, int64_t n) { return n >= kLanes ? load(p) : load_n(p, n > 0 ? static_cast<int>(n) : 0); }
THEIA_INLINE void store_first(float* p, vf x, int64_t n) {
  if (n >= kLanes)
    store(p, x);
  else if (n > 0)
    store_n(p, x, static_cast<int>(n));
}

/// Asks for `count` tokens from t on. Tokens of one head are short pieces far apart, which the hardware does not foresee.
THEIA_INLINE void prefetch(Rows x, int64_t t, int64_t count, int64_t columns) {
  for (int64_t r = t; r < t + count; ++r)
    for (int64_t c = 0; c < columns; c += 16) __builtin_prefetch(x.base + r * x.step + c);
}

/// Packs `rows` tokens into panels of `capacity` rows; rows up to `padded` become zero.
THEIA_INLINE void pack_rows(float* into, int64_t capacity, Rows x, int64_t rows, int64_t padded, int64_t columns) {
  constexpr int64_t kAhead = 16;
  const int64_t whole = columns / kLanes * kLanes;
  for (int64_t r = 0; r < padded; ++r) {  // a token after the other: its cache lines lie together
    if (r + kAhead < rows) prefetch(x, r + kAhead, 1, columns);
    for (int64_t c = 0; c < columns; c += kLanes) {
      const float* from = x.base + r * x.step + c;
      const vf value = r >= rows ? vf{} : c < whole ? load(from) : load_first(from, columns - c);
      store(into + (c / kPanel * capacity + r) * kPanel + c % kPanel, value);
    }
  }
}

/// Rows become columns, in place.
THEIA_INLINE void transpose(vf (&x)[kLanes]) {
  vf u[kLanes];
#if defined(__AVX512F__)
#define THEIA_PAIR(name, a, b) (vf) _mm512_##name((__m512)(a), (__m512)(b))
#define THEIA_PAIR_PD(name, a, b) (vf) _mm512_##name((__m512d)(a), (__m512d)(b))
#else
#define THEIA_PAIR(name, a, b) (vf) _mm256_##name((__m256)(a), (__m256)(b))
#define THEIA_PAIR_PD(name, a, b) (vf) _mm256_##name((__m256d)(a), (__m256d)(b))
#endif
#pragma GCC unroll 4
  for (int i = 0; i < kLanes; i += 4) {  // four rows: lane block l of u[i + c] holds column 4l + c
    const vf a = THEIA_PAIR(unpacklo_ps, x[i], x[i + 1]), b = THEIA_PAIR(unpackhi_ps, x[i], x[i + 1]);
    const vf c = THEIA_PAIR(unpacklo_ps, x[i + 2], x[i + 3]), d = THEIA_PAIR(unpackhi_ps, x[i + 2], x[i + 3]);
    u[i] = THEIA_PAIR_PD(unpacklo_pd, a, c);
    u[i + 1] = THEIA_PAIR_PD(unpackhi_pd, a, c);
    u[i + 2] = THEIA_PAIR_PD(unpacklo_pd, b, d);
    u[i + 3] = THEIA_PAIR_PD(unpackhi_pd, b, d);
  }
#undef THEIA_PAIR
#undef THEIA_PAIR_PD
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
#if defined(__AVX512F__)
    const __m512 even0 = _mm512_shuffle_f32x4((__m512)u[c], (__m512)u[4 + c], 0x88),
                 odd0 = _mm512_shuffle_f32x4((__m512)u[c], (__m512)u[4 + c], 0xdd);
    const __m512 even1 = _mm512_shuffle_f32x4((__m512)u[8 + c], (__m512)u[12 + c], 0x88);
    const __m512 odd1 = _mm512_shuffle_f32x4((__m512)u[8 + c], (__m512)u[12 + c], 0xdd);
    x[c] = (vf)_mm512_shuffle_f32x4(even0, even1, 0x88);
    x[4 + c] = (vf)_mm512_shuffle_f32x4(odd0, odd1, 0x88);
    x[8 + c] = (vf)_mm512_shuffle_f32x4(even0, even1, 0xdd);
    x[12 + c] = (vf)_mm512_shuffle_f32x4(odd0, odd1, 0xdd);
#else
    x[c] = (vf)_mm256_permute2f128_ps((__m256)u[c], (__m256)u[4 + c], 0x20);
    x[4 + c] = (vf)_mm256_permute2f128_ps((__m256)u[c], (__m256)u[4 + c], 0x31);
#endif
  }
}

/// kLanes tokens, or `tokens` of them and zeros, become columns at `to`.
template <bool kWhole>
THEIA_INLINE void pack_square(float* to, Rows x, int64_t tokens, int64_t columns) {
  vf block[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i)
    block[i] = kWhole ? load(x.base + i * x.step) : i < tokens ? load_first(x.base + i * x.step, columns) : vf{};
  transpose(block);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i)
    if (kWhole || i < columns) store(to + i * kPanel, block[i]);
}

/// Packs the transpose of `rows` tokens: panels of tokens, [panel][columns][kPanel]; tokens past the last, up to a whole vector, are zero.
THEIA_INLINE void pack_columns(float* into, Rows x, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; r += kLanes) {
    prefetch(x, smaller(r + kLanes, rows), smaller(rows - smaller(r + kLanes, rows), kLanes), columns);
    for (int64_t c = 0; c < columns; c += kLanes) {
      float* to = into + r / kPanel * columns * kPanel + r % kPanel + c * kPanel;
      const Rows from = {x.base + r * x.step + c, x.step};
      if (rows - r >= kLanes && columns - c >= kLanes)
        pack_square<true>(to, from, kLanes, kLanes);
      else
        pack_square<false>(to, from, rows - r, columns - c);
    }
  }
}

}  // namespace theia::THEIA_ISA

#endif
