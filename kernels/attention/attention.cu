// Forward for up to 272 keys: all keys and values of a head in shared memory, a warp's 16 rows of scores whole in registers.
#include "kernels/attention/forward.cuh"

namespace theia::THEIA_DEVICE {

using namespace heads;

namespace {

/// Registers decide how many warps share a multiprocessor, and guards between products keep them from interleaving, so the number of keys
/// is a constant: 64, 208 (for 197 tokens) or 272 (for 257), and keys that are not there are computed as zeros and masked.
template <int HD, int KEYS>
struct Shape {
  static constexpr int steps = KEYS / kStep;
  static constexpr int fewest = KEYS == 272 ? 209 : KEYS == 208 ? 65 : 1;  // keys; below, the next smaller shape is taken
  // At most, in a block and of blocks on a multiprocessor, as registers and shared memory allow. A quarter of a multiprocessor has 16,384
  // registers: 168 for each lane of 3 warps, 255 for 2.
  static constexpr int warps = HD == 128 ? 8 : HD == 80 && KEYS == 208 ? 6 : 4;
  static constexpr int blocks = HD == 128 ? 1 : KEYS == 64 ? 4 : HD == 80 || KEYS == 272 ? 2 : 3;
  static constexpr int64_t shared(int64_t block_warps) { return int64_t{2} * (2 * KEYS * HD + block_warps * (kStep * HD + kStage)); }
};

template <int HD, int KEYS>
__global__ void __launch_bounds__(32 * Shape<HD, KEYS>::warps, Shape<HD, KEYS>::blocks) whole_rows(const __grid_constant__ Forward p) {
  using S = Shape<HD, KEYS>;
  THEIA_DYNAMIC_SHARED(smem);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  const int b = p.first_batch + static_cast<int>(blockIdx.z), h = p.first_head + static_cast<int>(blockIdx.y);
  bf16* keys = reinterpret_cast<bf16*>(smem);
  bf16* values = keys + KEYS * HD;
  bf16* own = values + KEYS * HD + warp * (kStep * HD + kStage);
  bf16* stage = own + kStep * HD;

  const int begin = p.tiles * static_cast<int>(blockIdx.x), end = min(begin + p.tiles, static_cast<int>(ceil_div(p.queries, kStep)));
  auto load_queries = [&](int tile) {
    const int64_t first = int64_t{tile} * kStep;
    if (tile < end)
      load_rows<HD>(own, p.q.of(b, h) + first * p.q.token, p.q.token, p.q.width, kStep,
                    static_cast<int>(min(p.queries - first, int64_t{kStep})), p.hd, lane, kWarp);
    ptx::cp_async_commit();
  };

  load_rows<HD>(keys, p.k.of(b, h), p.k.token, p.k.width, KEYS, p.keys, p.hd, threadIdx.x, blockDim.x);
  load_queries(begin + warp);
  load_rows<HD>(values, p.v.of(b, h), p.v.token, p.v.width, KEYS, p.keys, p.hd, threadIdx.x, blockDim.x);
  ptx::cp_async_commit();
  ptx::cp_async_wait<1>();
  __syncthreads();

  const Lane<HD> at(lane);
  const float to_exponent = p.scale * kLog2e;
  // All warps go round equally often: the first round has a barrier.
  for (int round = begin; round < end; round += warps) {
    const int tile = round + warp;
    const bool active = tile < end;
    uint32_t probabilities[S::steps][4];
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    if (active) {
      float s[2 * S::steps][4];
      {
        Rows<HD> q;
        read_queries<HD>(p, q, own, at);
        __syncwarp();
        load_queries(tile + warps);  // lands while this tile is worked on
#pragma unroll
        for (int j = 0; j < S::steps; ++j) {
#pragma unroll
          for (int i = 0; i < 4; ++i) s[2 * j][i] = s[2 * j + 1][i] = 0;
          add_scores<HD>(s[2 * j], s[2 * j + 1], q, keys + j * kStep * HD, at);
        }
      }
#pragma unroll
      for (int j = 0; j < S::steps; ++j) {
        if ((j + 1) * kStep > S::fewest && (j + 1) * kStep > p.keys) mask(s[2 * j], s[2 * j + 1], p.keys - j * kStep, lane);
#pragma unroll
        for (int i = 0; i < 4; ++i) top[i / 2] = fmaxf(top[i / 2], fmaxf(s[2 * j][i], s[2 * j + 1][i]));
      }
      top[0] = row_max(top[0]);
      top[1] = row_max(top[1]);
#pragma unroll
      for (int j = 0; j < S::steps; ++j) {
        // The difference first: a fused product would leave the rounding of a huge maximum in the exponent.
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          float& x = s[2 * j + i / 4][i % 4];
          x = ptx::exp2_approx((x - top[i % 4 / 2]) * to_exponent);
        }
#pragma unroll
        for (int i = 0; i < 4; i += 2) sum[i / 2] += (s[2 * j][i] + s[2 * j][i + 1]) + (s[2 * j + 1][i] + s[2 * j + 1][i + 1]);
        pack_operand(probabilities[j], s[2 * j], s[2 * j + 1]);
      }
      sum[0] = row_sum(sum[0]);
      sum[1] = row_sum(sum[1]);
    }
    ptx::cp_async_wait<0>();
    if (round == begin)
      __syncthreads();  // the values
    else
      __syncwarp();  // the next queries
    if (active) {
      Sums<HD> o;
      clear<HD>(o);
#pragma unroll
      for (int j = 0; j < S::steps; ++j) add_rows<HD>(o, probabilities[j], values + j * kStep * HD, at);
      finish<HD>(p, stage, o, top, sum, b, h, int64_t{tile} * kStep, lane);
    }
  }
}

template <int HD, int KEYS>
void start(const AttentionArgs& a, const DeviceContext& context) {
  using S = Shape<HD, KEYS>;
  Forward p = forward_of(a);
  int64_t most = S::warps;
  if (S::shared(1) > context.info->shared_per_block) return tiled(a, context);
  while (most > 1 && S::shared(most) > context.info->shared_per_block) --most;
  const int64_t tiles = ceil_div(p.queries, kStep), parts = parts_of(a.q.size[0] * p.heads, tiles, *context.info);
  p.tiles = static_cast<int>(ceil_div(tiles, parts));
  const int64_t warps = balanced(p.tiles, most);
  each_grid(ceil_div(tiles, p.tiles), p.heads, a.q.size[0], [&](dim3 grid, int batch, int head) {
    p.first_batch = batch;
    p.first_head = head;
    launch("attention", whole_rows<HD, KEYS>, grid, dim3(static_cast<unsigned>(warps * kWarp)), S::shared(warps), context, p);
  });
}

template <int HD>
void start(const AttentionArgs& a, const DeviceContext& context) {
  const int64_t keys = a.k.size[1];
  keys <= 64 ? start<HD, 64>(a, context) : keys <= 208 ? start<HD, 208>(a, context) : start<HD, 272>(a, context);
}

}  // namespace

void attention(const AttentionArgs& a, const DeviceContext& context) {
  if (a.q.dtype != DType::bf16) return exact(a, context);
  if (a.k.size[1] > kWhole) return tiled(a, context);
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
