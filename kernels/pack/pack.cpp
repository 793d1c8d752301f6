// Everything about packing but the loops, which are the matrix product's own (kernels/gemm/).
#include "kernels/pack/pack.h"

#include "kernels/core/checks.h"
#include "kernels/gemm/gemm.h"

namespace theia {

namespace {

int64_t taps_of(const Tensor& w) { return w.rank == 4 ? w.size[1] * w.size[2] : 1; }

WeightView view(const PackArgs& a, const void* w) {
  const int64_t n = a.w.size[0], taps = taps_of(a.w), c = a.w.size[a.w.rank - 1];
  return static_cast<PackUse>(a.use) == PackUse::forward ? forward_view(w, n, taps * c) : backward_view(w, n, taps, c);
}

}  // namespace

int64_t packed_elements(int64_t n, int64_t taps, int64_t c, PackUse use) {
  const int64_t columns = use == PackUse::forward ? n : c, rows = use == PackUse::forward ? c : n;
  return (columns + kPanel - 1) / kPanel * kPanel * taps * rows;
}

void check(const PackArgs& a) {
  if (a.w.rank == 3) fail("ERR_SHAPE", "pack: expected 'w' of rank 2 or 4, got %s", describe(a.w).c_str());
  expect_contiguous("pack", "w", a.w);
  expect_contiguous("pack", "packed", a.packed);
  expect_dtype("pack", "packed", a.packed, a.w.dtype);
  if (taps_of(a.w) > kMaxTaps)
    fail("ERR_SHAPE", "pack: expected kernels of at most %d positions, got 'w' %s", kMaxTaps, describe(a.w).c_str());
  expect_shape("pack", "packed", a.packed,
               {packed_elements(a.w.size[0], taps_of(a.w), a.w.size[a.w.rank - 1], static_cast<PackUse>(a.use))});
}
int64_t workspace(const PackArgs&, int) { return 0; }
double flops(const PackArgs&) { return 0; }
double bytes(const PackArgs& a) { return static_cast<double>(a.w.numel() + a.packed.numel()) * bytes_of(a.w.dtype); }

namespace cpu {
template <class T>
void pack(const PackArgs& a, const Context& context) {
  pack(view(a, a.w.ptr<T>()), a.packed.ptr<T>(), context);
}
template void pack<float>(const PackArgs&, const Context&);
template void pack<double>(const PackArgs&, const Context&);
}  // namespace cpu

#if defined(__x86_64__)
namespace avx2 {
void pack(const PackArgs& a, const Context& context) { pack(view(a, a.w.ptr<float>()), a.packed.ptr<float>(), context); }
}  // namespace avx2
namespace avx512 {
void pack(const PackArgs& a, const Context& context) { pack(view(a, a.w.ptr<float>()), a.packed.ptr<float>(), context); }
}  // namespace avx512
#endif

}  // namespace theia
