// From the description of a product to its kernels: how the operands can be brought in, which tile, how many parts of k.
#include "kernels/gemm/device/gemm.h"

#include <algorithm>

#include "kernels/gemm/device/blocks.cuh"
#include "kernels/gemm/device/boxes.h"
#include "kernels/gemm/device/choose.h"
#include "kernels/gemm/device/load_bytes.cuh"
#include "kernels/gemm/device/variants.h"

namespace theia::THEIA_DEVICE {

namespace {

/// Every number that a line's place depends on is a multiple of `elements`, and the data lies at a multiple of `bytes`.
bool lies_at(const void* data, const RowMap& r, int64_t elements, int64_t bytes) {
  const auto odd = [&](int64_t stride) { return stride % elements != 0; };
  return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(bytes) == 0 && !odd(r.b) && !(r.gh > 1 && odd(r.y)) &&
         !(r.gw > 1 && odd(r.x));
}

/// Pieces of so many elements, of `bytes` each, can be read: none straddles two taps and all lie at multiples of their size.
bool reads(const DeviceOperand& o, int64_t elements, int64_t bytes) {
  if (!lies_at(o.data, o.lines, elements, elements * bytes)) return false;
  if (o.taps > 1 && o.run % elements != 0) return false;
  for (int64_t t = 0; t < o.taps; ++t)
    if (o.tap_offset[t] % elements != 0) return false;
  return true;
}

bool is_plain(const DeviceOperand& o) { return o.taps == 1 && !o.bounded && o.lines.gh * o.lines.gw == 1; }

struct Plan {
  Family family;
  Order order;
  DeviceOperand a, b;
  int a_width, b_width;
  bool boxed;  // the copy engine could bring both in
};

/// For load_any.cuh: elements of a piece.
int widest(const DeviceOperand& o, DType type) {
  const int bytes = bytes_of(type);
  if (o.dtype != type) return 0;
  for (int piece = 16; piece >= 4; piece /= 2)
    if (reads(o, piece / bytes, bytes)) return piece / bytes;
  return 0;
}

void complete(DeviceOperand& o, int64_t columns) {
  if (o.taps == 0) o.taps = 1;
  if (o.run == 0) o.run = columns > 0 ? columns : 1;
}

Plan plan_of(const DeviceGemm& g) {
  Plan p{};
  p.a = g.a, p.b = g.b;
  complete(p.a, g.a.along_k ? g.k : g.m);
  complete(p.b, g.b.along_k ? g.k : g.n);
  if (!g.a.along_k && g.b.along_k) fail("ERR_UNSUPPORTED", "gemm: A across k with B along k is not among the kernels");
  p.order = !g.a.along_k ? Order::tn : g.b.along_k ? Order::nt : Order::nn;

  const auto copied = [](const DeviceOperand& o) { return o.dtype == DType::bf16 && reads(o, 8, 2); };
  const auto looked_up = [](const DeviceOperand& o) {
    return o.dtype == DType::u8 && !o.bounded && o.channels <= kMostByteChannels && o.run % o.channels == 0;
  };
  p.family = Family::any;
  if (g.tensor_cores && copied(p.a) && copied(p.b)) {
    p.family = is_plain(p.a) && is_plain(p.b) ? Family::plain : Family::mapped;
    const TileInfo& t = tile_info(kWgmmaTiles);
    BoxedOperands boxes;
    p.boxed = boxed(p.a, p.b, g.m, g.n, g.k, t.m, t.n, boxes);
  } else if (g.tensor_cores && p.order == Order::nt && looked_up(p.a) && copied(p.b)) {
    p.family = Family::bytes;
    p.a_width = reads(p.a, 8, 1);
  } else if (g.tensor_cores && p.order == Order::tn && copied(p.a) && looked_up(p.b)) {
    p.family = Family::bytes;
    p.b_width = reads(p.b, 8, 1);
  } else {
    const DType type = g.tensor_cores ? DType::bf16 : DType::f32;
    p.a_width = widest(p.a, type), p.b_width = widest(p.b, type);
  }
  return p;
}

TileChoice choose(const DeviceGemm& g, const Plan& p, const DeviceInfo& info, int64_t most_partial_bytes) {
  const TileChoice choice = choose_tile(g.m, g.n, g.k, g.tensor_cores, p.family, p.order, info, most_partial_bytes, p.boxed);
  if (choice.tile < 0)
    fail("ERR_UNSUPPORTED", "gemm: no tile fits this device's %lld bytes of shared memory a block",
         static_cast<long long>(info.shared_per_block));
  return choice;
}

constexpr int kSumThreads = 256;

/// Adds up the parts of k in their order and finishes C.
__global__ void __launch_bounds__(kSumThreads) sum_splits(const __grid_constant__ Epilogue e, const float* partial, int splits) {
  const int64_t quads = (e.n + 3) / 4, all = e.m * quads, size = e.m * e.n;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x;
  if (i >= all) return;
  const int64_t row = i / quads, column = (i - row * quads) * 4;
  const int count = e.n - column < 4 ? static_cast<int>(e.n - column) : 4;
  const float* from = partial + row * e.n + column;
  float v[4] = {0, 0, 0, 0};
  if (e.n % 4 == 0) {
    constexpr int kTogether = 4;  // parts under way at once: where C is small nothing else hides what a load takes
    for (int split = 0; split < splits; split += kTogether, from += kTogether * size) {
      float4 part[kTogether];
#pragma unroll
      for (int p = 0; p < kTogether; ++p)
        if (split + p < splits) part[p] = *reinterpret_cast<const float4*>(from + p * size);
#pragma unroll
      for (int p = 0; p < kTogether; ++p)
        if (split + p < splits) v[0] += part[p].x, v[1] += part[p].y, v[2] += part[p].z, v[3] += part[p].w;
    }
  } else {
    for (int split = 0; split < splits; ++split, from += size) {
#pragma unroll
      for (int j = 0; j < 4; ++j) v[j] += j < count ? from[j] : 0.0f;
    }
  }
  finish4(e, row, column, 0, v);
}

using StartFunction = void (*)(int, const Start&);
// [family][order]
constexpr StartFunction kStarts[4][3] = {{start_plain_nt, start_plain_nn, start_plain_tn},
                                         {start_mapped_nt, start_mapped_nn, start_mapped_tn},
                                         {start_bytes_nt, nullptr, start_bytes_tn},
                                         {start_any_nt, start_any_nn, start_any_tn}};
constexpr StartFunction kExactStarts[3] = {start_exact_nt, start_exact_nn, start_exact_tn};

}  // namespace

bool takes_vectors(const DevicePlane& p) { return !p.data || lies_at(p.data, p.rows, 4, 4 * bytes_of(p.dtype)); }

RowMap device_rows(int64_t stride) { return {1, 1, stride, 0, 0}; }

DeviceOperand device_matrix(const void* data, DType dtype, int64_t stride, bool along_k) {
  DeviceOperand o{};
  o.data = data;
  o.dtype = dtype;
  o.along_k = along_k;
  o.lines = device_rows(stride);
  o.taps = 1;
  return o;
}

DeviceGemm make_device_gemm(int64_t m, int64_t n, int64_t k, bool tensor_cores, void* c, DType c_type, int64_t row_stride) {
  DeviceGemm g{};
  g.m = m, g.n = n, g.k = k;
  g.tensor_cores = tensor_cores;
  g.c = {c, c_type, device_rows(row_stride)};
  return g;
}

int64_t gemm_workspace(const DeviceGemm& g, const DeviceInfo& info) {
  if (g.m == 0 || g.n == 0) return 0;
  const TileChoice choice = choose(g, plan_of(g), info, kMostPartialBytes);
  return choice.splits > 1 ? choice.splits * g.m * g.n * static_cast<int64_t>(sizeof(float)) : 0;
}

void gemm(const char* name, const DeviceGemm& g, const DeviceContext& context) {
  if (g.m == 0 || g.n == 0) return;
  const Plan p = plan_of(g);
  // Alignment, and with it the choice, may differ between the asking for workspace and now: then it is made again within what there is.
  TileChoice choice = choose(g, p, *context.info, kMostPartialBytes);
  if (choice.splits > 1 && choice.splits * g.m * g.n * 4 > context.workspace_bytes)
    choice = choose(g, p, *context.info, context.workspace_bytes);

  Epilogue e{};
  e.m = g.m, e.n = g.n;
  e.c = g.c, e.slope = g.slope, e.multiplier = g.multiplier, e.residual = g.residual;
  e.bias = g.bias;
  e.activation = g.activation;
  e.multiply = g.multiply;
  e.residual_first = g.residual_first, e.accumulate = g.accumulate;
  e.vector = takes_vectors(g.c) && takes_vectors(g.slope) && takes_vectors(g.multiplier) && takes_vectors(g.residual) &&
             takes_vectors({const_cast<float*>(g.bias), DType::f32, {}});

  Start s{name,
          p.a,
          p.b,
          p.a_width,
          p.b_width,
          e,
          {g.k, choice.k_part, static_cast<int>(choice.tiles_m), static_cast<int>(choice.tiles_n)},
          choice.splits,
          &context};
  float* const partial = choice.splits > 1 ? reinterpret_cast<float*>(context.workspace) : nullptr;
  if (partial) {
    s.epilogue.partial = partial;
    s.epilogue.vector = g.n % 4 == 0;
  }
  if (choice.tile >= kWgmmaTiles)
    start_wgmma(choice.tile, s);
  else
    (g.tensor_cores ? kStarts[static_cast<int>(p.family)] : kExactStarts)[static_cast<int>(p.order)](choice.tile, s);
  if (!partial) return;
  const int64_t blocks = ceil_div(g.m * ceil_div(g.n, 4), kSumThreads);
  launch(name, sum_splits, dim3(static_cast<unsigned>(blocks)), dim3(kSumThreads), 0, context, e, static_cast<const float*>(partial),
         choice.splits);
}

}  // namespace theia::THEIA_DEVICE
