// Linear layers per instruction set. Included by the files per instruction set only.
#pragma once
#include "kernels/core/pool.h"
#include "kernels/core/simd.h"
#include "kernels/linear/linear_plan.h"

namespace theia::THEIA_ISA {

/// Rows r0 .. r1 in the order of memory: dpre, and this block's column sums into its row of `partial`. One pass, so that the gradient
/// crosses the memory bus once for both.
static void stream_block(const Pregrad& p, int64_t block) {
  const int64_t r0 = block * kPregradRows, r1 = r0 + kPregradRows < p.rows ? r0 + kPregradRows : p.rows;
  float* const sums = p.dbias ? static_cast<float*>(p.partial) + block * p.columns : nullptr;
  for (int64_t i = r0; i < r1; ++i) {
    const float* dy = static_cast<const float*>(p.dy) + i * p.dy_stride;
    const float* factor = static_cast<const float*>(p.factor) + i * p.factor_stride;
    float* dpre = static_cast<float*>(p.dpre) + i * p.columns;
    for (int64_t j = 0; j < p.columns; j += kLanes) {
      const int lanes = static_cast<int>(p.columns - j < kLanes ? p.columns - j : kLanes);
      vf d = load_n(dy + j, lanes);
      if (p.multiply != Multiply::none) {
        const vf f = load_n(factor + j, lanes);
        d = p.multiply == Multiply::value ? d * f : (f > 0.0f ? d : vf{});
        store_n(dpre + j, d, lanes);
      }
      if (sums) store_n(sums + j, i == r0 ? d : d + load_n(sums + j, lanes), lanes);
    }
  }
}

/// The blocks' sums added in order.
static void add_partials(const Pregrad& p, int64_t blocks) {
  float* const dbias = static_cast<float*>(p.dbias);
  for (int64_t j = 0; j < p.columns; j += kLanes) {
    const int lanes = static_cast<int>(p.columns - j < kLanes ? p.columns - j : kLanes);
    vf sum{};
    for (int64_t b = 0; b < blocks; ++b) sum += load_n(static_cast<const float*>(p.partial) + b * p.columns + j, lanes);
    store_n(dbias + j, p.accumulate ? sum + load_n(dbias + j, lanes) : sum, lanes);
  }
}

void linear(const LinearArgs& a, const Context& context) { gemm(forward_gemm(a), context); }

void linear_grad(const LinearGradArgs& a, const Context& context) {
  const LinearGradPlan plan = plan_linear_grad(a, context);
  if (plan.stream) {
    const Pregrad& p = plan.pregrad;
    const int64_t blocks = (p.rows + kPregradRows - 1) / kPregradRows;
    context.pool->run(blocks, [&](int64_t block, int) { stream_block(p, block); });
    if (p.dbias) add_partials(p, blocks);
  }
  if (a.dx.buffer) gemm(plan.dx, plan.gemm_context);
  if (a.dw.buffer) gemm(plan.dw, plan.gemm_context);
}

}  // namespace theia::THEIA_ISA
