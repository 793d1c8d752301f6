#include "kernels/add/add.h"

#include "kernels/core/checks.h"

namespace theia {

void check(const AddArgs& a) {
  for (auto [field, t] : {std::pair{"b", &a.b}, std::pair{"y", &a.y}}) {
    if ((t->dtype == DType::f64) != (a.a.dtype == DType::f64)) expect_dtype("add", field, *t, a.a.dtype);
    bool same = t->rank == a.a.rank;
    for (int i = 0; same && i < t->rank; ++i) same = t->size[i] == a.a.size[i];
    if (!same) fail("ERR_SHAPE", "add: expected '%s' of the shape of 'a', %s, got %s", field, describe(a.a).c_str(), describe(*t).c_str());
    expect_contiguous("add", field, *t);
  }
  expect_contiguous("add", "a", a.a);
}

int64_t workspace(const AddArgs&, int) { return 0; }
double flops(const AddArgs& a) { return static_cast<double>(a.a.numel()); }
double bytes(const AddArgs& a) {
  return static_cast<double>(a.a.numel()) * (bytes_of(a.a.dtype) + bytes_of(a.b.dtype) + bytes_of(a.y.dtype));
}

}  // namespace theia
