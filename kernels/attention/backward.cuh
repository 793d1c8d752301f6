// Gradients, a warp's tile of 16 rows at a time. With P = exp(scale·q·kᵀ − lse), dP = dout·vᵀ, delta = rowsum(dout ∘ out) and
// dS = P ∘ (dP − delta): dq = scale·dS·k gathers over keys, dk = scale·dSᵀ·q and dv = Pᵀ·dout over queries. Who owns 16 rows of a result
// makes P and dP again for them: 7 products instead of 5, but nothing is summed across warps or blocks, so no atomics and one order of
// sums.
#pragma once
#include "kernels/attention/launch.cuh"

namespace theia::THEIA_DEVICE::heads {

/// What backward knows of a query: its log-sum-exp in powers of two, and delta.
struct Row {
  float lse2, delta;
};

struct Backward {
  Tokens<const bf16> q, k, v, out, dout;
  Tokens<bf16> dq, dk, dv;
  const float* lse;
  Row* rows;  // [B,H,N], workspace of the tiled kernels
  int64_t queries, heads;
  int first_batch, first_head;
  int keys, hd;
  int query_tiles, key_tiles;  // of 16 rows, a block
  float scale;
};

inline Backward backward_of(const AttentionGradArgs& a) {
  Backward p{};
  p.q = tokens_of<const bf16>(a.q);
  p.k = tokens_of<const bf16>(a.k);
  p.v = tokens_of<const bf16>(a.v);
  p.out = tokens_of<const bf16>(a.out);
  p.dout = tokens_of<const bf16>(a.dout);
  p.dq = tokens_of<bf16>(a.dq);
  p.dk = tokens_of<bf16>(a.dk);
  p.dv = tokens_of<bf16>(a.dv);
  p.lse = a.lse.ptr<float>();
  p.queries = a.q.size[1];
  p.heads = a.q.size[2];
  p.keys = static_cast<int>(a.k.size[1]);
  p.hd = static_cast<int>(a.q.size[3]);
  p.scale = static_cast<float>(a.scale);
  return p;
}

/// 8 elements of a row as float32, zeros from `valid` on. `width` as in Tokens.
__device__ __forceinline__ void read_chunk(float (&x)[8], const bf16* from, int width, int valid) {
  if (width >= 16 && valid == 8) {
    const uint4 packed = *reinterpret_cast<const uint4*>(from);
    const uint32_t pair[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[2 * i] = ptx::low_bf16(pair[i]);
      x[2 * i + 1] = ptx::high_bf16(pair[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = i < valid ? to_float(from[i]) : 0;
  }
}

/// Rows of queries first .. first + count: eight lanes share one, four a warp. The first `valid` exist.
template <int HD, class Put>
__device__ __forceinline__ void describe_rows(const Backward& p, int b, int h, int64_t first, int count, int valid, int warp, int warps,
                                              int lane, Put put) {
  const bf16 *out = p.out.of(b, h) + first * p.out.token, *dout = p.dout.of(b, h) + first * p.dout.token;
  const float* lse = p.lse + (b * p.heads + h) * p.queries + first;
  for (int at = 4 * warp; at < count; at += 4 * warps) {
    const int row = at + lane / 8;
    float sum = 0;
    if (row < valid)
#pragma unroll
      for (int chunk = 0; chunk < HD / 8; chunk += 8) {
        const int channel = 8 * (chunk + lane % 8), present = min(max(p.hd - channel, 0), 8);
        if (present > 0) {
          float x[8], y[8];
          read_chunk(x, out + row * p.out.token + channel, p.out.width, present);
          read_chunk(y, dout + row * p.dout.token + channel, p.dout.width, present);
#pragma unroll
          for (int i = 0; i < 8; ++i) sum = fmaf(x[i], y[i], sum);
        }
      }
#pragma unroll
    for (int step = 4; step > 0; step /= 2) sum += __shfl_xor_sync(kFullMask, sum, step);
    if (lane % 8 == 0 && row < count) put(row, row < valid ? Row{lse[row] * kLog2e, sum} : Row{0, 0});
  }
}

/// Zero in columns from `present` on, whatever padding made of an infinity.
__device__ __forceinline__ void keep(float (&x)[2][4], int present, int lane) {
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i / 4 * 8 + 2 * (lane & 3) + i % 2 >= present) x[i / 4][i % 4] = 0;
}

/// dq of 16 queries += dS · k over the 16 keys at k and v, of which the first `present` are there.
template <int HD>
__device__ __forceinline__ void add_query_gradient(Sums<HD>& dq, const Rows<HD>& q, const Rows<HD>& dout, const Row (&row)[2],
                                                   float to_exponent, const bf16* k, const bf16* v, int present, const Lane<HD>& at,
                                                   int lane) {
  float s[2][4] = {}, dp[2][4] = {};
  add_scores<HD>(s[0], s[1], q, k, at);
  add_scores<HD>(dp[0], dp[1], dout, v, at);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const Row& r = row[i % 4 / 2];
    float& x = s[i / 4][i % 4];
    x = ptx::exp2_approx(fmaf(x, to_exponent, -r.lse2)) * (dp[i / 4][i % 4] - r.delta);
  }
  if (present < kStep) keep(s, present, lane);
  uint32_t ds[4];
  pack_operand(ds, s[0], s[1]);
  add_rows<HD>(dq, ds, k, at);
}

/// Keys and values of a warp's own 16 keys stay in registers beside the sums of both gradients, but for 128 channels.
template <int HD>
inline constexpr bool kHeld = HD <= 80;

/// dk and dv of 16 keys += over the 16 queries at q and dout, which `rows` describes and of which the first `present` are there. k and v of
/// the keys: Rows, or where they lie.
template <int HD, class Own>
__device__ __forceinline__ void add_key_gradients(Sums<HD>& dk, Sums<HD>& dv, const Own& k, const Own& v, float to_exponent, const bf16* q,
                                                  const bf16* dout, const Row* rows, int present, const Lane<HD>& at, int lane) {
  float s[2][4] = {}, dp[2][4] = {};
  add_scores<HD>(s[0], s[1], k, q, at);
  add_scores<HD>(dp[0], dp[1], v, dout, at);
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int column = 0; column < 2; ++column) {
      const Row r = rows[8 * half + 2 * (lane & 3) + column];
#pragma unroll
      for (int i = column; i < 4; i += 2) {
        const float x = ptx::exp2_approx(fmaf(s[half][i], to_exponent, -r.lse2));
        s[half][i] = x;
        dp[half][i] = x * (dp[half][i] - r.delta);
      }
    }
  if (present < kStep) {
    keep(s, present, lane);
    keep(dp, present, lane);
  }
  uint32_t p[4], ds[4];
  pack_operand(p, s[0], s[1]);
  add_rows<HD>(dv, p, dout, at);
  pack_operand(ds, dp[0], dp[1]);
  add_rows<HD>(dk, ds, q, at);
}

}  // namespace theia::THEIA_DEVICE::heads
