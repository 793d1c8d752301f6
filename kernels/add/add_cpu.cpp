#include "kernels/add/add.h"

namespace theia::cpu {

template <class T>
void add(const AddArgs& args, const Context&) {
  const T* a = args.a.ptr<T>();
  const T* b = args.b.ptr<T>();
  T* y = args.y.ptr<T>();
  for (int64_t i = 0, n = args.a.numel(); i < n; ++i) y[i] = a[i] + b[i];
}

template void add<float>(const AddArgs&, const Context&);
template void add<double>(const AddArgs&, const Context&);

}  // namespace theia::cpu
