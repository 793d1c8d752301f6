// Compiled once per instruction set: the including file defines THEIA_ISA. Squares are taken in double: the loop waits for memory anyway,
// and no gradient that float32 can hold overflows or vanishes in its square.
#include "kernels/core/pool.h"
#include "kernels/core/simd_double.h"
#include "kernels/grad_norm/grad_norm.h"

namespace theia::THEIA_ISA {

namespace {

double squares(const float* x, int64_t count) {
  vd a{}, b{}, c{}, d{};  // four chains hide the latency of the sum
  int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    const vf v = load(x + i), w = load(x + i + kLanes);
    a = fma(widen_lower(v), widen_lower(v), a);
    b = fma(widen_upper(v), widen_upper(v), b);
    c = fma(widen_lower(w), widen_lower(w), c);
    d = fma(widen_upper(w), widen_upper(w), d);
  }
  for (; i < count; i += kLanes) {
    const vf v = count - i < kLanes ? load_n(x + i, static_cast<int>(count - i)) : load(x + i);
    a = fma(widen_lower(v), widen_lower(v), a);
    b = fma(widen_upper(v), widen_upper(v), b);
  }
  return reduce_add((a + c) + (b + d));
}

}  // namespace

void grad_norm(const GradNormArgs& a, const Context& context) {
  check_rows("grad_norm", a.segments, a.slots, a.grad.size[0]);
  const float* grad = a.grad.ptr<float>();
  double* sums = reinterpret_cast<double*>(context.workspace);
  const int64_t total = a.grad.size[0];
  context.pool->run(grad_norm_chunks(a), [&](int64_t chunk, int) {
    const int64_t begin = chunk * kGradNormChunk, end = begin + kGradNormChunk < total ? begin + kGradNormChunk : total;
    double sum = 0;
    SegmentPiece piece;
    for (SegmentWalk walk(a.segments, a.slots, begin, end); walk.next(piece);) sum += squares(grad + piece.first, piece.last - piece.first);
    sums[chunk] = sum;
  });
  grad_norm_finish(a, sums);
}

}  // namespace theia::THEIA_ISA
