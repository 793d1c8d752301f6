#include "kernels/patch_embed/patch_embed.h"

#include "kernels/core/checks.h"
#include "kernels/patch_embed/geometry.h"

namespace theia {

namespace {

/// What forward and backward share: images [B,H,W,C], table, weights [D,P,P,C], positions, tokens [B,T,D].
void check_shapes(const char* op, const Tensor& images, const Tensor& table, const char* w_name, const Tensor& w, const char* bias_name, const Tensor& bias,
                  const char* positions_name, const Tensor& positions, const char* cls_name, const Tensor& cls, const char* y_name, const Tensor& y) {
  const int64_t patch = w.size[1], channels = images.size[3], width = w.size[0];
  const DType dtype = w.dtype;
  for (auto [name, t] : {std::pair{"table", &table}, {bias_name, &bias}, {positions_name, &positions}, {cls_name, &cls}, {y_name, &y}}) expect_dtype(op, name, *t, dtype);
  for (auto [name, t] : {std::pair{"images", &images}, {"table", &table}, {w_name, &w}, {bias_name, &bias}, {positions_name, &positions}, {cls_name, &cls}, {y_name, &y}})
    expect_contiguous(op, name, *t);
  if (patch < 1 || channels < 1 || width < 1) fail("ERR_SHAPE", "%s: expected '%s' as [D,P,P,C] without empty axes, got %s", op, w_name, describe(w).c_str());
  // A tap of the implicit patch matrix is one row of a patch, and there are at most 49 taps (kernels/gemm).
  if (patch > 49) fail("ERR_UNSUPPORTED", "%s: expected a patch of at most 49 pixels, got %lld", op, static_cast<long long>(patch));
  expect_shape(op, w_name, w, {width, patch, patch, channels});
  expect_shape(op, "table", table, {channels * 256});
  if (images.size[1] % patch || images.size[2] % patch || images.size[1] == 0 || images.size[2] == 0)
    fail("ERR_SHAPE", "%s: expected images whose sides are multiples of the patch, %lld, got %s", op, static_cast<long long>(patch), describe(images).c_str());
  const int64_t tokens = images.size[1] / patch * (images.size[2] / patch);
  expect_shape(op, bias_name, bias, {width});
  expect_shape(op, positions_name, positions, {1 + tokens, width});
  expect_shape(op, cls_name, cls, {width});
  expect_shape(op, y_name, y, {images.size[0], tokens + (cls.present() ? 1 : 0), width});
}

double multiply_adds(const Tensor& images, const Tensor& w) {
  return static_cast<double>(images.size[0]) * static_cast<double>(images.size[1] * images.size[2] * images.size[3]) * static_cast<double>(w.size[0]);
}

}  // namespace

void check(const PatchEmbedArgs& a) {
  check_shapes("patch_embed", a.images, a.table, "w", a.w, "bias", a.bias, "positions", a.positions, "cls", a.cls, "y", a.y);
  if (a.packed.present()) {
    expect_dtype("patch_embed", "packed", a.packed, DType::f32);
    expect_contiguous("patch_embed", "packed", a.packed);
    expect_shape("patch_embed", "packed", a.packed, {packed_elements(patch_weights(a.w))});
  }
}

int64_t workspace(const PatchEmbedArgs& a, int threads) { return a.w.dtype == DType::f32 ? gemm_workspace(patch_embed_gemm(a), threads) : 0; }
double flops(const PatchEmbedArgs& a) { return 2 * multiply_adds(a.images, a.w); }
double bytes(const PatchEmbedArgs& a) {
  return static_cast<double>(a.images.numel()) + static_cast<double>(bytes_of(a.w.dtype)) * static_cast<double>(a.w.numel() + a.y.numel());
}

void check(const PatchEmbedGradArgs& a) {
  check_shapes("patch_embed_grad", a.images, a.table, "dw", a.dw, "dbias", a.dbias, "dpositions", a.dpositions, "dcls", a.dcls, "dy", a.dy);
}

int64_t workspace(const PatchEmbedGradArgs& a, int threads) {
  return position_sums_bytes(a) + (a.dw.dtype == DType::f32 ? gemm_workspace(patch_embed_grad_gemm(a), threads) : 0);
}
double flops(const PatchEmbedGradArgs& a) { return 2 * multiply_adds(a.images, a.dw); }
double bytes(const PatchEmbedGradArgs& a) {
  return static_cast<double>(a.images.numel()) + static_cast<double>(bytes_of(a.dw.dtype)) * static_cast<double>(a.dw.numel() + a.dy.numel());
}

}  // namespace theia
