// Forward, compiled once per instruction set. A chunk of queries has all its scores in cache, so the softmax is an ordinary one over whole
// rows; the division by its sum waits for the product with v, which has fewer columns.
#include "kernels/attention/attention_panels_simd.h"
#include "kernels/core/pool.h"

namespace theia::THEIA_ISA {

/// Scores of R packed queries with V vectors of keys.
template <int R, int V>
THEIA_INLINE void score(float* scores, const float* q, int64_t q_panel, const float* keys, int64_t hd, float scale) {
  Tile<R, V> tile;
  multiply(tile, q, q_panel, keys, hd);
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(scores + i * kPanel + v * kLanes, tile.at[i][v] * scale);
}
template <int V>
THEIA_INLINE void score_all(float* scores, const float* q, int64_t panel, const float* keys, int64_t rows, int64_t hd, float scale) {
  each_tile(
      rows, [&](int64_t r) { score<kTall, V>(scores + r * kPanel, q + r * kPanel, panel, keys, hd, scale); },
      [&](int64_t r) { score<kShort, V>(scores + r * kPanel, q + r * kPanel, panel, keys, hd, scale); });
}

/// Turns a row of M scores, one panel every `panel` floats, into exp(score - max). Returns the sum and writes the maximum.
THEIA_INLINE float exponentials(float* row, int64_t panel, int64_t M, float* maximum) {
  constexpr int kVectors = kPanel / kLanes;
  const int64_t last = (M - 1) / kPanel;
  const int tail = static_cast<int>(M - last * kPanel);
  float* end = row + last * panel;
  const vf low = set1(-__builtin_inff());
  vf m[2] = {low, low};
  for (float* p = row; p < end; p += panel)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) m[v & 1] = vmax(m[v & 1], load(p + v * kLanes));
  for (int c = 0; c < tail; c += kLanes) m[0] = vmax(m[0], lane_index() < tail - c ? load(end + c) : low);
  const float max = reduce_max(vmax(m[0], m[1]));
  vf sum[kVectors] = {};
  for (float* p = row; p < end; p += panel) {
    vf e[kVectors];  // side by side: a power is a chain of a dozen dependent operations
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) e[v] = probability(load(p + v * kLanes) - max);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(p + v * kLanes, e[v]), sum[v] += e[v];
  }
  for (int c = 0; c < tail; c += kLanes) {
    const vi valid = lane_index() < tail - c;  // the other lanes hold scores of no key
    const vf e = probability((valid ? load(end + c) : set1(max)) - max);
    store(end + c, e);
    sum[0] += valid ? e : vf{};
  }
#pragma GCC unroll 4
  for (int v = 1; v < kVectors; ++v) sum[0] += sum[v];
  *maximum = max;
  return reduce_add(sum[0]);
}

/// out(r, :) = Σ_m p(r, m) · v(m, :) · inverse(r) for R queries, of which `rows` are wanted, and V vectors of `columns` channels.
template <int R, int V>
THEIA_INLINE void average(Rows out, const float* p, int64_t panel, const float* values, const float* inverse, int64_t rows, int64_t M,
                          int64_t columns) {
  Tile<R, V> tile;
  multiply(tile, p, panel, values, M);
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
    if (i < rows)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) store_first(out.base + i * out.step + v * kLanes, tile.at[i][v] * inverse[i], columns - v * kLanes);
}
template <int V>
THEIA_INLINE void average_all(Rows out, const float* p, int64_t panel, const float* values, const float* inverse, int64_t rows, int64_t M,
                              int64_t columns) {
  each_tile(
      rows, [&](int64_t r) { average<kTall, V>(from_token(out, r), p + r * kPanel, panel, values, inverse + r, rows - r, M, columns); },
      [&](int64_t r) { average<kShort, V>(from_token(out, r), p + r * kPanel, panel, values, inverse + r, rows - r, M, columns); });
}

namespace {

/// One chunk of at most plan.chunk queries of a head.
void attend(const AttentionPlan& plan, Rows q, Rows out, float* lse, const float* keys, const float* values, float* scratch, int64_t rows,
            int64_t M, int64_t hd, float scale) {
  const int64_t panel = plan.chunk * kPanel;
  float* queries = scratch;
  float* scores = scratch + panels_of(hd) * panel;
  pack_rows(queries, plan.chunk, q, rows, padded_rows(rows), hd);
  for (int64_t p = 0; p < panels_of(M); ++p) {
    const int n = vectors_of(M, p);
    for (int v = 0; v < n; v += 2) {
      float* to = scores + p * panel + v * kLanes;
      const float* from = keys + p * hd * kPanel + v * kLanes;
      if (v + 2 <= n)
        score_all<2>(to, queries, panel, from, rows, hd, scale);
      else
        score_all<1>(to, queries, panel, from, rows, hd, scale);
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
      const Rows to = {out.base + column, out.step};
      if (v + 2 <= n)
        average_all<2>(to, scores, panel, from, inverse, rows, M, hd - column);
      else
        average_all<1>(to, scores, panel, from, inverse, rows, M, hd - column);
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
      attend(plan, from_token(q, first), from_token(out, first), lse + first, packed, packed + key_floats, own, rows, M, hd, scale);
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
