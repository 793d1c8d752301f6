// Bringing blocks of operands into the layouts of the register kernel. Included by the files per instruction set only.
#pragma once
#include "kernels/gemm/micro_simd.h"

namespace theia::THEIA_ISA {

static constexpr float kZeros[kPanel] = {};

/// Walks the rows of a RowMap without dividing.
struct Cursor {
  const RowMap* map;
  int64_t image, y, x;
  int64_t offset() const { return image * map->b + y * map->y + x * map->x; }
  void next() {
    if (++x < map->gw) return;
    x = 0;
    if (++y < map->gh) return;
    y = 0;
    ++image;
  }
};
THEIA_INLINE Cursor cursor(const RowMap& map, int64_t i) { return {&map, i / (map.gh * map.gw), i / map.gw % map.gh, i % map.gw}; }
THEIA_INLINE bool is_plain(const RowMap& map) { return map.gh * map.gw == 1; }
static void row_offsets(const RowMap& map, int64_t i, int64_t n, int64_t* out) {
  if (is_plain(map)) {  // a task may be one panel wide: walking 200 rows step by step would take a tenth of its time
    for (int64_t j = 0, at = i * map.b; j < n; ++j) out[j] = at + j * map.b;
    return;
  }
  Cursor at = cursor(map, i);
  for (int64_t j = 0; j < n; ++j, at.next()) out[j] = at.offset();
}

THEIA_INLINE void copy(const float* in, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, load(in + i));
  if (i < n) store_n(out + i, load_n(in + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

/// Elements offset .. offset + n of an operand of floats, through its mask.
THEIA_INLINE void copy_elements(const Operand& o, int64_t offset, int64_t n, float* out) {
  const float* in = static_cast<const float*>(o.data) + offset;
  if (!o.mask) return copy(in, n, out);
  const float* mask = static_cast<const float*>(o.mask) + offset;
  for (int64_t i = 0; i < n; i += kLanes) {
    const int lanes = static_cast<int>(n - i < kLanes ? n - i : kLanes);
    store_n(out + i, load_n(mask + i, lanes) > 0.0f ? load_n(in + i, lanes) : vf{}, lanes);
  }
}

THEIA_INLINE void clear(float* out, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) store_n(out + i, vf{}, static_cast<int>(n - i < kLanes ? n - i : kLanes));
}

/// Elements c .. c + n of tap t at a grid position.
THEIA_INLINE void copy_tap(const Operand& o, const Cursor& at, int64_t t, int64_t c, int64_t n, float* out) {
  const int64_t y = at.y * o.step_y + o.dy[t], x = at.x * o.step_x + o.dx[t];
  if (y < 0 || y >= o.height) return clear(out, n);
  const int64_t offset = at.image * o.rows.b + y * o.rows.y + x * o.rows.x + c;
  if (o.stretch) {  // positions are packed: what lies left and right of the map is known by counting elements
    const int64_t begin = x * o.rows.x + c, end = o.width * o.rows.x;
    const int64_t left = begin >= 0 ? 0 : -begin < n ? -begin : n;
    const int64_t rest = begin + n <= end ? n - left : end - begin > left ? end - begin - left : 0;
    if (left > 0) clear(out, left);
    copy_elements(o, offset + left, rest, out + left);
    if (left + rest < n) clear(out + left + rest, n - left - rest);
    return;
  }
  if (x < 0 || x >= o.width) return clear(out, n);
  if (!o.table) return copy_elements(o, offset, n, out);
  const uint8_t* in = static_cast<const uint8_t*>(o.data) + offset;
  const float* table = static_cast<const float*>(o.table);
  int64_t channel = c % o.channels;
  for (int64_t i = 0; i < n; ++i) {
    out[i] = table[channel * 256 + in[i]];
    channel = channel + 1 == o.channels ? 0 : channel + 1;
  }
}

/// Columns j .. j + n of a row of patches.
static void copy_patch(const Operand& o, const Cursor& at, int64_t j, int64_t n, float* out) {
  int64_t t = j / o.run, c = j % o.run;
  while (n > 0) {
    const int64_t count = o.run - c < n ? o.run - c : n;
    copy_tap(o, at, t, c, count, out);
    out += count, n -= count, c = 0, ++t;
  }
}

/// A's rows i .. i + n, columns k0 .. k0 + len, copied to [n][len].
static void pack_rows(const Operand& o, int64_t i, int64_t n, int64_t k0, int64_t len, float* out) {
  Cursor at = cursor(o.rows, i);
  for (int64_t r = 0; r < n; ++r, at.next(), out += len)
    if (o.source == Source::matrix)
      copy_elements(o, at.offset() + k0, len, out);
    else
      copy_patch(o, at, k0, len, out);
}

/// The same block of a transposed A, as strips [strip][len][kMr]; lanes beyond the last row stay as they were.
static void pack_k_major(const Operand& o, int64_t i, int64_t n, int64_t k0, int64_t len, float* out) {
  Cursor at = cursor(o.rows, k0);
  float patch[kTaskRows];
  for (int64_t k = 0; k < len; ++k, at.next(), out += kMr) {
    const float* in = static_cast<const float*>(o.data) + at.offset() + i;
    if (o.source == Source::patches) {
      copy_patch(o, at, i, n, patch);
      in = patch;
    } else if (o.mask) {
      copy_elements(o, at.offset() + i, n, patch);
      in = patch;
    }
    if (k + 8 < len && o.source == Source::matrix && !o.mask && o.rows.gh * o.rows.gw == 1)
      for (int64_t j = 0; j < n; j += 16) _mm_prefetch(reinterpret_cast<const char*>(in + 8 * o.rows.b + j), _MM_HINT_T0);
    float* strip = out;
    int64_t r = 0;
    for (; r + kMr <= n; r += kMr, strip += len * kMr) __builtin_memcpy(strip, in + r, sizeof(float) * kMr);
    for (int64_t j = 0; r + j < n; ++j) strip[j] = in[r + j];
  }
}

#if defined(__AVX512F__)
THEIA_INLINE vf gather_quads(const float* const* r, int64_t k) {
  __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(r[0] + k));
  v = _mm512_insertf32x4(v, _mm_loadu_ps(r[4] + k), 1);
  v = _mm512_insertf32x4(v, _mm_loadu_ps(r[8] + k), 2);
  return (vf)_mm512_insertf32x4(v, _mm_loadu_ps(r[12] + k), 3);
}
#define THEIA_PD(op, a, b) (vf) _mm512_##op##_pd((__m512d)(a), (__m512d)(b))
#define THEIA_PS(op, a, b) (vf) _mm512_##op##_ps(a, b)
#else
THEIA_INLINE vf gather_quads(const float* const* r, int64_t k) {
  return (vf)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(r[0] + k)), _mm_loadu_ps(r[4] + k), 1);
}
#define THEIA_PD(op, a, b) (vf) _mm256_##op##_pd((__m256d)(a), (__m256d)(b))
#define THEIA_PS(op, a, b) (vf) _mm256_##op##_ps(a, b)
#endif

