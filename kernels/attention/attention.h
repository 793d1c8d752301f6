// out = softmax(scale · q · kᵀ) · v for each batch entry and head, and its gradient. Scores and probabilities never leave the caches.
#pragma once
#include "kernels/core/context.h"
#include "kernels/core/field.h"
#include "kernels/gemm/gemm.h"  // kPanel: attention lays its panels out as GEMM does

namespace theia {

inline constexpr int64_t kMaxHeadDim = 128;

// Tokens are [B,N,H,hd] views of any strides whose last dimension is packed, so a packed projection [B,N,3,H,hd] needs no copy.
struct AttentionArgs {
  Tensor q;    // [B,N,H,hd]
  Tensor k;    // [B,M,H,hd]
  Tensor v;    // [B,M,H,hd]
  Tensor out;  // [B,N,H,hd]
  Tensor lse;  // [B,H,N] packed: log Σ exp of the scaled scores of a row, all that backward needs to make the probabilities again; float32
               // where the others are bfloat16
  double scale;
};

inline constexpr Field kAttentionFields[] = {
    THEIA_TENSOR(AttentionArgs, q, in, kActivation, 4, 4), THEIA_TENSOR(AttentionArgs, k, in, kActivation, 4, 4),
    THEIA_TENSOR(AttentionArgs, v, in, kActivation, 4, 4), THEIA_TENSOR(AttentionArgs, out, out, kActivation, 4, 4),
    THEIA_TENSOR(AttentionArgs, lse, saved, kReal, 3, 3),  THEIA_FLOAT(AttentionArgs, scale),
};

struct AttentionGradArgs {
  Tensor q;     // [B,N,H,hd] as forward had them
  Tensor k;     // [B,M,H,hd]
  Tensor v;     // [B,M,H,hd]
  Tensor out;   // [B,N,H,hd] as forward wrote it
  Tensor lse;   // [B,H,N] as forward saved it
  Tensor dout;  // [B,N,H,hd]
  Tensor dq;    // [B,N,H,hd], written; the three may be slices of one packed gradient
  Tensor dk;    // [B,M,H,hd], written
  Tensor dv;    // [B,M,H,hd], written
  double scale;
};

inline constexpr Field kAttentionGradFields[] = {
    THEIA_TENSOR(AttentionGradArgs, q, in, kActivation, 4, 4),   THEIA_TENSOR(AttentionGradArgs, k, in, kActivation, 4, 4),
    THEIA_TENSOR(AttentionGradArgs, v, in, kActivation, 4, 4),   THEIA_TENSOR(AttentionGradArgs, out, in, kActivation, 4, 4),
    THEIA_TENSOR(AttentionGradArgs, lse, in, kReal, 3, 3),       THEIA_TENSOR(AttentionGradArgs, dout, in, kActivation, 4, 4),
    THEIA_TENSOR(AttentionGradArgs, dq, out, kActivation, 4, 4), THEIA_TENSOR(AttentionGradArgs, dk, out, kActivation, 4, 4),
    THEIA_TENSOR(AttentionGradArgs, dv, out, kActivation, 4, 4), THEIA_FLOAT(AttentionGradArgs, scale),
};

void check(const AttentionArgs& a);
int64_t workspace(const AttentionArgs& a, int threads);
double flops(const AttentionArgs& a);
double bytes(const AttentionArgs& a);
void check(const AttentionGradArgs& a);
int64_t workspace(const AttentionGradArgs& a, int threads);
double flops(const AttentionGradArgs& a);
double bytes(const AttentionGradArgs& a);

// ---- how the vector kernels cut the work and their scratch: by shape alone, so that results do not depend on the number of threads

inline constexpr int64_t kRowBlock = 12;  // queries are cut at multiples of this
inline constexpr int64_t kMaxChunk = 48;  // no plan has longer chunks

struct AttentionPlan {
  int64_t parts;         // ranges of queries that a head is cut into; 1 where there are heads enough to share out
  int64_t chunk;         // queries whose scores are in the caches at a time, a multiple of kRowBlock
  int64_t head_floats;   // packed keys and values of a head
  int64_t chunk_floats;  // queries and scores of a chunk
  int64_t sum_floats;    // gradients of keys and values that a part gathers (backward)
};

AttentionPlan plan(const AttentionArgs& a);
AttentionPlan plan(const AttentionGradArgs& a);

namespace cpu {
template <class T>
void attention(const AttentionArgs& a, const Context& context);
template <class T>
void attention_grad(const AttentionGradArgs& a, const Context& context);
}  // namespace cpu
namespace avx2 {
void attention(const AttentionArgs& a, const Context& context);
void attention_grad(const AttentionGradArgs& a, const Context& context);
}  // namespace avx2
namespace avx512 {
void attention(const AttentionArgs& a, const Context& context);
void attention_grad(const AttentionGradArgs& a, const Context& context);
}  // namespace avx512

}  // namespace theia
