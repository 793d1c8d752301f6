// Backward, compiled once per instruction set. Probabilities are made again from the saved log-sum-exp, a chunk of queries at a time; each
// part of a head's queries gathers its own gradients of keys and values, and these are added in the order of the parts.
#include "kernels/attention/attention_panels_simd.h"
#include "kernels/core/pool.h"

namespace theia::THEIA_ISA {

namespace {

/// Scratch of one thread for one chunk of queries; panels of all four matrices are `panel` floats apart.
struct GradChunk {
  int64_t panel;
  float *q, *dout;  // packed rows
  float *p, *ds;    // probabilities; gradient of the unscaled scores, with the scale in it
  float lse[kMaxChunk], delta[kMaxChunk];
};

/// Keys and values of a head in the forms the products need.
struct PackedHead {
  float *keys, *values;  // transposed
  float* key_rows;
};

THEIA_INLINE PackedHead packed_head(float* base, int64_t M, int64_t hd) {
  const int64_t transposed = panels_of(M) * hd * kPanel;
  return {base, base + transposed, base + 2 * transposed};
}

/// Probabilities and score gradients of R queries from row r on: V vectors of keys, which lie at `at` in p and ds, at `from` in the head.
template <int R, int V>
THEIA_INLINE void differentiate(const GradChunk& c, const PackedHead& head, int64_t at, int64_t from, int64_t r, int64_t hd, float scale) {
  Tile<R, V> tile;
  multiply(tile, c.q + r * kPanel, c.panel, head.keys + from, hd);
  float *p = c.p + at + r * kPanel, *ds = c.ds + at + r * kPanel;
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(p + i * kPanel + v * kLanes, probability(tile.at[i][v] * scale - c.lse[r + i]));
  multiply(tile, c.dout + r * kPanel, c.panel, head.values + from, hd);
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const int64_t to = i * kPanel + v * kLanes;
      store(ds + to, load(p + to) * scale * (tile.at[i][v] - c.delta[r + i]));
    }
}
template <int V>
THEIA_INLINE void differentiate_all(const GradChunk& c, const PackedHead& head, int64_t at, int64_t from, int64_t rows, int64_t hd,
                                    float scale) {
  each_tile(
      rows, [&](int64_t r) { differentiate<kTall, V>(c, head, at, from, r, hd, scale); },
      [&](int64_t r) { differentiate<kShort, V>(c, head, at, from, r, hd, scale); });
}

/// dq(r, :) = Σ_m ds(r, m) · k(m, :) for R queries, of which `rows` are wanted, and V vectors of `columns` channels.
template <int R, int V>
THEIA_INLINE void query_gradient(Rows dq, const float* ds, int64_t panel, const float* keys, int64_t rows, int64_t M, int64_t columns) {
  Tile<R, V> tile;
  multiply(tile, ds, panel, keys, M);
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
    if (i < rows)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) store_first(dq.base + i * dq.step + v * kLanes, tile.at[i][v], columns - v * kLanes);
}
template <int V>
THEIA_INLINE void query_gradient_all(Rows dq, const float* ds, int64_t panel, const float* keys, int64_t rows, int64_t M, int64_t columns) {
  each_tile(
      rows, [&](int64_t r) { query_gradient<kTall, V>(from_token(dq, r), ds + r * kPanel, panel, keys, rows - r, M, columns); },
      [&](int64_t r) { query_gradient<kShort, V>(from_token(dq, r), ds + r * kPanel, panel, keys, rows - r, M, columns); });
}

/// sums(m, :) (+)= Σ_r a(r, m) · b(r, :) over the rows of a chunk, all keys m, all channels. sums has panels of `sum_rows` rows.
void gather_all(float* sums, int64_t sum_rows, const float* a, const float* b, int64_t panel, int64_t rows, int64_t M, int64_t hd,
                bool add) {
  for (int64_t p = 0; p < panels_of(M); ++p)
    for (int64_t j = 0; j < panels_of(hd); ++j) {
      const int n = vectors_of(hd, j);
      for (int v = 0; v < n; v += 2)
        for (int64_t m = 0, keys = smaller(M - p * kPanel, kPanel); m < keys; m += kShort) {
          float* into = sums + (j * sum_rows + p * kPanel + m) * kPanel + v * kLanes;
          const float *x = a + p * panel + m, *y = b + j * panel + v * kLanes;
          if (v + 2 <= n)
            gather<kShort, 2>(into, x, y, rows, add);
          else
            gather<kShort, 1>(into, x, y, rows, add);
        }
    }
}

/// to(m, :) = Σ of `parts` sums, each `step` floats after the one before, in their order.
void add_parts(Rows to, const float* sums, int64_t sum_rows, int64_t step, int64_t parts, int64_t M, int64_t hd) {
  constexpr int64_t kAhead = 16;
  for (int64_t m = 0; m < M; ++m) {
    if (m + kAhead < M) prefetch(to, m + kAhead, 1, hd);
    for (int64_t c = 0; c < hd; c += kLanes) {
      const float* from = sums + (c / kPanel * sum_rows + m) * kPanel + c % kPanel;
      vf x = load(from);
      for (int64_t i = 1; i < parts; ++i) x += load(from + i * step);
      store_first(to.base + m * to.step + c, x, hd - c);
    }
  }
}

/// Σ a·b over n channels.
THEIA_INLINE float dot(const float* a, const float* b, int64_t n) {
  vf sum{};
  for (int64_t i = 0; i < n; i += kLanes) sum = fma(load_first(a + i, n - i), load_first(b + i, n - i), sum);
  return reduce_add(sum);
}

}  // namespace

