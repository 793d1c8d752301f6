// Gradients where queries, keys, values and the gradient of out of a head fit in shared memory together: one kernel, each operand read once
// a block. Tiles of queries and of keys are independent, so no barrier comes between the loads and the end.
#include "kernels/attention/backward.cuh"

namespace theia::THEIA_DEVICE {

using namespace heads;

namespace {

/// Warps on a multiprocessor, as registers allow: a quarter has 16,384, for 4 warps of 128 a lane, 3 of 168 or 2 of 255.
template <int HD>
inline constexpr int kResident = HD == 32   ? 16
                                 : HD == 64 ? 12
                                            : 8;

template <int HD>
__global__ void __launch_bounds__(kWarp* kResident<HD>) whole_head(const __grid_constant__ Backward p) {
  THEIA_DYNAMIC_SHARED(smem);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  const int b = p.first_batch + static_cast<int>(blockIdx.z), h = p.first_head + static_cast<int>(blockIdx.y);
  const int queries = static_cast<int>(p.queries), query_steps = (queries + kStep - 1) / kStep, key_steps = (p.keys + kStep - 1) / kStep;
  const int query_rows = query_steps * kStep, key_rows = key_steps * kStep;
  bf16* q = reinterpret_cast<bf16*>(smem);
  bf16* dout = q + query_rows * HD;
  bf16* k = dout + query_rows * HD;
  bf16* v = k + key_rows * HD;
  bf16* stage = v + key_rows * HD + warp * kStage;
  Row* rows = reinterpret_cast<Row*>(v + key_rows * HD + warps * kStage);

  load_rows<HD>(q, p.q.of(b, h), p.q.token, p.q.width, query_rows, queries, p.hd, threadIdx.x, blockDim.x);
  load_rows<HD>(k, p.k.of(b, h), p.k.token, p.k.width, key_rows, p.keys, p.hd, threadIdx.x, blockDim.x);
  load_rows<HD>(dout, p.dout.of(b, h), p.dout.token, p.dout.width, query_rows, queries, p.hd, threadIdx.x, blockDim.x);
  load_rows<HD>(v, p.v.of(b, h), p.v.token, p.v.width, key_rows, p.keys, p.hd, threadIdx.x, blockDim.x);
  ptx::cp_async_commit();
  describe_rows<HD>(p, b, h, 0, query_rows, queries, warp, warps, lane, [&](int row, Row r) { rows[row] = r; });
  ptx::cp_async_wait<0>();
  __syncthreads();

  const Lane<HD> at(lane);
  const float to_exponent = p.scale * kLog2e;
  const int first_query = p.query_tiles * static_cast<int>(blockIdx.x), first_key = p.key_tiles * static_cast<int>(blockIdx.x);
  const int query_tiles = max(min(p.query_tiles, query_steps - first_query), 0),
            key_tiles = max(min(p.key_tiles, key_steps - first_key), 0);
  for (int piece = warp; piece < key_tiles + query_tiles; piece += warps) {  // keys first: they take longer
    if (piece < key_tiles) {
      const int first = (first_key + piece) * kStep;
      Sums<HD> dk, dv;
      clear<HD>(dk);
      clear<HD>(dv);
      auto gather = [&](const auto& own_k, const auto& own_v) {
#pragma unroll 1
        for (int j = 0; j < query_steps; ++j)
          add_key_gradients<HD>(dk, dv, own_k, own_v, to_exponent, q + j * kStep * HD, dout + j * kStep * HD, rows + j * kStep,
                                queries - j * kStep, at, lane);
      };
      if constexpr (kHeld<HD>) {
        Rows<HD> own_k, own_v;
        read_rows<HD>(own_k, k + first * HD, at);
        read_rows<HD>(own_v, v + first * HD, at);
        gather(own_k, own_v);
      } else {
        gather(k + first * HD, v + first * HD);
      }
      store_rows<HD>(stage, dk, p.scale, p.scale, p.dk.of(b, h) + first * p.dk.token, p.dk.token, p.dk.width, p.keys - first, p.hd, lane);
      store_rows<HD>(stage, dv, 1, 1, p.dv.of(b, h) + first * p.dv.token, p.dv.token, p.dv.width, p.keys - first, p.hd, lane);
    } else {
      const int first = (first_query + piece - key_tiles) * kStep;
      Rows<HD> own_q, own_dout;
      read_rows<HD>(own_q, q + first * HD, at);
      read_rows<HD>(own_dout, dout + first * HD, at);
      const Row row[2] = {rows[first + (lane >> 2)], rows[first + (lane >> 2) + 8]};
      Sums<HD> dq;
      clear<HD>(dq);
#pragma unroll 1
      for (int j = 0; j < key_steps; ++j)
        add_query_gradient<HD>(dq, own_q, own_dout, row, to_exponent, k + j * kStep * HD, v + j * kStep * HD, p.keys - j * kStep, at, lane);
      store_rows<HD>(stage, dq, p.scale, p.scale, p.dq.of(b, h) + first * p.dq.token, p.dq.token, p.dq.width, queries - first, p.hd, lane);
    }
  }
}

/// Bytes of shared memory of a block of so many warps.
int64_t shared_of(const AttentionGradArgs& a, int64_t warps) {
  const int64_t query_rows = round_up(a.q.size[1], kStep), key_rows = round_up(a.k.size[1], kStep);
  return 2 * (2 * padded(a.q.size[3]) * (query_rows + key_rows) + warps * kStage) + query_rows * static_cast<int64_t>(sizeof(Row));
}

bool fits(const AttentionGradArgs& a, const DeviceInfo& info) { return shared_of(a, 8) <= info.shared_per_block; }

template <int HD>
void start(const AttentionGradArgs& a, const DeviceContext& context) {
  Backward p = backward_of(a);
  const DeviceInfo& info = *context.info;
  const int64_t heads = a.q.size[0] * p.heads, query_steps = ceil_div(p.queries, kStep), key_steps = ceil_div(p.keys, kStep);
  const int64_t tiles = std::max(query_steps, key_steps), parts = parts_of(heads, tiles, info);
  p.query_tiles = static_cast<int>(ceil_div(query_steps, parts));
  p.key_tiles = static_cast<int>(ceil_div(key_steps, parts));
  // Two or more blocks on a multiprocessor, where there are so many and shared memory holds them: one loads while another computes.
  int64_t blocks = std::clamp<int64_t>(heads * parts / info.multiprocessors, 1, 3);
  while (blocks > 1 && blocks * (shared_of(a, kResident<HD> / blocks) + 1024) > info.shared_per_multiprocessor) --blocks;
  int64_t most = kResident<HD> / blocks;
  while (shared_of(a, most) > info.shared_per_block) --most;
  const int64_t warps = balanced(p.query_tiles + p.key_tiles, most);
  each_grid(parts, p.heads, a.q.size[0], [&](dim3 grid, int first_batch, int first_head) {
    p.first_batch = first_batch;
    p.first_head = first_head;
    launch("attention_grad", whole_head<HD>, grid, dim3(static_cast<unsigned>(warps * kWarp)), shared_of(a, warps), context, p);
  });
}

}  // namespace

int64_t attention_grad_workspace(const AttentionGradArgs& a, const DeviceInfo& info) {
  return a.q.dtype != DType::bf16 ? exact_workspace(a) : fits(a, info) ? 0 : tiled_workspace(a);
}

void attention_grad(const AttentionGradArgs& a, const DeviceContext& context) {
  if (a.q.dtype != DType::bf16) return exact(a, context);
  if (!fits(a, *context.info)) return tiled(a, context);
  switch (padded(a.q.size[3])) {
    case 32:
      return start<32>(a, context);
    case 64:
      return start<64>(a, context);
    case 80:
      return start<80>(a, context);
    default:
      return start<128>(a, context);
  }
}

}  // namespace theia::THEIA_DEVICE
