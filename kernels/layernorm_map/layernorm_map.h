// LayerNorm over a whole map: one mean and one variance for all of a sample's [H,W,C], a weight and a bias for each of its elements.
#pragma once
#include "kernels/core/context.h"
#include "kernels/core/field.h"

namespace theia {

struct LayernormMapArgs {
  Tensor x;      // [B,L], L = H·W·C
  Tensor gamma;  // [L]
  Tensor beta;   // [L]
  Tensor y;      // [B,L]
  Tensor mean;   // [B], saved for backward; with rstd or not at all
  Tensor rstd;   // [B]
  double eps;
};

// On devices x and y (and dy, add, dx) may each be float32 or bfloat16; statistics and parameters are float32 with both of them.
inline constexpr Field kLayernormMapFields[] = {
    THEIA_TENSOR(LayernormMapArgs, x, in, kActivation, 2, 2),
    THEIA_TENSOR(LayernormMapArgs, gamma, in, kReal, 1, 1),
    THEIA_TENSOR(LayernormMapArgs, beta, in, kReal, 1, 1),
    THEIA_TENSOR(LayernormMapArgs, y, out, kActivation, 2, 2),
    THEIA_OPTIONAL(LayernormMapArgs, mean, saved, kReal, 1, 1),
    THEIA_OPTIONAL(LayernormMapArgs, rstd, saved, kReal, 1, 1),
    THEIA_FLOAT(LayernormMapArgs, eps),
};

struct LayernormMapGradArgs {
  Tensor x;            // [B,L] as forward had it
  Tensor gamma;        // [L]
  Tensor mean;         // [B] as forward saved it
  Tensor rstd;         // [B]
  Tensor dy;           // [B,L]
  Tensor dx;           // [B,L]
  Tensor dgamma;       // [L], optional; with dbeta or not at all; written or added to
  Tensor dbeta;        // [L]
  int64_t relu;        // 1: x is a ReLU's output, and dx is the gradient before that ReLU: 0 where x <= 0
  int64_t accumulate;  // 1: add to dgamma and dbeta
};

inline constexpr Field kLayernormMapGradFields[] = {
    THEIA_TENSOR(LayernormMapGradArgs, x, in, kActivation, 2, 2),
    THEIA_TENSOR(LayernormMapGradArgs, gamma, in, kReal, 1, 1),
    THEIA_TENSOR(LayernormMapGradArgs, mean, in, kReal, 1, 1),
    THEIA_TENSOR(LayernormMapGradArgs, rstd, in, kReal, 1, 1),
    THEIA_TENSOR(LayernormMapGradArgs, dy, in, kActivation, 2, 2),
    THEIA_TENSOR(LayernormMapGradArgs, dx, out, kActivation, 2, 2),
    THEIA_OPTIONAL(LayernormMapGradArgs, dgamma, accumulate, kReal, 1, 1),
    THEIA_OPTIONAL(LayernormMapGradArgs, dbeta, accumulate, kReal, 1, 1),
    THEIA_FLAG(LayernormMapGradArgs, relu),
    THEIA_FLAG(LayernormMapGradArgs, accumulate),
};

/// A map is worked on in runs of this many elements (16 KB), each of which has sums of its own. It must stay in L1 for a second look.
inline constexpr int64_t kMapRun = 4096;
inline int64_t map_runs(int64_t length) { return (length + kMapRun - 1) / kMapRun; }

/// A run's contribution to a sample's statistics: forward mean and Σ(x - mean)², backward Σg and Σ g·xhat.
struct MapPartial {
  double first, second;
};
/// What the runs of a sample add up to: forward mean and rstd, backward mean(g) and mean(g·xhat).
struct MapTotal {
  float first, second;
};
/// Combines the runs in their order, in double; forward by Chan's formula for unequal counts.
MapTotal combine_moments(const MapPartial* runs, int64_t length, double eps);
MapTotal combine_means(const MapPartial* runs, int64_t length);

void check(const LayernormMapArgs& a);
int64_t workspace(const LayernormMapArgs& a, int threads);
double flops(const LayernormMapArgs& a);
double bytes(const LayernormMapArgs& a);
void check(const LayernormMapGradArgs& a);
int64_t workspace(const LayernormMapGradArgs& a, int threads);
double flops(const LayernormMapGradArgs& a);
double bytes(const LayernormMapGradArgs& a);

namespace cpu {
template <class T>
void layernorm_map(const LayernormMapArgs& a, const Context& context);
template <class T>
void layernorm_map_grad(const LayernormMapGradArgs& a, const Context& context);
}  // namespace cpu
namespace avx2 {
void layernorm_map(const LayernormMapArgs& a, const Context& context);
void layernorm_map_grad(const LayernormMapGradArgs& a, const Context& context);
}  // namespace avx2
namespace avx512 {
void layernorm_map(const LayernormMapArgs& a, const Context& context);
void layernorm_map_grad(const LayernormMapGradArgs& a, const Context& context);
}  // namespace avx512

}  // namespace theia
