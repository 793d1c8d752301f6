// Gradients of longer sequences: one kernel whose warps own queries, through which keys and values pass in tiles of 64, and one whose warps
// own keys, through which queries and the gradient of out pass. The first leaves what the second must know of each query in the workspace.
#include "kernels/attention/backward.cuh"

namespace theia::THEIA_DEVICE::heads {

namespace {

constexpr int kTile = 64;  // rows that pass through at a time, two tiles in shared memory
constexpr int kSteps = kTile / kStep;
constexpr int kWarps = 4;

/// Each warp owns 16 rows of two operands, where its results go through at the end; the rows' descriptions lie behind.
template <int HD>
constexpr int64_t kShared = 2 * (4 * kTile * HD + kWarps * 2 * kStep * HD) + 2 * kTile * sizeof(Row);

/// Begins to copy tile t of two operands, each a head's rows of which `count` exist, and commits, also where there is no such tile.
template <int HD>
__device__ __forceinline__ void load_tile(bf16* staged, int64_t t, int64_t count, int hd, const bf16* left,
                                          const Tokens<const bf16>& left_view, const bf16* right, const Tokens<const bf16>& right_view) {
  const int64_t first = t * kTile;
  if (first < count) {
    const int valid = static_cast<int>(min(count - first, int64_t{kTile}));
    bf16* to = staged + t % 2 * (2 * kTile * HD);
    load_rows<HD>(to, left + first * left_view.token, left_view.token, left_view.width, kTile, valid, hd, threadIdx.x, blockDim.x);
    load_rows<HD>(to + kTile * HD, right + first * right_view.token, right_view.token, right_view.width, kTile, valid, hd, threadIdx.x,
                  blockDim.x);
  }
  ptx::cp_async_commit();
}

template <int HD>
__global__ void __launch_bounds__(kWarp* kWarps, HD == 128 ? 2 : 3) query_gradient(const __grid_constant__ Backward p) {
  THEIA_DYNAMIC_SHARED(smem);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int b = p.first_batch + static_cast<int>(blockIdx.z), h = p.first_head + static_cast<int>(blockIdx.y);
  bf16* staged = reinterpret_cast<bf16*>(smem);  // keys and values of even tiles, then of odd ones
  bf16* own_q = staged + 4 * kTile * HD + warp * 2 * kStep * HD;
  bf16* own_dout = own_q + kStep * HD;
  Row* rows = reinterpret_cast<Row*>(staged + 4 * kTile * HD + kWarps * 2 * kStep * HD) + warp * kStep;

  const int64_t first = (int64_t{kWarps} * blockIdx.x + warp) * kStep;
  const int valid = static_cast<int>(max(min(p.queries - first, int64_t{kStep}), int64_t{0}));
  if (valid > 0) {
    load_rows<HD>(own_q, p.q.of(b, h) + first * p.q.token, p.q.token, p.q.width, kStep, valid, p.hd, lane, kWarp);
    load_rows<HD>(own_dout, p.dout.of(b, h) + first * p.dout.token, p.dout.token, p.dout.width, kStep, valid, p.hd, lane, kWarp);
  }
  load_tile<HD>(staged, 0, p.keys, p.hd, p.k.of(b, h), p.k, p.v.of(b, h), p.v);
  if (valid > 0)
    describe_rows<HD>(p, b, h, first, kStep, valid, 0, 1, lane, [&](int row, Row r) {
      rows[row] = r;
      if (row < valid) p.rows[(b * p.heads + h) * p.queries + first + row] = r;
    });

  const Lane<HD> at(lane);
  const float to_exponent = p.scale * kLog2e;
  Rows<HD> q = {}, dout = {};
  Row row[2] = {};
  Sums<HD> dq;
  clear<HD>(dq);
#pragma unroll 1
  for (int t = 0; t * kTile < p.keys; ++t) {
    load_tile<HD>(staged, t + 1, p.keys, p.hd, p.k.of(b, h), p.k, p.v.of(b, h), p.v);
    ptx::cp_async_wait<1>();
    __syncthreads();
    if (valid > 0) {
      if (t == 0) {
        read_rows<HD>(q, own_q, at);
        read_rows<HD>(dout, own_dout, at);
        row[0] = rows[lane >> 2];
        row[1] = rows[(lane >> 2) + 8];
      }
      const bf16* k = staged + t % 2 * (2 * kTile * HD);
#pragma unroll 1
      for (int j = 0; j < kSteps && t * kTile + j * kStep < p.keys; ++j)
        add_query_gradient<HD>(dq, q, dout, row, to_exponent, k + j * kStep * HD, k + (kTile + j * kStep) * HD,
                               p.keys - t * kTile - j * kStep, at, lane);
    }
    __syncthreads();  // the tile after next is loaded over this one
  }
  if (valid > 0) store_rows<HD>(own_q, dq, p.scale, p.scale, p.dq.of(b, h) + first * p.dq.token, p.dq.token, p.dq.width, valid, p.hd, lane);
}

template <int HD>
__global__ void __launch_bounds__(kWarp* kWarps, HD >= 80 ? 2 : 3) key_gradients(const __grid_constant__ Backward p) {
  THEIA_DYNAMIC_SHARED(smem);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int b = p.first_batch + static_cast<int>(blockIdx.z), h = p.first_head + static_cast<int>(blockIdx.y);
  bf16* staged = reinterpret_cast<bf16*>(smem);  // queries and gradients of out of even tiles, then of odd ones
  bf16* own_k = staged + 4 * kTile * HD + warp * 2 * kStep * HD;
  bf16* own_v = own_k + kStep * HD;
  Row* rows = reinterpret_cast<Row*>(staged + 4 * kTile * HD + kWarps * 2 * kStep * HD);

  auto load_queries = [&](int64_t t) {
    const int64_t row = t * kTile + threadIdx.x;
    if (threadIdx.x < kTile && row < p.queries)
      ptx::cp_async_8(rows + t % 2 * kTile + threadIdx.x, p.rows + (b * p.heads + h) * p.queries + row);
    load_tile<HD>(staged, t, p.queries, p.hd, p.q.of(b, h), p.q, p.dout.of(b, h), p.dout);
  };
  const int first = (kWarps * static_cast<int>(blockIdx.x) + warp) * kStep;
  const int valid = max(min(p.keys - first, kStep), 0);
  if (valid > 0) {
    load_rows<HD>(own_k, p.k.of(b, h) + first * p.k.token, p.k.token, p.k.width, kStep, valid, p.hd, lane, kWarp);
    load_rows<HD>(own_v, p.v.of(b, h) + first * p.v.token, p.v.token, p.v.width, kStep, valid, p.hd, lane, kWarp);
  }
  load_queries(0);

  const Lane<HD> at(lane);
  const float to_exponent = p.scale * kLog2e;
  Rows<HD> k = {}, v = {};
  Sums<HD> dk, dv;
  clear<HD>(dk);
  clear<HD>(dv);
#pragma unroll 1
  for (int64_t t = 0; t * kTile < p.queries; ++t) {
    load_queries(t + 1);
    ptx::cp_async_wait<1>();
    __syncthreads();
    if (valid > 0) {
      if (kHeld<HD> && t == 0) {
        read_rows<HD>(k, own_k, at);
        read_rows<HD>(v, own_v, at);
      }
      const bf16* q = staged + t % 2 * (2 * kTile * HD);
      const bf16* dout = q + kTile * HD;
      const Row* described = rows + t % 2 * kTile;
      const int present = static_cast<int>(min(p.queries - t * kTile, int64_t{kTile}));
#pragma unroll 1
      for (int j = 0; j < present; j += kStep)
        if constexpr (kHeld<HD>)
          add_key_gradients<HD>(dk, dv, k, v, to_exponent, q + j * HD, dout + j * HD, described + j, present - j, at, lane);
        else
          add_key_gradients<HD, const bf16*>(dk, dv, own_k, own_v, to_exponent, q + j * HD, dout + j * HD, described + j, present - j, at,
                                             lane);
    }
    __syncthreads();  // the tile after next is loaded over this one
  }
  if (valid > 0) {
    store_rows<HD>(own_k, dk, p.scale, p.scale, p.dk.of(b, h) + first * p.dk.token, p.dk.token, p.dk.width, valid, p.hd, lane);
    store_rows<HD>(own_k, dv, 1, 1, p.dv.of(b, h) + first * p.dv.token, p.dv.token, p.dv.width, valid, p.hd, lane);
  }
}

template <int HD>
void start(const AttentionGradArgs& a, const DeviceContext& context) {
  Backward p = backward_of(a);
  p.rows = reinterpret_cast<Row*>(context.workspace);
  const dim3 block(kWarp * kWarps);
  each_grid(ceil_div(p.queries, kWarps * kStep), p.heads, a.q.size[0], [&](dim3 grid, int batch, int head) {
    p.first_batch = batch;
    p.first_head = head;
    launch("attention_grad", query_gradient<HD>, grid, block, kShared<HD>, context, p);
  });
  each_grid(ceil_div(p.keys, kWarps * kStep), p.heads, a.q.size[0], [&](dim3 grid, int batch, int head) {
    p.first_batch = batch;
    p.first_head = head;
    launch("attention_grad", key_gradients<HD>, grid, block, kShared<HD>, context, p);
  });
}

}  // namespace

int64_t tiled_workspace(const AttentionGradArgs& a) { return a.lse.numel() * static_cast<int64_t>(sizeof(Row)); }

void tiled(const AttentionGradArgs& a, const DeviceContext& context) {
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

}  // namespace theia::THEIA_DEVICE::heads
