// The burst for one instruction set: the including file defines THEIA_ISA. Each accumulator waits for itself alone (4 cycles on two
// units: 8 are enough), and all of them with the two operands fit into the registers: 24 + 2 of 32, or 12 + 2 of 16.
#include "kernels/core/peak.h"
#include "kernels/core/simd.h"

namespace theia::THEIA_ISA {

float fma_burst(int64_t rounds, float factor, float term) {
  constexpr int kAccumulators = kBurstFlops / (2 * kLanes);
  const vf f = set1(factor), t = set1(term);
  vf acc[kAccumulators];
#pragma GCC unroll 24
  for (int i = 0; i < kAccumulators; ++i) acc[i] = set1(factor + static_cast<float>(i));
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 24
    for (int i = 0; i < kAccumulators; ++i) acc[i] = fma(acc[i], f, t);
  }
  vf sum = acc[0];
#pragma GCC unroll 24
  for (int i = 1; i < kAccumulators; ++i) sum += acc[i];
  return sum[0];
}

}  // namespace theia::THEIA_ISA