/// out[k·32 + j] = rows[j][k] for n <= 32 rows; columns n .. 32 become 0.
static void transpose_panel(const float* const* rows, int64_t n, int64_t len, float* out) {
  if (n < kPanel)
    for (int64_t i = 0; i < len * kPanel; i += kLanes) store(out + i, vf{});
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    const float* const* r = rows + j;
    float* o = out + j;
    int64_t k = 0;
    // Four columns of kLanes rows at a time: row i + 4l goes to 128-bit lane l of vector i, then each lane is a 4 x 4 transpose.
    for (; k + 4 <= len; k += 4) {
      const vf a = gather_quads(r, k), b = gather_quads(r + 1, k), c = gather_quads(r + 2, k), d = gather_quads(r + 3, k);
      const vf ab0 = THEIA_PS(unpacklo, a, b), ab1 = THEIA_PS(unpackhi, a, b);
      const vf cd0 = THEIA_PS(unpacklo, c, d), cd1 = THEIA_PS(unpackhi, c, d);
      store(o + k * kPanel, THEIA_PD(unpacklo, ab0, cd0));
      store(o + (k + 1) * kPanel, THEIA_PD(unpackhi, ab0, cd0));
      store(o + (k + 2) * kPanel, THEIA_PD(unpacklo, ab1, cd1));
      store(o + (k + 3) * kPanel, THEIA_PD(unpackhi, ab1, cd1));
    }
    for (; k < len; ++k)
      for (int i = 0; i < kLanes; ++i) o[k * kPanel + i] = r[i][k];
  }
  for (; j < n; ++j)
    for (int64_t k = 0; k < len; ++k) out[k * kPanel + j] = rows[j][k];
}
#undef THEIA_PD
#undef THEIA_PS

