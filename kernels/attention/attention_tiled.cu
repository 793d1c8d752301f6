// Forward for more keys than fit on chip: tiles of 64 keys and values pass through shared memory, two at a time, and the softmax goes along
// (its maximum so far, and the sums rescaled where that grows).
#include "kernels/attention/forward.cuh"

namespace theia::THEIA_DEVICE::heads {

namespace {

constexpr int kTile = 64;  // keys
constexpr int kSteps = kTile / kStep;
constexpr int kWarps = 4;

template <int HD>
constexpr int64_t shared(int warps) {
  return int64_t{2} * (4 * kTile * HD + warps * kStep * HD);
}

template <int HD>
__global__ void __launch_bounds__(kWarp* kWarps, HD >= 80 ? 2 : 3) tiled_rows(const __grid_constant__ Forward p) {
  THEIA_DYNAMIC_SHARED(smem);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int b = p.first_batch + static_cast<int>(blockIdx.z), h = p.first_head + static_cast<int>(blockIdx.y);
  bf16* staged = reinterpret_cast<bf16*>(smem);  // keys and values of even tiles, then of odd ones
  bf16* own = staged + 4 * kTile * HD + warp * kStep * HD;

  const int64_t first = (int64_t{p.tiles} * blockIdx.x + warp) * kStep;
  const bool active = first < p.queries;
  const int key_tiles = (p.keys + kTile - 1) / kTile;
  auto load_keys = [&](int t) {
    const int64_t row = int64_t{t} * kTile;
    bf16* to = staged + t % 2 * (2 * kTile * HD);
    if (t < key_tiles) {
      const int valid = p.keys - t * kTile;
      load_rows<HD>(to, p.k.of(b, h) + row * p.k.token, p.k.token, p.k.width, kTile, valid, p.hd, threadIdx.x, blockDim.x);
      load_rows<HD>(to + kTile * HD, p.v.of(b, h) + row * p.v.token, p.v.token, p.v.width, kTile, valid, p.hd, threadIdx.x, blockDim.x);
    }
    ptx::cp_async_commit();
  };

  const Lane<HD> at(lane);
  const float to_exponent = p.scale * kLog2e;
  if (active)
    load_rows<HD>(own, p.q.of(b, h) + first * p.q.token, p.q.token, p.q.width, kStep,
                  static_cast<int>(min(p.queries - first, int64_t{kStep})), p.hd, lane, kWarp);
  load_keys(0);
  Rows<HD> q = {};
  Sums<HD> o;
  clear<HD>(o);
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
  for (int t = 0; t < key_tiles; ++t) {
    load_keys(t + 1);
    ptx::cp_async_wait<1>();
    __syncthreads();
    if (active) {
      if (t == 0) read_queries<HD>(p, q, own, at);
      const bf16* keys = staged + t % 2 * (2 * kTile * HD);
      const bf16* values = keys + kTile * HD;
      const int present = p.keys - t * kTile;
      float s[2 * kSteps][4];
#pragma unroll
      for (int j = 0; j < kSteps; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) s[2 * j][i] = s[2 * j + 1][i] = 0;
        add_scores<HD>(s[2 * j], s[2 * j + 1], q, keys + j * kStep * HD, at);
      }
      float now[2] = {top[0], top[1]};
#pragma unroll
      for (int j = 0; j < kSteps; ++j) {
        if ((j + 1) * kStep > present) mask(s[2 * j], s[2 * j + 1], present - j * kStep, lane);
#pragma unroll
        for (int i = 0; i < 4; ++i) now[i / 2] = fmaxf(now[i / 2], fmaxf(s[2 * j][i], s[2 * j + 1][i]));
      }
      float base[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        now[i] = row_max(now[i]);
        base[i] = now[i] == -INFINITY ? 0 : now[i];  // nothing but -inf so far: probabilities of 0, not NaN, as a later key may count
        const float rescale = ptx::exp2_approx((top[i] - base[i]) * to_exponent);
        top[i] = now[i];
        sum[i] *= rescale;
#pragma unroll
        for (int n = 0; n < HD / 8; ++n) {
          o[n][2 * i] *= rescale;
          o[n][2 * i + 1] *= rescale;
        }
      }
#pragma unroll
      for (int j = 0; j < kSteps; ++j) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          float& x = s[2 * j + i / 4][i % 4];
          x = ptx::exp2_approx((x - base[i % 4 / 2]) * to_exponent);
        }
#pragma unroll
        for (int i = 0; i < 4; i += 2) sum[i / 2] += (s[2 * j][i] + s[2 * j][i + 1]) + (s[2 * j + 1][i] + s[2 * j + 1][i + 1]);
        uint32_t probabilities[4];
        pack_operand(probabilities, s[2 * j], s[2 * j + 1]);
        add_rows<HD>(o, probabilities, values + j * kStep * HD, at);
      }
    }
    __syncthreads();  // the tile after next is loaded over this one
  }
  if (active) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      sum[i] = row_sum(sum[i]);
      if (top[i] == -INFINITY) sum[i] = NAN;  // every key was at -inf: nothing to average
    }
    finish<HD>(p, own, o, top, sum, b, h, first, lane);
  }
}

template <int HD>
void start(const AttentionArgs& a, const DeviceContext& context) {
  Forward p = forward_of(a);
  // Four tiles of queries a block: keys and values come from L2 once for 64 queries, 2 x 64 products an element, beyond what L2 limits.
  const int64_t tiles = ceil_div(p.queries, kStep);
  p.tiles = static_cast<int>(std::min<int64_t>(tiles, kWarps));
  each_grid(ceil_div(tiles, p.tiles), p.heads, a.q.size[0], [&](dim3 grid, int batch, int head) {
    p.first_batch = batch;
    p.first_head = head;
    launch("attention", tiled_rows<HD>, grid, dim3(static_cast<unsigned>(p.tiles * kWarp)), shared<HD>(p.tiles), context, p);
  });
}

}  // namespace

void tiled(const AttentionArgs& a, const DeviceContext& context) {
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
