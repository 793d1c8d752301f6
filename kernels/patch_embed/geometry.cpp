#include "kernels/patch_embed/geometry.h"

namespace theia {

Operand byte_patches(const Tensor& images, const Tensor& table, int64_t patch) {
  const int64_t height = images.size[1], width = images.size[2], channels = images.size[3];
  Operand p{};
  p.source = Source::patches;
  p.data = images.ptr<uint8_t>();
  p.rows = {height / patch, width / patch, height * width * channels, width * channels, channels};
  p.height = height;
  p.width = width;
  p.step_y = p.step_x = patch;
  p.taps = patch;
  p.run = patch * channels;
  for (int64_t t = 0; t < patch; ++t) p.dy[t] = static_cast<int16_t>(t);
  p.table = table.ptr<float>();
  p.channels = channels;
  return p;
}

WeightView patch_weights(const Tensor& w) { return forward_view(w.ptr<float>(), w.size[0], w.size[1] * w.size[2] * w.size[3]); }

RowMap token_rows(const Tensor& y, int64_t patches) { return {1, patches, y.size[1] * y.size[2], 0, y.size[2]}; }

Gemm patch_embed_gemm(const PatchEmbedArgs& a) {
  const int64_t patch = a.w.size[1], width = a.w.size[0], k = patch * patch * a.images.size[3];
  const int64_t patches = a.images.size[1] / patch * (a.images.size[2] / patch), first = a.cls.present() ? 1 : 0;
  Gemm g = make_gemm(a.images.size[0] * patches, width, k, a.y.ptr<float>() + first * width, width);
  g.a = byte_patches(a.images, a.table, patch);
  g.b = a.packed.present() ? packed(a.packed.ptr<float>(), k) : matrix(a.w.ptr<float>(), k, true);
  g.c_rows = token_rows(a.y, patches);
  g.bias = a.bias.ptr<float>();
  g.residual = a.positions.ptr<float>() + width;
  g.residual_rows = {1, patches, 0, 0, width};
  return g;
}

Gemm patch_embed_grad_gemm(const PatchEmbedGradArgs& a) {
  const int64_t patch = a.dw.size[1], width = a.dw.size[0], run = patch * a.images.size[3];
  const int64_t patches = a.images.size[1] / patch * (a.images.size[2] / patch), first = a.dcls.present() ? 1 : 0;
  Gemm g = make_gemm(width, patch * run, a.images.size[0] * patches, a.dw.ptr<float>(), patch * run);
  g.a = matrix(a.dy.ptr<float>() + first * width, width, true);
  g.a.rows = token_rows(a.dy, patches);
  g.b = byte_patches(a.images, a.table, patch);
  g.groups = patch;
  for (int64_t t = 0; t < patch; ++t) g.group_offset[t] = t * run;
  g.accumulate = a.accumulate != 0;
  return g;
}

int64_t position_sums_bytes(const PatchEmbedGradArgs& a) {
  const int64_t rows = a.dpositions.size[0] + (a.dregisters.present() ? a.dregisters.size[0] : 0);
  return (rows * a.dpositions.size[1] * bytes_of(a.dpositions.dtype) + 63) / 64 * 64;
}

}  // namespace theia
