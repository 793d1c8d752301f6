// Compiled once per instruction set: the including file defines THEIA_ISA. The loop is plain; the compiler makes it as wide as the set
// allows.
#include "kernels/add/add.h"
#include "kernels/core/pool.h"

namespace theia::THEIA_ISA {

void add(const AddArgs& args, const Context& context) {
  constexpr int64_t kChunk = 1 << 15;  // 3 x 128 KB: a few chunks for each thread's share of L2, long enough to pay for the hand-out
  const float* a = args.a.ptr<float>();
  const float* b = args.b.ptr<float>();
  float* y = args.y.ptr<float>();
  const int64_t n = args.a.numel();
  context.pool->run((n + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    const int64_t end = (chunk + 1) * kChunk < n ? (chunk + 1) * kChunk : n;
    for (int64_t i = chunk * kChunk; i < end; ++i) y[i] = a[i] + b[i];
  });
}

}  // namespace theia::THEIA_ISA
