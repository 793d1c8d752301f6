#include "kernels/reduce/reduce.h"

namespace theia::cpu {

template <class T>
void reduce(const ReduceArgs& a, const Context&) {
  const int64_t batch = a.x.size[0], rows = a.x.size[1], width = a.x.size[2];
  const Reduction kind = static_cast<Reduction>(a.kind);
  for (int64_t b = 0; b < batch; ++b) {
    const T* x = a.x.ptr<T>() + b * a.x.stride[0];
    T* y = a.y.ptr<T>() + b * a.y.stride[0];
    for (int64_t d = 0; d < width; ++d) y[d] = x[d];
    for (int64_t n = 1; n < rows; ++n) {
      const T* row = x + n * a.x.stride[1];
      if (kind == Reduction::max)
        for (int64_t d = 0; d < width; ++d) y[d] = row[d] > y[d] || row[d] != row[d] ? row[d] : y[d];  // NaN wins and stays
      else
        for (int64_t d = 0; d < width; ++d) y[d] += row[d];
    }
    for (int64_t d = 0; kind == Reduction::mean && d < width; ++d) y[d] /= static_cast<T>(rows);
  }
}

template <class T>
void reduce_grad(const ReduceGradArgs& a, const Context&) {
  const int64_t batch = a.dx.size[0], rows = a.dx.size[1], width = a.dx.size[2];
  const Reduction kind = static_cast<Reduction>(a.kind);
  for (int64_t b = 0; b < batch; ++b) {
    const T* dy = a.dy.ptr<T>() + b * a.dy.stride[0];
    T* dx = a.dx.ptr<T>() + b * a.dx.stride[0];
    if (kind != Reduction::max) {
      const T scale = kind == Reduction::mean ? static_cast<T>(rows) : T{1};
      for (int64_t n = 0; n < rows; ++n)
        for (int64_t d = 0; d < width; ++d) dx[n * a.dx.stride[1] + d] = dy[d] / scale;
      continue;
    }
    const T* x = a.x.ptr<T>() + b * a.x.stride[0];
    const T* y = a.y.ptr<T>() + b * a.y.stride[0];
    for (int64_t d = 0; d < width; ++d) {
      bool found = false;
      for (int64_t n = 0; n < rows; ++n) {
        const T v = x[n * a.x.stride[1] + d];
        const bool here = !found && (v == y[d] || (v != v && y[d] != y[d]));
        dx[n * a.dx.stride[1] + d] = here ? dy[d] : T{0};
        found |= here;
      }
    }
  }
}

template void reduce<float>(const ReduceArgs&, const Context&);
template void reduce<double>(const ReduceArgs&, const Context&);
template void reduce_grad<float>(const ReduceGradArgs&, const Context&);
template void reduce_grad<double>(const ReduceGradArgs&, const Context&);

}  // namespace theia::cpu
