#include "kernels/attention/attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/core/checks.h"

namespace theia {

namespace {

constexpr int64_t kMaxKeys = int64_t{1} << 24;               // a key axis of stride 0 could claim any length
constexpr int64_t kMaxSize = (int64_t{1} << 31) - kMaxKeys;  // of each other dimension: kernels count in 32 bits

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// [B,rows,H,hd] of q's element type with packed rows.
void expect_tokens(const char* op, const char* field, const Tensor& t, const Tensor& q, int64_t rows) {
  expect_dtype(op, field, t, q.dtype);
  expect_shape(op, field, t, {q.size[0], rows, q.size[2], q.size[3]});
  expect_contiguous(op, field, t, 1);
}

template <class Args>
void check_inputs(const char* op, const Args& a) {
  const int64_t N = a.q.size[1], M = a.k.size[1];
  for (int i = 0; i < 4; ++i)
    if (a.q.size[i] < 1) fail("ERR_SHAPE", "%s: expected 'q' with no empty dimension, got %s", op, describe(a.q).c_str());
  if (a.q.size[3] > kMaxHeadDim)
    fail("ERR_SHAPE", "%s: expected 'q' with at most %lld channels a head, got %s", op, static_cast<long long>(kMaxHeadDim),
         describe(a.q).c_str());
  for (int i = 0; i < 3; ++i)
    if (a.q.size[i] > kMaxSize)
      fail("ERR_SHAPE", "%s: expected 'q' with at most %lld in each dimension, got %s", op, static_cast<long long>(kMaxSize),
           describe(a.q).c_str());
  if (M < 1 || M > kMaxKeys)
    fail("ERR_SHAPE", "%s: expected 'k' with 1 to %lld tokens, got %s", op, static_cast<long long>(kMaxKeys), describe(a.k).c_str());
  expect_contiguous(op, "q", a.q, 1);
  expect_tokens(op, "k", a.k, a.q, M);
  expect_tokens(op, "v", a.v, a.q, M);
  expect_tokens(op, "out", a.out, a.q, N);
  expect_dtype(op, "lse", a.lse, a.q.dtype == DType::bf16 ? DType::f32 : a.q.dtype);
  expect_shape(op, "lse", a.lse, {a.q.size[0], a.q.size[2], N});
  expect_contiguous(op, "lse", a.lse);
  if (!std::isfinite(a.scale)) fail("ERR_ARGS", "%s: expected 'scale' as a finite number, got %g", op, a.scale);
}

/// Floats of a matrix of `rows` by `columns` in panels.
int64_t panels(int64_t rows, int64_t columns) { return ceil_div(columns, kPanel) * kPanel * rows; }

/// Parts that make at least `pieces` pieces of work of all heads together, none of fewer than 3 blocks unless the head is shorter.
int64_t parts_of(int64_t heads, int64_t blocks, int64_t pieces) {
  return std::clamp<int64_t>(ceil_div(pieces, heads), 1, ceil_div(blocks, 3));
}

int64_t bytes_of_plan(const AttentionPlan& p, int64_t heads, int64_t threads) {
  const int64_t own = p.parts > 1 ? 0 : p.head_floats + p.sum_floats;
  const int64_t common = p.parts > 1 ? heads * (p.head_floats + p.parts * p.sum_floats) : 0;
  return static_cast<int64_t>(sizeof(float)) * (common + threads * (own + p.chunk_floats));
}

template <class Args>
double products(const Args& a) {
  return 2.0 * static_cast<double>(a.q.numel()) * static_cast<double>(a.k.size[1]);
}

template <class Args>
double bytes_of_lse(const Args& a) {
  return static_cast<double>(a.lse.numel()) * bytes_of(a.lse.dtype);
}

}  // namespace

void check(const AttentionArgs& a) { check_inputs("attention", a); }

void check(const AttentionGradArgs& a) {
  constexpr const char* op = "attention_grad";
  check_inputs(op, a);
  expect_tokens(op, "dout", a.dout, a.q, a.q.size[1]);
  expect_tokens(op, "dq", a.dq, a.q, a.q.size[1]);
  expect_tokens(op, "dk", a.dk, a.q, a.k.size[1]);
  expect_tokens(op, "dv", a.dv, a.q, a.k.size[1]);
}

AttentionPlan plan(const AttentionArgs& a) {
  const int64_t N = a.q.size[1], M = a.k.size[1], hd = a.q.size[3];
  AttentionPlan p{};
  p.parts = parts_of(a.q.size[0] * a.q.size[2], ceil_div(N, kRowBlock), 16);
  // 24 rows of 208 scores are 20 KB: with a panel of keys they stay in L1, and keys and values come from L2 once for 24 queries.
  p.chunk = M <= 512 ? 24 : kRowBlock;
  p.head_floats = panels(hd, M) + panels(M, hd);
  p.chunk_floats = panels(p.chunk, hd) + panels(p.chunk, M);
  return p;
}

AttentionPlan plan(const AttentionGradArgs& a) {
  const int64_t N = a.q.size[1], M = a.k.size[1], hd = a.q.size[3];
  AttentionPlan p{};
  // Fewer parts than in forward: each writes gradients of all keys and values, which are then added.
  p.parts = parts_of(a.q.size[0] * a.q.size[2], ceil_div(N, kRowBlock), 6);
  // The chunk is the depth of the products that gather the gradients of keys and values: the longer, the fewer times the sums are loaded
  // and stored. Probabilities and score gradients of a chunk (2 x 40 KB at 208 keys) come from L2.
  p.chunk = M <= 512 ? 48 : M <= 2048 ? 24 : kRowBlock;
  p.head_floats = 2 * panels(hd, M) + panels(M, hd);
  p.chunk_floats = 2 * (panels(p.chunk, hd) + panels(p.chunk, M));
  p.sum_floats = 2 * panels(ceil_div(M, kPanel) * kPanel, hd);
  return p;
}

// The plain variant keeps a row of scores in forward, nothing in backward.
int64_t workspace(const AttentionArgs& a, int threads) {
  return std::max(a.k.size[1] * 8, bytes_of_plan(plan(a), a.q.size[0] * a.q.size[2], threads));
}
int64_t workspace(const AttentionGradArgs& a, int threads) { return bytes_of_plan(plan(a), a.q.size[0] * a.q.size[2], threads); }

double flops(const AttentionArgs& a) { return 2 * products(a); }
double flops(const AttentionGradArgs& a) { return 5 * products(a); }
double bytes(const AttentionArgs& a) {
  return static_cast<double>(2 * a.q.numel() + 2 * a.k.numel()) * bytes_of(a.q.dtype) + bytes_of_lse(a);
}
double bytes(const AttentionGradArgs& a) {
  return static_cast<double>(4 * a.q.numel() + 4 * a.k.numel()) * bytes_of(a.q.dtype) + bytes_of_lse(a);
}

}  // namespace theia
