// What both forward kernels are told.
#pragma once
#include <cmath>

#include "kernels/attention/launch.cuh"

namespace theia::THEIA_DEVICE::heads {

struct Forward {
  Tokens<const bf16> q, k, v;
  Tokens<bf16> out;
  float* lse;
  int64_t queries, heads;
  int first_batch, first_head;
  int keys, hd, tiles;  // tiles: of 16 queries, a block
  // Of a scale of any sign, so that the largest product is the largest score and a masked one has probability 0: its magnitude (1 for 0),
  // and the bits of a pair of q to keep and then to flip (q is cleared for 0, negated below).
  float scale;
  uint32_t keep, flip;
};

inline Forward forward_of(const AttentionArgs& a) {
  Forward p{};
  p.q = tokens_of<const bf16>(a.q);
  p.k = tokens_of<const bf16>(a.k);
  p.v = tokens_of<const bf16>(a.v);
  p.out = tokens_of<bf16>(a.out);
  p.lse = a.lse.ptr<float>();
  p.queries = a.q.size[1];
  p.heads = a.q.size[2];
  p.keys = static_cast<int>(a.k.size[1]);
  p.hd = static_cast<int>(a.q.size[3]);
  p.scale = static_cast<float>(std::fabs(a.scale));
  p.keep = p.scale == 0 ? 0 : ~0u;
  p.flip = a.scale < 0 ? 0x80008000u : 0;
  if (p.scale == 0) p.scale = 1;
  return p;
}

template <int HD>
__device__ __forceinline__ void read_queries(const Forward& p, Rows<HD>& q, const bf16* tile, const Lane<HD>& at) {
  read_rows<HD>(q, tile, at);
#pragma unroll
  for (int k = 0; k < HD / 16; ++k)
#pragma unroll
    for (int i = 0; i < 4; ++i) q[k][i] = (q[k][i] & p.keep) ^ p.flip;
}

/// Scores of keys that are not there, in tiles of 8 of which the first `present` are.
__device__ __forceinline__ void mask(float (&left)[4], float (&right)[4], int present, int lane) {
  const int column = 2 * (lane & 3);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (column + i % 2 >= present) left[i] = -INFINITY;
    if (column + i % 2 + 8 >= present) right[i] = -INFINITY;
  }
}

/// Divides a tile's sums by the rows' sums of probabilities and writes rows and log-sum-exp. `max` is of products, before the scale.
template <int HD>
__device__ __forceinline__ void finish(const Forward& p, bf16* stage, const Sums<HD>& o, const float (&max)[2], const float (&sum)[2],
                                       int b, int h, int64_t first, int lane) {
  const int rows = static_cast<int>(min(p.queries - first, int64_t{kStep}));
  store_rows<HD>(stage, o, 1 / sum[0], 1 / sum[1], p.out.of(b, h) + first * p.out.token, p.out.token, p.out.width, rows, p.hd, lane);
  if ((lane & 3) == 0) {
    float* lse = p.lse + (b * p.heads + h) * p.queries + first;
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if ((lane >> 2) + 8 * i < rows) lse[(lane >> 2) + 8 * i] = p.scale * max[i] + logf(sum[i]);
  }
}

}  // namespace theia::THEIA_DEVICE::heads
