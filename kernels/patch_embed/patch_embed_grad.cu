// Backward of patch embedding on a device. One pass over dy sums it over the batch (the gradients of positions, CLS and registers, and,
// summed again over the patches, of the bias) and, where dy is wider than what the product reads, leaves a bf16 copy of the patches' rows.
// Then dw = dyᵀ · patches, the patches read as bytes.
#include "kernels/gemm/device/epilogue.cuh"
#include "kernels/gemm/device/pregrad.h"
#include "kernels/patch_embed/patches.h"

namespace theia::THEIA_DEVICE {

namespace {

constexpr int kThreads = 256;

struct BatchSums {
  DevicePlane dy;                                           // packed [B,T,D]
  DevicePlane copy;                                         // packed [B·N,D] of patches, or data null
  float* sums;                                              // [N,D]: of patches
  float *positions, *cls, *registers, *register_positions;  // outputs; null where there are none
  int64_t batch, tokens, patches, width, first;
  bool accumulate, vector;
};

__device__ __forceinline__ void put4(float* to, int64_t at, int count, bool vector, bool add, const float (&v)[4]) {
  const DevicePlane p{to, DType::f32, {}};
  float sum[4] = {0, 0, 0, 0};
  if (add) load4(p, at, count, vector, sum);
#pragma unroll
  for (int i = 0; i < 4; ++i) sum[i] += v[i];
  save4(p, at, count, vector, sum);
}

/// A thread: four columns of one position, the batch in order. Position 0 is CLS's and exists without it.
__global__ void __launch_bounds__(kThreads) batch_sums(const __grid_constant__ BatchSums s) {
  const int64_t quads = (s.width + 3) / 4, i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t position = i / quads, column = (i - position * quads) * 4;
  if (position > s.tokens - s.first) return;
  const int count = s.width - column < 4 ? static_cast<int>(s.width - column) : 4;
  const bool vector = s.vector && count == 4;
  const bool is_patch = position > 0 && position <= s.patches;
  float sum[4] = {0, 0, 0, 0};
  if (position > 0 || s.first > 0) {
    const bool copies = is_patch && s.copy.data;
    int64_t from = (position - 1 + s.first) * s.width + column, to = (position - 1) * s.width + column;
#pragma unroll 2
    for (int64_t b = 0; b < s.batch; ++b, from += s.tokens * s.width, to += s.patches * s.width) {
      float v[4];
      load4(s.dy, from, count, vector, v);
      if (copies) save4(s.copy, to, count, vector, v);
#pragma unroll
      for (int e = 0; e < 4; ++e) sum[e] += v[e];
    }
  }
  if (position <= s.patches) {
    put4(s.positions, position * s.width + column, count, vector, s.accumulate, sum);
    if (is_patch) save4({s.sums, DType::f32, {}}, (position - 1) * s.width + column, count, vector, sum);
    if (position == 0 && s.cls) put4(s.cls, column, count, vector, s.accumulate, sum);
  } else {
    const int64_t at = (position - 1 - s.patches) * s.width + column;
    put4(s.registers, at, count, vector, s.accumulate, sum);
    put4(s.register_positions, at, count, vector, s.accumulate, sum);
  }
}

struct Plan {
  BatchSums sums;
  DeviceGemm dw;
  int64_t taken;  // bytes in front of the product's workspace
};

float* values(const Tensor& t) { return t.present() ? t.ptr<float>() : nullptr; }

Plan plan_of(const PatchEmbedGradArgs& a, std::byte* workspace) {
  const int64_t patch = a.dw.size[1], width = a.dw.size[0], k = patch * patch * a.images.size[3];
  const int64_t patches = patches_of(a.images, patch), batch = a.images.size[0], first = a.dcls.present() ? 1 : 0;
  const DType type = a.w.present() ? a.w.dtype : a.dy.dtype;
  std::byte* const dy = a.dy.base + a.dy.offset * bytes_of(a.dy.dtype);
  Plan p{};
  p.taken = round_up(patches * width * static_cast<int64_t>(sizeof(float)), 256);

  const bool copy = a.dy.dtype != type;
  DeviceOperand gradient = device_matrix(dy + first * width * bytes_of(a.dy.dtype), type, width, false);
  gradient.lines = {1, patches, a.dy.size[1] * width, 0, width};
  if (copy) {
    gradient = device_matrix(workspace + p.taken, type, width, false);
    p.taken += round_up(batch * patches * width * bytes_of(type), 256);
  }
  p.dw = make_device_gemm(width, k, batch * patches, type == DType::bf16, a.dw.ptr<float>(), DType::f32, k);
  p.dw.a = gradient;
  p.dw.b = byte_patches(a.images, a.table, patch, false);
  p.dw.accumulate = a.accumulate != 0;

  BatchSums& s = p.sums;
  s.dy = {dy, a.dy.dtype, device_rows(width)};
  if (copy) s.copy = {const_cast<void*>(gradient.data), type, device_rows(width)};
  s.sums = reinterpret_cast<float*>(workspace);
  s.positions = values(a.dpositions), s.cls = values(a.dcls);
  s.registers = values(a.dregisters), s.register_positions = values(a.dregister_positions);
  s.batch = batch, s.tokens = a.dy.size[1], s.patches = patches, s.width = width, s.first = first;
  s.accumulate = a.accumulate != 0;
  s.vector = takes_vectors(s.dy) && takes_vectors(s.copy);
  for (float* const t : {s.sums, s.positions, s.cls, s.registers, s.register_positions})
    s.vector = s.vector && takes_vectors({t, DType::f32, device_rows(width)});
  return p;
}

}  // namespace

void patch_embed_grad(const PatchEmbedGradArgs& a, const DeviceContext& context) {
  const Plan p = plan_of(a, context.workspace);
  const BatchSums& s = p.sums;
  const int64_t threads = (s.tokens - s.first + 1) * ceil_div(s.width, 4);
  launch("patch_embed_grad", batch_sums, dim3(static_cast<unsigned>(ceil_div(threads, kThreads))), dim3(kThreads), 0, context, s);
  add_up_rows("patch_embed_grad", s.sums, s.patches, s.width, s.width, a.dbias.ptr<float>(), s.accumulate, context);
  DeviceContext rest = context;
  rest.workspace += p.taken, rest.workspace_bytes -= p.taken;
  gemm("patch_embed_grad", p.dw, rest);
}

int64_t patch_embed_grad_workspace(const PatchEmbedGradArgs& a, const DeviceInfo& info) {
  const Plan p = plan_of(a, nullptr);
  return p.taken + gemm_workspace(p.dw, info);
}

}  // namespace theia::THEIA_DEVICE
