// Compiled once per instruction set: the including file defines THEIA_ISA. The product is kernels/gemm; here is what surrounds it.
#include "kernels/core/pool.h"
#include "kernels/patch_embed/geometry.h"

namespace theia::THEIA_ISA {

/// Rows of token + position, the same for every image.
static void put_tokens(const PatchEmbedArgs& a, int64_t at, const Tensor& token, const float* position) {
  const int64_t batch = a.y.size[0], stride = a.y.size[1] * a.y.size[2], n = token.numel();
  const float* value = token.ptr<float>();
  for (int64_t b = 0; b < batch; ++b) {
    float* y = a.y.ptr<float>() + b * stride + at * a.y.size[2];
    for (int64_t i = 0; i < n; ++i) y[i] = value[i] + position[i];
  }
}

void patch_embed(const PatchEmbedArgs& a, const Context& context) {
  if (a.cls.present()) put_tokens(a, 0, a.cls, a.positions.ptr<float>());
  if (a.registers.present()) put_tokens(a, a.y.size[1] - a.registers.size[0], a.registers, a.register_positions.ptr<float>());
  gemm(patch_embed_gemm(a), context);
}

static void put(float* to, const float* from, int64_t n, bool add) {
  if (add)
    for (int64_t i = 0; i < n; ++i) to[i] += from[i];
  else
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}

void patch_embed_grad(const PatchEmbedGradArgs& a, const Context& context) {
  const int64_t batch = a.dy.size[0], tokens = a.dy.size[1], width = a.dy.size[2];
  const int64_t patches = a.dpositions.size[0] - 1, first = a.dcls.present() ? 1 : 0, registers = tokens - first - patches;
  const bool add = a.accumulate != 0;

  // Sums over the batch, image by image; they are the positions' gradients, and their sum over positions is the bias'.
  float* sums = reinterpret_cast<float*>(context.workspace);  // [1+N+R,D]
  const float* dy = a.dy.ptr<float>();
  context.pool->run(1 + patches + registers, [&](int64_t position, int) {
    float* sum = sums + position * width;
    for (int64_t d = 0; d < width; ++d) sum[d] = 0;
    if (position == 0 && first == 0) return;
    for (int64_t b = 0; b < batch; ++b) {
      const float* row = dy + (b * tokens + position - 1 + first) * width;
      for (int64_t d = 0; d < width; ++d) sum[d] += row[d];
    }
  });
  put(a.dpositions.ptr<float>(), sums, (1 + patches) * width, add);
  if (a.dregisters.present()) {
    put(a.dregisters.ptr<float>(), sums + (1 + patches) * width, registers * width, add);
    put(a.dregister_positions.ptr<float>(), sums + (1 + patches) * width, registers * width, add);
  }
  if (first) put(a.dcls.ptr<float>(), sums, width, add);
  // Row 0 is done with: it becomes the bias' gradient. Blocks of positions first, so that long sums do not lose what short ones keep.
  constexpr int64_t kBlock = 16;
  for (int64_t d = 0; d < width; ++d) sums[d] = 0;
  for (int64_t i = 1; i <= patches; i += kBlock) {
    for (int64_t j = i + 1; j < i + kBlock && j <= patches; ++j)
      for (int64_t d = 0; d < width; ++d) sums[i * width + d] += sums[j * width + d];
    for (int64_t d = 0; d < width; ++d) sums[d] += sums[i * width + d];
  }
  put(a.dbias.ptr<float>(), sums, width, add);

  const int64_t used = position_sums_bytes(a);
  gemm(patch_embed_grad_gemm(a), Context{context.pool, context.workspace + used, context.workspace_bytes - used});
}

}  // namespace theia::THEIA_ISA