void attention_grad(const AttentionGradArgs& a, const Context& context) {
  const AttentionPlan plan = theia::plan(a);
  const int64_t N = a.q.size[1], M = a.k.size[1], H = a.q.size[2], hd = a.q.size[3], heads = a.q.size[0] * H;
  const float scale = static_cast<float>(a.scale);
  const int64_t blocks = (N + kRowBlock - 1) / kRowBlock, sum_rows = panels_of(M) * kPanel, half = plan.sum_floats / 2;

  const auto pack = [&](int64_t head, float* into, int64_t which) {
    const PackedHead to = packed_head(into, M, hd);
    if (which == 0) pack_columns(to.keys, rows_of(a.k, H, head), M, hd);
    if (which == 1) pack_columns(to.values, rows_of(a.v, H, head), M, hd);
    if (which == 2) pack_rows(to.key_rows, M, rows_of(a.k, H, head), M, M, hd);
  };

  // sums: gradients of the keys, then of the values, over the queries of this part.
  const auto differentiate_part = [&](int64_t head, int64_t part, float* packed, float* sums, float* own) {
    const PackedHead kv = packed_head(packed, M, hd);
    const Rows q = rows_of(a.q, H, head), out = rows_of(a.out, H, head), dout = rows_of(a.dout, H, head), dq = rows_of(a.dq, H, head);
    const float* lse = a.lse.ptr<float>() + head * N;
    GradChunk c;
    c.panel = plan.chunk * kPanel;
    c.q = own;
    c.dout = c.q + panels_of(hd) * c.panel;
    c.p = c.dout + panels_of(hd) * c.panel;
    c.ds = c.p + panels_of(M) * c.panel;
    const int64_t from = cut(blocks, plan.parts, part), count = cut(blocks, plan.parts, part + 1) - from;
    const int64_t chunks = (count * kRowBlock + plan.chunk - 1) / plan.chunk;
    for (int64_t i = 0; i < chunks; ++i) {
      const int64_t first = (from + cut(count, chunks, i)) * kRowBlock;
      const int64_t rows = smaller((from + cut(count, chunks, i + 1)) * kRowBlock, N) - first;
      const int64_t padded = padded_rows(rows);
      pack_rows(c.q, plan.chunk, from_token(q, first), rows, padded, hd);
      pack_rows(c.dout, plan.chunk, from_token(dout, first), rows, padded, hd);
      for (int64_t r = 0; r < padded; ++r) {
        c.lse[r] = r < rows ? lse[first + r] : 0.0f;
        c.delta[r] = r < rows ? dot(dout.base + (first + r) * dout.step, out.base + (first + r) * out.step, hd) : 0.0f;
      }
      for (int64_t p = 0; p < panels_of(M); ++p) {
        const int n = vectors_of(M, p);
        for (int v = 0; v < n; v += 2) {
          const int64_t at = p * c.panel + v * kLanes, start = p * hd * kPanel + v * kLanes;
          if (v + 2 <= n)
            differentiate_all<2>(c, kv, at, start, rows, hd, scale);
          else
            differentiate_all<1>(c, kv, at, start, rows, hd, scale);
        }
      }
      gather_all(sums, sum_rows, c.ds, c.q, c.panel, rows, M, hd, i > 0);
      gather_all(sums + half, sum_rows, c.p, c.dout, c.panel, rows, M, hd, i > 0);
      for (int64_t p = 0; p < panels_of(hd); ++p) {
        const int n = vectors_of(hd, p);
        for (int v = 0; v < n; v += 2) {
          const float* keys = kv.key_rows + p * M * kPanel + v * kLanes;
          const int64_t column = p * kPanel + v * kLanes;
          const Rows to = {dq.base + first * dq.step + column, dq.step};
          if (v + 2 <= n)
            query_gradient_all<2>(to, c.ds, c.panel, keys, rows, M, hd - column);
          else
            query_gradient_all<1>(to, c.ds, c.panel, keys, rows, M, hd - column);
        }
      }
    }
  };

  float* scratch = reinterpret_cast<float*>(context.workspace);
  if (plan.parts == 1) {
    context.pool->run(heads, [&](int64_t head, int thread) {
      float* packed = scratch + thread * (plan.head_floats + plan.sum_floats + plan.chunk_floats);
      float* sums = packed + plan.head_floats;
      for (int64_t which = 0; which < 3; ++which) pack(head, packed, which);
      differentiate_part(head, 0, packed, sums, sums + plan.sum_floats);
      add_parts(rows_of(a.dk, H, head), sums, sum_rows, 0, 1, M, hd);
      add_parts(rows_of(a.dv, H, head), sums + half, sum_rows, 0, 1, M, hd);
    });
    return;
  }
  float* all_sums = scratch + heads * plan.head_floats;
  float* chunks = all_sums + heads * plan.parts * plan.sum_floats;
  context.pool->run(3 * heads, [&](int64_t i, int) { pack(i / 3, scratch + i / 3 * plan.head_floats, i % 3); });
  context.pool->run(heads * plan.parts, [&](int64_t i, int thread) {
    const int64_t head = i / plan.parts;
    differentiate_part(head, i % plan.parts, scratch + head * plan.head_floats, all_sums + i * plan.sum_floats,
                       chunks + thread * plan.chunk_floats);
  });
  context.pool->run(2 * heads, [&](int64_t i, int) {
    const Tensor& to = i % 2 ? a.dv : a.dk;
    add_parts(rows_of(to, H, i / 2), all_sums + i / 2 * plan.parts * plan.sum_floats + i % 2 * half, sum_rows, plan.sum_floats, plan.parts,
              M, hd);
  });
}

}  // namespace theia::THEIA_ISA
