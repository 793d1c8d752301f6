// LayerNorm over the last axis: y = (x - mean) · rstd · gamma + beta with rstd = 1/sqrt(variance + eps), and its gradient.
#pragma once
#include "kernels/core/context.h"
#include "kernels/core/field.h"

namespace theia {

struct LayernormArgs {
  Tensor x;      // [R,D], rows may be strided
  Tensor gamma;  // [D]
  Tensor beta;   // [D]
  Tensor y;      // [R,D], rows may be strided
  Tensor mean;   // [R], saved for backward; with rstd or not at all
  Tensor rstd;   // [R]
  double eps;
};

// On devices x and y (and dy, add, dx) may each be float32 or bfloat16; statistics and parameters are float32 with both of them.
inline constexpr Field kLayernormFields[] = {
    THEIA_TENSOR(LayernormArgs, x, in, kActivation, 2, 2),
    THEIA_TENSOR(LayernormArgs, gamma, in, kReal, 1, 1),
    THEIA_TENSOR(LayernormArgs, beta, in, kReal, 1, 1),
    THEIA_TENSOR(LayernormArgs, y, out, kActivation, 2, 2),
    THEIA_OPTIONAL(LayernormArgs, mean, saved, kReal, 1, 1),
    THEIA_OPTIONAL(LayernormArgs, rstd, saved, kReal, 1, 1),
    THEIA_FLOAT(LayernormArgs, eps),
};

struct LayernormGradArgs {
  Tensor x;            // [R,D] as forward had it
  Tensor gamma;        // [D]
  Tensor mean;         // [R] as forward saved it
  Tensor rstd;         // [R]
  Tensor dy;           // [R,D], rows may be strided
  Tensor add;          // [R,D], optional: what else flows into x (the residual stream's gradient); dx = gradient + add
  Tensor dx;           // [R,D], rows may be strided; may be the memory of add
  Tensor dgamma;       // [D], optional; with dbeta or not at all; written or added to
  Tensor dbeta;        // [D]
  int64_t accumulate;  // 1: add to dgamma and dbeta
};

inline constexpr Field kLayernormGradFields[] = {
    THEIA_TENSOR(LayernormGradArgs, x, in, kActivation, 2, 2),
    THEIA_TENSOR(LayernormGradArgs, gamma, in, kReal, 1, 1),
    THEIA_TENSOR(LayernormGradArgs, mean, in, kReal, 1, 1),
    THEIA_TENSOR(LayernormGradArgs, rstd, in, kReal, 1, 1),
    THEIA_TENSOR(LayernormGradArgs, dy, in, kActivation, 2, 2),
    THEIA_OPTIONAL(LayernormGradArgs, add, in, kActivation, 2, 2),
    THEIA_SHARING(LayernormGradArgs, dx, out, kActivation, 2, 2, "add"),
    THEIA_OPTIONAL(LayernormGradArgs, dgamma, accumulate, kReal, 1, 1),
    THEIA_OPTIONAL(LayernormGradArgs, dbeta, accumulate, kReal, 1, 1),
    THEIA_FLAG(LayernormGradArgs, accumulate),
};

/// How backward cuts its rows for the sums of dgamma and dbeta: by shape alone, at most kNormBlocks blocks of at least kNormBlockRows rows.
inline constexpr int64_t kNormBlocks = 128, kNormBlockRows = 16;
struct NormBlocks {
  int64_t rows, count;  // rows of a block, blocks
};
NormBlocks norm_blocks(int64_t rows);

void check(const LayernormArgs& a);
int64_t workspace(const LayernormArgs& a, int threads);
double flops(const LayernormArgs& a);
double bytes(const LayernormArgs& a);
void check(const LayernormGradArgs& a);
int64_t workspace(const LayernormGradArgs& a, int threads);
double flops(const LayernormGradArgs& a);
double bytes(const LayernormGradArgs& a);

namespace cpu {
template <class T>
void layernorm(const LayernormArgs& a, const Context& context);
template <class T>
void layernorm_grad(const LayernormGradArgs& a, const Context& context);
}  // namespace cpu
namespace avx2 {
void layernorm(const LayernormArgs& a, const Context& context);
void layernorm_grad(const LayernormGradArgs& a, const Context& context);
}  // namespace avx2
namespace avx512 {
void layernorm(const LayernormArgs& a, const Context& context);
void layernorm_grad(const LayernormGradArgs& a, const Context& context);
}  // namespace avx512

}  // namespace theia