THEIA_INLINE void copy_panel_row(const float* in, int64_t n, float* out) {
  if (n == kPanel) {
    for (int v = 0; v < kPanel; v += kLanes) store(out + v, load(in + v));
    return;
  }
  for (int v = 0; v < kPanel; v += kLanes) {
    const int64_t left = n - v < 0 ? 0 : n - v < kLanes ? n - v : kLanes;
    store(out + v, load_n(in + v, static_cast<int>(left)));
  }
}

/// Columns col .. col + n of tap t for `len` grid positions from `at` on, to [len][32]. Positions along a line of the grid lie a constant
/// step apart in the map, so only those at its edges are looked at one by one.
static void pack_panel_patches(const Operand& o, Cursor at, int64_t t, int64_t col, int64_t n, int64_t len, float* out) {
  const int64_t step = o.step_x * o.rows.x;
  while (len > 0) {
    int64_t line = o.rows.gw - at.x < len ? o.rows.gw - at.x : len;
    len -= line;
    const int64_t y = at.y * o.step_y + o.dy[t], x = at.x * o.step_x + o.dx[t];
    if (y < 0 || y >= o.height) {
      for (; line > 0; --line, at.next(), out += kPanel) copy_panel_row(kZeros, kPanel, out);
      continue;
    }
    // Of the line's positions, those before `from` and from `to` on reach out of the map. A run of one position starts and ends inside it.
    const int64_t last = o.stretch ? (col + n - 1) / o.rows.x : 0, first = o.stretch ? col / o.rows.x : 0;
    int64_t from = x + first >= 0 ? 0 : (-(x + first) + o.step_x - 1) / o.step_x;
    int64_t to = o.width > x + last ? (o.width - x - last + o.step_x - 1) / o.step_x : 0;
    if (to > line) to = line;
    if (from > to) from = to;
    const float* in = static_cast<const float*>(o.data) + at.image * o.rows.b + y * o.rows.y + x * o.rows.x + col + from * step;
    for (int64_t i = 0; i < line; ++i, at.next(), out += kPanel) {
      if (i == from && !o.table) {
        for (; i < to; ++i, at.next(), in += step, out += kPanel) copy_panel_row(in, n, out);
        if (i == line) break;
      }
      if (n < kPanel) copy_panel_row(kZeros, kPanel, out);
      copy_tap(o, at, t, col, n, out);
    }
  }
}

/// B's columns of one panel (in group `group`, from column `col` of it, n <= 32 of them), rows k0 .. k0 + len, to [len][32].
static void pack_panel(const Gemm& g, int64_t group, int64_t col, int64_t n, int64_t k0, int64_t len, float* out) {
  const Operand& o = g.b;
  const int64_t first = group * (g.n / g.groups) + col;
  const float* data = static_cast<const float*>(o.data);
  if (o.source == Source::matrix && o.transposed) {
    const float* rows[kPanel];
    Cursor at = cursor(o.rows, first);
    for (int64_t j = 0; j < n; ++j, at.next()) rows[j] = data + at.offset() + k0;
    return transpose_panel(rows, n, len, out);
  }
  Cursor at = cursor(o.rows, k0);
  if (o.source == Source::matrix) {
    // Rows lie far apart, which the hardware does not foresee: ask for rows to come, and for the next panel's part of this row.
    const int64_t ahead = o.rows.gh * o.rows.gw == 1 ? 12 * o.rows.b : 0;
    for (int64_t k = 0; k < len; ++k, at.next(), out += kPanel) {
      const float* in = data + at.offset() + first;
      _mm_prefetch(reinterpret_cast<const char*>(in + ahead), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(in + ahead + 16), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(in + 32), _MM_HINT_T1);
      _mm_prefetch(reinterpret_cast<const char*>(in + 48), _MM_HINT_T1);
      copy_panel_row(in, n, out);
    }
    return;
  }
  pack_panel_patches(o, at, group, col, n, len, out);
}

/// Where row k of a packed panel lies.
THEIA_INLINE const float* panel_row(const Operand& b, int64_t panel, int64_t k) {
  const int64_t row = b.taps > 0 ? b.tap_row[k / b.run] + k % b.run : k;
  return static_cast<const float*>(b.data) + (panel * b.panel_rows + row) * kPanel;
}

}  // namespace theia::THEIA_ISA
