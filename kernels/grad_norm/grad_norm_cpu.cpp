#include "kernels/grad_norm/grad_norm.h"

namespace theia::cpu {

template <class T>
void grad_norm(const GradNormArgs& a, const Context& context) {
  check_rows("grad_norm", a.segments, a.slots, a.grad.size[0]);
  const T* grad = a.grad.ptr<T>();
  double* sums = reinterpret_cast<double*>(context.workspace);
  const int64_t total = a.grad.size[0];
  for (int64_t chunk = 0, chunks = grad_norm_chunks(a); chunk < chunks; ++chunk) {
    const int64_t begin = chunk * kGradNormChunk, end = begin + kGradNormChunk < total ? begin + kGradNormChunk : total;
    double sum = 0;
    SegmentPiece piece;
    for (SegmentWalk walk(a.segments, a.slots, begin, end); walk.next(piece);)
      for (int64_t i = piece.first; i < piece.last; ++i) sum += static_cast<double>(grad[i]) * static_cast<double>(grad[i]);
    sums[chunk] = sum;
  }
  grad_norm_finish(a, sums);
}

template void grad_norm<float>(const GradNormArgs&, const Context&);
template void grad_norm<double>(const GradNormArgs&, const Context&);

}  // namespace theia::cpu
