#include "kernels/copy/copy.h"

#include "kernels/core/checks.h"

namespace theia {

namespace {

bool converts(DType src, DType dst) {
  if (src == dst) return true;
  if (src == DType::i32 || src == DType::i64) return false;
  const bool to_half = dst == DType::bf16 || dst == DType::f16;
  return dst == DType::f32 || dst == DType::f64 || (to_half && (src == DType::f32 || src == DType::bf16 || src == DType::f16));
}

/// Elements of src that are read: a repeated dimension counts once.
double distinct(const Tensor& t) {
  double n = 1;
  for (int i = 0; i < t.rank; ++i) n *= t.stride[i] == 0 && t.size[i] > 0 ? 1.0 : static_cast<double>(t.size[i]);
  return n;
}

}  // namespace

void check(const CopyArgs& a) {
  constexpr const char* op = "copy";
  bool same = a.src.rank == a.dst.rank;
  for (int i = 0; same && i < a.src.rank; ++i) same = a.src.size[i] == a.dst.size[i];
  if (!same)
    fail("ERR_SHAPE", "%s: expected 'dst' of the shape of 'src', %s, got %s", op, describe(a.src).c_str(), describe(a.dst).c_str());
  if (!converts(a.src.dtype, a.dst.dtype))
    fail("ERR_DTYPE", "%s: expected 'dst' as %s or a type that it converts to, got %s", op, name(a.src.dtype), name(a.dst.dtype));
  if (a.accumulate && (!(set_of(a.dst.dtype) & kReal) || a.src.dtype == DType::i32 || a.src.dtype == DType::i64))
    fail("ERR_DTYPE", "%s: expected 'dst' to add to as float32 or float64, got %s", op, name(a.dst.dtype));
}

int64_t workspace(const CopyArgs&, int) { return 0; }
double flops(const CopyArgs& a) { return a.accumulate ? static_cast<double>(a.dst.numel()) : 0; }
double bytes(const CopyArgs& a) {
  if (a.dst.numel() == 0) return 0;
  return distinct(a.src) * bytes_of(a.src.dtype) + (a.accumulate ? 2.0 : 1.0) * static_cast<double>(a.dst.numel()) * bytes_of(a.dst.dtype);
}

}  // namespace theia
