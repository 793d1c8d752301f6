// Forward, compiled once per instruction set. A chunk of queries has all its scores in cache, so the softmax is an ordinary one over whole
// rows; the division by its sum waits for the product with v, which has fewer columns.
#include "kernels/attention/attention_panels_simd.h"

namespace theia::THEIA_ISA {

/// Scores of `rows` packed queries (a multiple of kTileRows) with all keys: V vectors of panel p from vector v on.
template <int V>
THEIA_INLINE void score(float* scores, const float* q, int64_t q_panel, const float* keys, int64_t rows, int64_t hd, float scale) {
  for (int64_t r = 0; r < rows; r += kTileRows) {
    Tile<kTileRows, V> tile;
    multiply(tile, q + r * kPanel, q_panel, keys, hd);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) store(scores + (r + i) * kPanel + v * kLanes, tile.at[i][v] * scale);
  }
}

/// Turns a row of M scores, one panel every `panel` floats, into exp(score - max). Returns the sum and writes the maximum.
THEIA_INLINE float exponentials(float* row, int64_t panel, int64_t M, float* maximum) {
  const int64_t last = (M - 1) / kPanel, tail = M - last * kPanel;
  float* end = row + last * panel;
  const vf low = set1(-__builtin_inff());
  // Lanes past the last key become -inf and so probability 0.
  for (int64_t c = 0; c < tail; c += kLanes)
    if (tail - c < kLanes) store(end + c, lane_index() < static_cast<int>(tail - c) ? load(end + c) : low);
  vf m[2] = {low, low};
  for (float* p = row; p < end; p += panel)
#pragma GCC unroll 4
    for (int v = 0; v < kPanel / kLanes; ++v) m[v & 1] = vmax(m[v & 1], load(p + v * kLanes));
  for (int64_t c = 0; c < tail; c += kLanes) m[0] = vmax(m[0], load(end + c));
  const float max = reduce_max(vmax(m[0], m[1]));
  vf sum[2] = {};
  for (float* p = row; p < end; p += panel)
#pragma GCC unroll 4
    for (int v = 0; v < kPanel / kLanes; ++v) {
      const vf e = vexp(load(p + v * kLanes) - max);
      store(p + v * kLanes, e);
      sum[v & 1] += e;
    }
  for (int64_t c = 0; c < tail; c += kLanes) {
    const vf e = vexp(load(end + c) - max);
    store(end + c, e);
    sum[0] += e;
  }
  *maximum = max;
  return reduce_add(sum[0] + sum[1]);
}

/// out(r, :) = Σ_m p(r, m) · v(m, :) / sum(r) for V vectors of channels from `column` on.
template <int V>
THEIA_INLINE void average(Rows out, int64_t column, const float* p, int64_t p_panel, const float* values, const float* inverse, int64_t rows,
                          int64_t M, int64_t hd) {
  for (int64_t r = 0; r < rows; r += kTileRows) {
    Tile<kTileRows, V> tile;
    multiply(tile, p + r * kPanel, p_panel, values, M);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i)
      if (r + i < rows)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
          store_first(out.base + (r + i) * out.step + column + v * kLanes, tile.at[i][v] * inverse[r + i], hd - column - v * kLanes);
  }
}

