#include "kernels/patch_embed/patch_embed.h"

#include "kernels/core/checks.h"
#include "kernels/patch_embed/geometry.h"

namespace theia {

namespace {

/// A tensor of the op with the name its field has.
struct Named {
  const char* name;
  const Tensor* t;
};

/// What forward and backward share: images [B,H,W,C], table, weights [D,P,P,C], and one tensor for each parameter, values or gradients.
struct Parts {
  Named images, table, w, bias, positions, cls, registers, register_positions, tokens;
};

/// `type` is what the product runs on.
void check_parts(const char* op, const Parts& p, DType type) {
  const DType sums = type == DType::bf16 ? DType::f32 : type;
  const Tensor &images = *p.images.t, &w = *p.w.t;
  const int64_t patch = w.size[1], channels = images.size[3], width = w.size[0];
  for (const Named& n : {p.images, p.table, p.w, p.bias, p.positions, p.cls, p.registers, p.register_positions, p.tokens}) {
    expect_contiguous(op, n.name, *n.t);
    if (n.t != p.images.t && n.t != p.w.t && n.t != p.tokens.t) expect_dtype(op, n.name, *n.t, sums);
  }
  if (p.tokens.t->dtype != sums) expect_dtype(op, p.tokens.name, *p.tokens.t, type);
  if (patch < 1 || channels < 1 || width < 1)
    fail("ERR_SHAPE", "%s: expected '%s' as [D,P,P,C] without empty axes, got %s", op, p.w.name, describe(w).c_str());
  // A tap of the implicit patch matrix is one row of a patch, and there are at most 49 taps (kernels/gemm).
  if (patch > 49) fail("ERR_UNSUPPORTED", "%s: expected a patch of at most 49 pixels, got %lld", op, static_cast<long long>(patch));
  expect_shape(op, p.w.name, w, {width, patch, patch, channels});
  expect_shape(op, p.table.name, *p.table.t, {channels * 256});
  if (images.size[1] % patch || images.size[2] % patch || images.size[1] == 0 || images.size[2] == 0)
    fail("ERR_SHAPE", "%s: expected images whose sides are multiples of the patch, %lld, got %s", op, static_cast<long long>(patch),
         describe(images).c_str());
  const int64_t patches = images.size[1] / patch * (images.size[2] / patch);
  expect_shape(op, p.bias.name, *p.bias.t, {width});
  expect_shape(op, p.positions.name, *p.positions.t, {1 + patches, width});
  expect_shape(op, p.cls.name, *p.cls.t, {width});
  if (p.registers.t->present() != p.register_positions.t->present())
    fail("ERR_ARGS", "%s: expected '%s' and '%s' together or not at all", op, p.registers.name, p.register_positions.name);
  const int64_t registers = p.registers.t->present() ? p.registers.t->size[0] : 0;
  expect_shape(op, p.registers.name, *p.registers.t, {registers, width});
  expect_shape(op, p.register_positions.name, *p.register_positions.t, {registers, width});
  expect_shape(op, p.tokens.name, *p.tokens.t, {images.size[0], patches + registers + (p.cls.t->present() ? 1 : 0), width});
}

double bytes_in(const Tensor& t) { return static_cast<double>(t.numel()) * bytes_of(t.dtype); }

double multiply_adds(const Tensor& images, const Tensor& w) {
  return static_cast<double>(images.size[0]) * static_cast<double>(images.size[1] * images.size[2] * images.size[3]) *
         static_cast<double>(w.size[0]);
}

}  // namespace

void check(const PatchEmbedArgs& a) {
  check_parts("patch_embed",
              {{"images", &a.images},
               {"table", &a.table},
               {"w", &a.w},
               {"bias", &a.bias},
               {"positions", &a.positions},
               {"cls", &a.cls},
               {"registers", &a.registers},
               {"register_positions", &a.register_positions},
               {"y", &a.y}},
              a.w.dtype);
  if (a.packed.present()) {
    expect_dtype("patch_embed", "packed", a.packed, a.w.dtype);
    expect_contiguous("patch_embed", "packed", a.packed);
    expect_shape("patch_embed", "packed", a.packed, {packed_elements(patch_weights(a.w))});
  }
}

int64_t workspace(const PatchEmbedArgs& a, int threads) {
  return a.w.dtype == DType::f32 ? gemm_workspace(patch_embed_gemm(a), threads) : 0;
}
double flops(const PatchEmbedArgs& a) { return 2 * multiply_adds(a.images, a.w); }
double bytes(const PatchEmbedArgs& a) { return static_cast<double>(a.images.numel()) + bytes_in(a.w) + bytes_in(a.y); }

void check(const PatchEmbedGradArgs& a) {
  const DType type = a.w.present() ? a.w.dtype : a.dy.dtype;
  check_parts("patch_embed_grad",
              {{"images", &a.images},
               {"table", &a.table},
               {"dw", &a.dw},
               {"dbias", &a.dbias},
               {"dpositions", &a.dpositions},
               {"dcls", &a.dcls},
               {"dregisters", &a.dregisters},
               {"dregister_positions", &a.dregister_positions},
               {"dy", &a.dy}},
              type);
  expect_dtype("patch_embed_grad", "dw", a.dw, type == DType::bf16 ? DType::f32 : type);
  if (a.w.present()) expect_shape("patch_embed_grad", "w", a.w, {a.dw.size[0], a.dw.size[1], a.dw.size[2], a.dw.size[3]});
}

int64_t workspace(const PatchEmbedGradArgs& a, int threads) {
  return position_sums_bytes(a) + (a.dw.dtype == DType::f32 ? gemm_workspace(patch_embed_grad_gemm(a), threads) : 0);
}
double flops(const PatchEmbedGradArgs& a) { return 2 * multiply_adds(a.images, a.dw); }
double bytes(const PatchEmbedGradArgs& a) { return static_cast<double>(a.images.numel()) + bytes_in(a.dw) + bytes_in(a.dy); }

}  // namespace theia
