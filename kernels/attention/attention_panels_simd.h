// Matrices in panels, and the two inner products over them. A matrix of `rows` rows lies as panels of kPanel columns, [panel][row][kPanel]:
// every operand of the five products of attention is then read in order, either a vector of a row at a time or one broadcast float at
// constant distances from a moving pointer. Which of the two roles a packed matrix plays is the caller's choice, so one copy serves both.
#include "kernels/attention/attention.h"
#include "kernels/core/simd.h"

#if !defined(THEIA_ATTENTION_PANELS)  // not `pragma once`: one file, but a namespace for each instruction set
#define THEIA_ATTENTION_PANELS

namespace theia::THEIA_ISA {

// A tile is kTileRows x 2 vectors of sums: 16 of 32 registers, or 8 of 16. Eight sums in flight hide the latency of FMA.
#if defined(__AVX512F__)
inline constexpr int kTileRows = 8;
#else
inline constexpr int kTileRows = 4;
#endif
static_assert(kRowBlock % kTileRows == 0 && kPanel % (2 * kLanes) == 0);

/// Tokens of one head: token t at base + t * step.
struct Rows {
  float* base;
  int64_t step;
};
THEIA_INLINE Rows rows_of(const Tensor& x, int64_t heads, int64_t head) {
  const int64_t b = head / heads, h = head % heads;
  return {x.ptr<float>() + b * x.stride[0] + h * x.stride[2], x.stride[1]};
}

THEIA_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
THEIA_INLINE int64_t panels_of(int64_t columns) { return (columns + kPanel - 1) / kPanel; }
/// Vectors that hold the columns of panel p.
THEIA_INLINE int vectors_of(int64_t columns, int64_t p) {
  return static_cast<int>((smaller(columns - p * kPanel, kPanel) + kLanes - 1) / kLanes);
}
/// Start of piece i of n things cut into equal pieces.
THEIA_INLINE int64_t cut(int64_t n, int64_t pieces, int64_t i) { return n * i / pieces; }

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

/// Packs `rows` tokens into panels of `capacity` rows; rows up to `padded` become zero.
THEIA_INLINE void pack_rows(float* into, int64_t capacity, Rows x, int64_t rows, int64_t padded, int64_t columns) {
  for (int64_t c = 0; c < columns; c += kLanes) {
    float* to = into + c / kPanel * capacity * kPanel + c % kPanel;
    for (int64_t r = 0; r < rows; ++r) store(to + r * kPanel, load_first(x.base + r * x.step + c, columns - c));
    for (int64_t r = rows; r < padded; ++r) store(to + r * kPanel, vf{});
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
    const __m512 even0 = _mm512_shuffle_f32x4((__m512)u[c], (__m512)u[4 + c], 0x88), odd0 = _mm512_shuffle_f32x4((__m512)u[c], (__m512)u[4 + c], 0xdd);
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

/// Packs the transpose of `rows` tokens: panels of tokens, [panel][columns][kPanel]; tokens past the last, up to a whole vector, are zero.
THEIA_INLINE void pack_columns(float* into, Rows x, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; r += kLanes) {
    float* to = into + r / kPanel * columns * kPanel + r % kPanel;
    for (int64_t c = 0; c < columns; c += kLanes) {
      const int64_t n = smaller(columns - c, kLanes);
      vf block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) block[i] = r + i < rows ? load_first(x.base + (r + i) * x.step + c, n) : vf{};
      transpose(block);
      if (n == kLanes) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store(to + (c + i) * kPanel, block[i]);
      } else {
        for (int i = 0; i < n; ++i) store(to + (c + i) * kPanel, block[i]);
      }
    }
  }
}

}  // namespace theia::THEIA_ISA

#endif
