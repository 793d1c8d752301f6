// Patch embedding on a device: one product that reads the patches as bytes, and a small kernel for the tokens that are no patches.
#include "kernels/patch_embed/patch_embed.h"

#include <algorithm>

#include "kernels/gemm/device/epilogue.cuh"
#include "kernels/patch_embed/patches.h"

namespace theia::THEIA_DEVICE {

namespace {

constexpr int kThreads = 256;

/// CLS in front of every image's tokens and registers behind them: each a parameter plus its position.
struct Tokens {
  const float *cls, *positions, *registers, *register_positions;
  DevicePlane y;
  int64_t first, registers_count, tokens, width, all;  // all: elements to write
};
__global__ void __launch_bounds__(kThreads) put_tokens(const __grid_constant__ Tokens t) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= t.all) return;
  const int64_t row = i / t.width, column = i - row * t.width, each = t.first + t.registers_count;
  const int64_t image = row / each, which = row - image * each;
  const bool is_cls = which < t.first;
  const int64_t of = (which - t.first) * t.width + column;
  const float v[4] = {is_cls ? t.cls[column] + t.positions[column] : t.registers[of] + t.register_positions[of], 0, 0, 0};
  const int64_t token = is_cls ? 0 : t.tokens - each + which;
  save4(t.y, (image * t.tokens + token) * t.width + column, 1, false, v);
}

DeviceGemm product(const PatchEmbedArgs& a) {
  const int64_t patch = a.w.size[1], width = a.w.size[0], k = patch * patch * a.images.size[3];
  const int64_t patches = patches_of(a.images, patch), first = a.cls.present() ? 1 : 0;
  std::byte* const y = a.y.base + (a.y.offset + first * width) * bytes_of(a.y.dtype);
  DeviceGemm g = make_device_gemm(a.images.size[0] * patches, width, k, a.w.dtype == DType::bf16, y, a.y.dtype, width);
  g.c.rows = {1, patches, a.y.size[1] * width, 0, width};
  g.a = byte_patches(a.images, a.table, patch, true);
  g.b = device_matrix(a.w.base + a.w.offset * bytes_of(a.w.dtype), a.w.dtype, k, true);
  g.bias = a.bias.ptr<float>();
  g.residual = {a.positions.ptr<float>() + width, DType::f32, {1, patches, 0, 0, width}};
  return g;
}

}  // namespace

int64_t patches_of(const Tensor& images, int64_t patch) { return images.size[1] / patch * (images.size[2] / patch); }

DeviceOperand byte_patches(const Tensor& images, const Tensor& table, int64_t patch, bool along_k) {
  const int64_t height = images.size[1], width = images.size[2], channels = images.size[3], row = width * channels;
  DeviceOperand o{};
  o.data = images.ptr<uint8_t>();
  o.dtype = DType::u8;
  o.along_k = along_k;
  o.lines = {height / patch, width / patch, height * row, patch * row, patch * channels};
  o.taps = patch;
  o.run = patch * channels;
  for (int64_t t = 0; t < patch; ++t) o.tap_offset[t] = t * row;
  o.table = table.ptr<float>();
  o.channels = channels;
  return o;
}

void patch_embed(const PatchEmbedArgs& a, const DeviceContext& context) {
  gemm("patch_embed", product(a), context);
  const int64_t registers = a.registers.present() ? a.registers.size[0] : 0, first = a.cls.present() ? 1 : 0;
  const int64_t batch = a.y.size[0], width = a.y.size[2];
  Tokens t{};
  if (first) t.cls = a.cls.ptr<float>();
  t.positions = a.positions.ptr<float>();
  if (registers) t.registers = a.registers.ptr<float>(), t.register_positions = a.register_positions.ptr<float>();
  t.y = {a.y.base + a.y.offset * bytes_of(a.y.dtype), a.y.dtype, device_rows(width)};
  t.first = first, t.registers_count = registers, t.tokens = a.y.size[1], t.width = width;
  t.all = batch * (first + registers) * width;
  launch("patch_embed", put_tokens, dim3(static_cast<unsigned>(ceil_div(t.all, kThreads))), dim3(kThreads), 0, context, t);
}

int64_t patch_embed_workspace(const PatchEmbedArgs& a, const DeviceInfo& info) { return gemm_workspace(product(a), info); }

}  // namespace theia::THEIA_DEVICE