namespace {

/// One chunk of at most plan.chunk queries of a head.
void attend(const AttentionPlan& plan, Rows q, Rows out, float* lse, const float* keys, const float* values, float* scratch, int64_t rows,
            int64_t M, int64_t hd, float scale) {
  const int64_t panel = plan.chunk * kPanel, padded = (rows + kTileRows - 1) / kTileRows * kTileRows;
  float* queries = scratch;
  float* scores = scratch + panels_of(hd) * panel;
  pack_rows(queries, plan.chunk, q, rows, padded, hd);
  for (int64_t p = 0; p < panels_of(M); ++p) {
    const int n = vectors_of(M, p);
    for (int v = 0; v < n; v += 2) {
      float* to = scores + p * panel + v * kLanes;
      const float* from = keys + p * hd * kPanel + v * kLanes;
      if (v + 2 <= n)
        score<2>(to, queries, panel, from, padded, hd, scale);
      else
        score<1>(to, queries, panel, from, padded, hd, scale);
    }
  }
  alignas(64) float maximum[kMaxChunk] = {}, sum[kMaxChunk] = {}, inverse[kMaxChunk] = {};
  for (int64_t r = 0; r < rows; ++r) sum[r] = exponentials(scores + r * kPanel, panel, M, maximum + r);
  for (int64_t r = 0; r < rows; r += kLanes) {
    const vf s = load(sum + r);
    store(inverse + r, 1.0f / s);
    store_first(lse + r, load(maximum + r) + vlog(s), rows - r);
  }
  for (int64_t p = 0; p < panels_of(hd); ++p) {
    const int n = vectors_of(hd, p);
    for (int v = 0; v < n; v += 2) {
      const float* from = values + p * M * kPanel + v * kLanes;
      const int64_t column = p * kPanel + v * kLanes;
      if (v + 2 <= n)
        average<2>(out, column, scores, panel, from, inverse, rows, M, hd);
      else
        average<1>(out, column, scores, panel, from, inverse, rows, M, hd);
    }
  }
}

}  // namespace

void attention(const AttentionArgs& a, const Context& context) {
  const AttentionPlan plan = theia::plan(a);
  const int64_t N = a.q.size[1], M = a.k.size[1], H = a.q.size[2], hd = a.q.size[3], heads = a.q.size[0] * H;
  const float scale = static_cast<float>(a.scale);
  const int64_t key_floats = panels_of(M) * hd * kPanel;
  float* scratch = reinterpret_cast<float*>(context.workspace);
  const int64_t blocks = (N + kRowBlock - 1) / kRowBlock;
  const auto pack = [&](int64_t head, float* into, bool keys, bool values) {
    if (keys) pack_columns(into, rows_of(a.k, H, head), M, hd);
    if (values) pack_rows(into + key_floats, M, rows_of(a.v, H, head), M, M, hd);
  };
  const auto queries = [&](int64_t head, int64_t part, const float* packed, float* own) {
    const Rows q = rows_of(a.q, H, head), out = rows_of(a.out, H, head);
    float* lse = a.lse.ptr<float>() + head * N;
    const int64_t from = cut(blocks, plan.parts, part), count = cut(blocks, plan.parts, part + 1) - from;
    const int64_t chunks = (count * kRowBlock + plan.chunk - 1) / plan.chunk;
    for (int64_t c = 0; c < chunks; ++c) {
      const int64_t first = (from + cut(count, chunks, c)) * kRowBlock;
      const int64_t rows = smaller((from + cut(count, chunks, c + 1)) * kRowBlock, N) - first;
      attend(plan, {q.base + first * q.step, q.step}, {out.base + first * out.step, out.step}, lse + first, packed, packed + key_floats, own,
             rows, M, hd, scale);
    }
  };
  if (plan.parts == 1) {
    context.pool->run(heads, [&](int64_t head, int thread) {
      float* own = scratch + thread * (plan.head_floats + plan.chunk_floats);
      pack(head, own, true, true);
      queries(head, 0, own, own + plan.head_floats);
    });
    return;
  }
  float* chunks = scratch + heads * plan.head_floats;
  context.pool->run(2 * heads, [&](int64_t i, int) { pack(i / 2, scratch + i / 2 * plan.head_floats, i % 2 == 0, i % 2 == 1); });
  context.pool->run(heads * plan.parts, [&](int64_t i, int thread) {
    queries(i / plan.parts, i % plan.parts, scratch + i / plan.parts * plan.head_floats, chunks + thread * plan.chunk_floats);
  });
}

}  // namespace theia::THEIA_ISA
