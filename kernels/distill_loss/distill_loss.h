// The distance between a student's prediction and one teacher's features: cosine, smooth-L1 and MSE in one pass over both.
// The teacher's per-channel normalisation is part of the op: t' = (t - mean) / std, and no normalised copy is ever stored.
//
//   cos = mean over samples of 1 - cosine(p_b, t'_b), the flattened features of a sample as one vector. Vectors are divided by
//         max(norm, 1e-12), then by sqrt((|a|² + 1e-12)(|b|² + 1e-12)), as the published implementation does
//   l1  = mean over elements of |d| < 1 ? d²/2 : |d| - 1/2, with d = p - t'
//   mse = mean over elements of d²
#pragma once
#include "kernels/core/context.h"
#include "kernels/core/field.h"

namespace theia {

struct DistillLossArgs {
  Tensor p;      // [B,P,C] prediction, packed. bfloat16 on devices alone: all sums and statistics are then float32 and up
  Tensor t;      // [B,P,C] the teacher's raw features, each sample packed (samples may lie apart); float64 only where p is
  Tensor mean;   // [C] per channel; absent together with std: t is taken as it is
  Tensor std;    // [C]
  Tensor terms;  // [3] cos, l1, mse. All NaN if a sum of squares or a product is not finite: so for any NaN or infinity in p or t
  Tensor stats;  // [B,3] float64, saved for backward: p·t', |p|², |t'|²
};

struct DistillLossGradArgs {
  Tensor p, t, mean, std, stats;  // as in forward
  Tensor weights;                 // [3] d loss / d terms
  Tensor dp;                      // [B,P,C] packed; may be the memory of p, and on devices be float32 or bfloat16 whatever p is.
                                  // All NaN for a sample whose stats are not finite
};

inline constexpr Field kDistillLossFields[] = {
    THEIA_TENSOR(DistillLossArgs, p, in, kActivation, 3, 3), THEIA_TENSOR(DistillLossArgs, t, in, kStored, 3, 3),
    THEIA_OPTIONAL(DistillLossArgs, mean, in, kReal, 1, 1),  THEIA_OPTIONAL(DistillLossArgs, std, in, kReal, 1, 1),
    THEIA_TENSOR(DistillLossArgs, terms, out, kReal, 1, 1),  THEIA_TENSOR(DistillLossArgs, stats, saved, kF64, 2, 2),
};

inline constexpr Field kDistillLossGradFields[] = {
    THEIA_TENSOR(DistillLossGradArgs, p, in, kActivation, 3, 3),
    THEIA_TENSOR(DistillLossGradArgs, t, in, kStored, 3, 3),
    THEIA_OPTIONAL(DistillLossGradArgs, mean, in, kReal, 1, 1),
    THEIA_OPTIONAL(DistillLossGradArgs, std, in, kReal, 1, 1),
    THEIA_TENSOR(DistillLossGradArgs, stats, in, kF64, 2, 2),
    THEIA_TENSOR(DistillLossGradArgs, weights, in, kReal, 1, 1),
    THEIA_SHARING(DistillLossGradArgs, dp, out, kActivation, 3, 3, "p"),
};

void check(const DistillLossArgs& a);
int64_t workspace(const DistillLossArgs& a, int threads);
double flops(const DistillLossArgs& a);
double bytes(const DistillLossArgs& a);

void check(const DistillLossGradArgs& a);
int64_t workspace(const DistillLossGradArgs& a, int threads);
double flops(const DistillLossGradArgs& a);
double bytes(const DistillLossGradArgs& a);

/// What one pass adds up, per chunk of a sample.
struct DistillSums {
  double dot, p2, t2, l1, mse;
};

/// A sample is cut into chunks of whole positions, by shape alone.
struct DistillChunks {
  int64_t samples, positions, channels;
  int64_t each;   // positions a chunk
  int64_t count;  // chunks a sample
};
DistillChunks distill_chunks(const Tensor& p);

/// Adds the sums up, sample by sample and chunk by chunk in order, and writes terms and stats.
void distill_finish(const DistillLossArgs& a, const DistillSums* sums, int64_t chunks_per_sample);

/// The gradient of one sample: dp = p·p_ + t·t' + mse·d + l1·clamp(d, -1, 1).
struct DistillSlopes {
  double p, t, l1, mse;
};
DistillSlopes distill_slopes(const DistillLossGradArgs& a, int64_t sample);

namespace cpu {
template <class T>
void distill_loss(const DistillLossArgs& a, const Context& context);
template <class T>
void distill_loss_grad(const DistillLossGradArgs& a, const Context& context);
}  // namespace cpu
namespace avx2 {
void distill_loss(const DistillLossArgs& a, const Context& context);
void distill_loss_grad(const DistillLossGradArgs& a, const Context& context);
}  // namespace avx2
namespace avx512 {
void distill_loss(const DistillLossArgs& a, const Context& context);
void distill_loss_grad(const DistillLossGradArgs& a, const Context& context);
}  // namespace avx512

}  // namespace theia
