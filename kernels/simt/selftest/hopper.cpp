// sm_90's own instructions: where boxes land and what wgmma multiplies, a small GEMM by a producer and two consumers with one of its waits,
// arrivals or fences left out, and misuse.
#include <array>

#include "kernels/core/dtype.h"
#include "kernels/ptx/tma.h"
#include "kernels/ptx/wgmma.h"
#include "kernels/simt/selftest/selftest.h"

namespace theia::simt::selftest {
namespace {

/// A packed matrix [lines, columns], or a map of rank 4, in boxes of 64 elements by so many lines.
BoxMap matrix_map(const bf16* data, int lines, int columns, int box_lines) {
  BoxMap m{reinterpret_cast<const std::byte*>(data), BoxMap::kMagic, 2, {static_cast<uint32_t>(columns), static_cast<uint32_t>(lines)},
           {64, static_cast<uint16_t>(box_lines)},   {2 * columns}};
  return m;
}

// ---- boxes ----------------------------------------------------------------------------------------------------------------------------
struct BoxArgs {
  BoxMap map;
  int at[4];
  bf16* out;
  int lines;
};

__global__ void box_kernel(const __grid_constant__ BoxArgs p) {
  THEIA_DYNAMIC_SHARED(smem);
  THEIA_SHARED(uint64_t, barrier, [1]);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(barrier, 1);
    ptx::mbarrier_init_fence();
    ptx::mbarrier_arrive_expect(barrier, static_cast<unsigned>(p.lines * 128));
    if (p.map.rank == 2)
      ptx::tma_load_2d(smem, p.map, barrier, p.at[0], p.at[1]);
    else
      ptx::tma_load_4d(smem, p.map, barrier, p.at[0], p.at[1], p.at[2], p.at[3]);
  }
  __syncthreads();
  ptx::mbarrier_wait(barrier, 0);
  const bf16* const tile = reinterpret_cast<const bf16*>(smem);
  for (int i = static_cast<int>(threadIdx.x); i < p.lines * 64; i += 64)
    p.out[i] = tile[i / 64 * 64 + (i % 64 / 8 ^ i / 64 % 8) * 8 + i % 8];
}

/// A box of a map [images, height, width, channels] that sticks out on all sides: zeros there.
void boxes() {
  constexpr int kImages = 2, kHeight = 5, kWidth = 6, kChannels = 72;
  std::vector<bf16> map(kImages * kHeight * kWidth * kChannels);
  for (size_t i = 0; i < map.size(); ++i) map[i] = to_bf16(static_cast<float>(i % 251 + 1));
  BoxMap m{reinterpret_cast<const std::byte*>(map.data()),
           BoxMap::kMagic,
           4,
           {kChannels, kWidth, kHeight, kImages},
           {64, 4, 3, 2},
           {kChannels * 2, kWidth * kChannels * 2, kHeight * kWidth * kChannels * 2}};
  for (const auto& at : {std::array{0, -1, -1, 0}, std::array{64, 3, 3, 1}, std::array{-8, 2, 1, -1}, std::array{0, 9, 0, 0}}) {
    std::vector<bf16> out(24 * 64);
    launch("selftest_box", box_kernel, dim3(1), dim3(64), 24 * 128, kContext, BoxArgs{m, {at[0], at[1], at[2], at[3]}, out.data(), 24});
    for (int i = 0; i < 24 * 64; ++i) {
      const int c = at[0] + i % 64, x = at[1] + i / 64 % 4, y = at[2] + i / 256 % 3, image = at[3] + i / 768;
      const bool inside = c >= 0 && c < kChannels && x >= 0 && x < kWidth && y >= 0 && y < kHeight && image >= 0 && image < kImages;
      const int64_t from = ((int64_t{image} * kHeight + y) * kWidth + x) * kChannels + c;
      expect_near("box", i, to_float(out[static_cast<size_t>(i)]), inside ? to_float(map[static_cast<size_t>(from)]) : 0.f, 0);
    }
  }
}

// ---- wgmma: one product, each orientation, against three loops
// ---------------------------------------------------------------------------
struct ProductArgs {
  const bf16 *a, *b;  // [64,k] and [n,k], packed, k = 64
  float* d;           // [64,n]
};

/// Element (line, k) of an operand in lines of 128 bytes, each orientation.
template <bool along_k>
__device__ __forceinline__ int place(int line, int k) {
  const int row = along_k ? line : line / 64 * 64 + k, column = along_k ? k : line % 64;
  return row * 64 + (column / 8 ^ row % 8) * 8 + column % 8;
}

template <int n, bool a_along_k, bool b_along_k>
__global__ void product_kernel(ProductArgs p) {
  THEIA_DYNAMIC_SHARED(smem);
  bf16* const a = reinterpret_cast<bf16*>(smem);
  bf16* const b = a + 64 * 64;
  for (int i = static_cast<int>(threadIdx.x); i < 64 * 64; i += 128) a[place<a_along_k>(i / 64, i % 64)] = p.a[i];
  for (int i = static_cast<int>(threadIdx.x); i < n * 64; i += 128) b[place<b_along_k>(i / 64, i % 64)] = p.b[i];
  __syncthreads();
  float d[n / 2] = {};
  ptx::wgmma_fence();
  for (int k = 0; k < 64; k += 16)
    ptx::wgmma<n, a_along_k, b_along_k>(d, ptx::descriptor(smem + k * (a_along_k ? 2 : 128), 8192, 1024),
                                        ptx::descriptor(smem + 8192 + k * (b_along_k ? 2 : 128), 8192, 1024));
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  for (int j = 0; j < n / 8; ++j)
    for (int e = 0; e < 4; ++e) p.d[(16 * warp + lane / 4 + e / 2 * 8) * n + 8 * j + lane % 4 * 2 + e % 2] = d[4 * j + e];
}

template <int n, bool a_along_k, bool b_along_k>
void check_product() {
  Numbers numbers(11);
  std::vector<bf16> a(64 * 64), b(n * 64);
  std::vector<float> d(64 * n);
  for (bf16& x : a) x = to_bf16(numbers.small());
  for (bf16& x : b) x = to_bf16(numbers.small());
  launch("selftest_wgmma", product_kernel<n, a_along_k, b_along_k>, dim3(1), dim3(128), 8192 + (n + 63) / 64 * 8192, kContext,
         ProductArgs{a.data(), b.data(), d.data()});
  for (int i = 0; i < 64 * n; ++i) {
    double sum = 0;
    for (int k = 0; k < 64; ++k)
      sum += static_cast<double>(to_float(a[static_cast<size_t>(i / n * 64 + k)])) * to_float(b[static_cast<size_t>(i % n * 64 + k)]);
    expect_near("D", i, d[static_cast<size_t>(i)], sum, 1e-6);
  }
}

void products() {
  check_product<8, true, true>();
  check_product<40, true, true>();
  check_product<128, true, true>();
  check_product<256, true, true>();
  check_product<128, true, false>();
  check_product<128, false, true>();
  check_product<64, false, false>();
}

// ---- the GEMM: C[m,n] = A[m,k]·B[n,k]^T, tiles of 128 x 64 x 64, three stages
// ------------------------------------------------------------
enum class Hole { none, full_wait, empty_wait, product_wait, empty_arrival, expect, fence, init_fence, one_warp, barrier_count };

struct Args {
  BoxMap a, b;
  float* c;
  int m, n, k;
};
constexpr int kStages = 3, kStage = (128 + 64) * 128;

template <Hole hole>
__global__ void __launch_bounds__(384) hopper_kernel(const __grid_constant__ Args p) {
  THEIA_DYNAMIC_SHARED(smem);
  THEIA_SHARED(uint64_t, full, [kStages]);
  THEIA_SHARED(uint64_t, empty, [kStages]);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int m0 = static_cast<int>(blockIdx.y) * 128, n0 = static_cast<int>(blockIdx.x) * 64, steps = (p.k + 63) / 64;
  if (thread == 0) {
    for (int i = 0; i < kStages; ++i) ptx::mbarrier_init(&full[i], 1), ptx::mbarrier_init(&empty[i], 8);
    if (hole != Hole::init_fence) ptx::mbarrier_init_fence();
  }
  __syncthreads();
  if (warp >= 8) {
    ptx::fewer_registers<40>();
    if (thread != 256) return;
    for (int step = 0; step < steps; ++step) {
      const int stage = step % kStages;
      std::byte* const slab = smem + stage * kStage;
      if (hole != Hole::empty_wait) ptx::mbarrier_wait(&empty[stage], (static_cast<unsigned>(step / kStages) & 1u) ^ 1u);
      ptx::mbarrier_arrive_expect(&full[stage], hole == Hole::expect ? kStage - 128 : kStage);
      ptx::tma_load_2d(slab, p.a, &full[stage], step * 64, m0);
      ptx::tma_load_2d(slab + 128 * 128, p.b, &full[stage], step * 64, n0);
    }
    return;
  }
  ptx::more_registers<232>();
  float d[32] = {};
  for (int step = 0; step < steps; ++step) {
    const int stage = step % kStages;
    const std::byte* const slab = smem + stage * kStage;
    if (hole != Hole::full_wait) ptx::mbarrier_wait(&full[stage], static_cast<unsigned>(step / kStages) & 1u);
    if (hole != Hole::fence) ptx::wgmma_fence();
    for (int k = 0; k < 128; k += 32)
      if (hole != Hole::one_warp || warp > 0)
        ptx::wgmma<64>(d, ptx::descriptor(slab + warp / 4 * 8192 + k, 0, 1024), ptx::descriptor(slab + 128 * 128 + k, 0, 1024));
    ptx::wgmma_commit();
    if (hole != Hole::product_wait) ptx::wgmma_wait<0>();
    if (lane == 0 && (hole != Hole::empty_arrival || warp > 0)) ptx::mbarrier_arrive(&empty[stage]);
  }
  if (hole == Hole::product_wait) ptx::wgmma_wait<0>();
  // Out through shared memory that the other warps' products may have read: a barrier of the consumers.
  ptx::named_barrier(1, hole == Hole::barrier_count && warp == 3 ? 128 : 256);
  float* const out = reinterpret_cast<float*>(smem);
  for (int j = 0; j < 8; ++j)
    for (int e = 0; e < 4; ++e) out[(16 * warp + lane / 4 + e / 2 * 8) * 64 + 8 * j + lane % 4 * 2 + e % 2] = d[4 * j + e];
  ptx::named_barrier(1, 256);
  for (int i = thread; i < 128 * 64; i += 256)
    if (m0 + i / 64 < p.m && n0 + i % 64 < p.n) p.c[static_cast<int64_t>(m0 + i / 64) * p.n + n0 + i % 64] = out[i];
}

template <Hole hole>
void gemm_with() {
  constexpr int m = 150, n = 70, k = 456;
  Numbers numbers(5);
  std::vector<bf16> a(m * k), b(n * k);
  std::vector<float> c(m * n, 0.f);
  for (bf16& x : a) x = to_bf16(numbers.small());
  for (bf16& x : b) x = to_bf16(numbers.small());
  launch("selftest_hopper", hopper_kernel<hole>, dim3(2, 2), dim3(384), kStages * kStage, kContext,
         Args{matrix_map(a.data(), m, k, 128), matrix_map(b.data(), n, k, 64), c.data(), m, n, k});
  for (int i = 0; i < m * n; ++i) {
    double sum = 0;
    for (int d = 0; d < k; ++d)
      sum += static_cast<double>(to_float(a[static_cast<size_t>(i / n * k + d)])) * to_float(b[static_cast<size_t>(i % n * k + d)]);
    expect_near("C", i, c[static_cast<size_t>(i)], sum, 1e-6);
  }
}

// ---- misuse -----------------------------------------------------------------------------------------------------------------------------
enum class Misuse { no_init, overwritten, arrivals, misplaced, outside, unfinished_box, unfinished_product, descriptors };

template <Misuse misuse>
__global__ void misuse_kernel(const __grid_constant__ BoxMap map) {
  THEIA_DYNAMIC_SHARED(smem);
  THEIA_SHARED(uint64_t, barrier, [1]);
  const bool first = threadIdx.x == 0;
  if (first && misuse != Misuse::no_init) {
    ptx::mbarrier_init(barrier, 2);
    ptx::mbarrier_init_fence();
  }
  __syncthreads();
  if (misuse == Misuse::no_init && first) ptx::mbarrier_arrive(barrier);
  if (misuse == Misuse::overwritten && first) {
    barrier[0] = 1;
    ptx::mbarrier_arrive(barrier);
  }
  if (misuse == Misuse::arrivals && first) {
    ptx::mbarrier_arrive_expect(barrier, 64);
    ptx::mbarrier_arrive(barrier);
    ptx::mbarrier_arrive(barrier);
  }
  if (misuse == Misuse::misplaced && first) ptx::tma_load_2d(smem + 512, map, barrier, 0, 0);
  if (misuse == Misuse::outside && first) ptx::tma_load_2d(smem + 1024, map, barrier, 0, 0);
  if (misuse == Misuse::unfinished_box && first) {
    ptx::mbarrier_arrive_expect(barrier, 1024);
    ptx::tma_load_2d(smem, map, barrier, 0, 0);
  }
  if (misuse == Misuse::unfinished_product || misuse == Misuse::descriptors) {
    float d[4] = {};
    const std::byte* const at = smem + (misuse == Misuse::descriptors ? threadIdx.x / 32 % 2 * 32 : 0);
    ptx::wgmma_fence();
    ptx::wgmma<8>(d, ptx::descriptor(at, 0, 0), ptx::descriptor(smem, 0, 0));
    ptx::wgmma_commit();
    if (misuse == Misuse::descriptors) ptx::wgmma_wait<0>();
  }
}

template <Misuse misuse>
void misused() {
  std::vector<bf16> data(8 * 64);
  launch("selftest_misuse", misuse_kernel<misuse>, dim3(1), dim3(128), 2047, kContext, matrix_map(data.data(), 8, 64, 8));
}

constexpr Case kCases[] = {
    {"boxes", boxes},
    {"wgmma", products},
    {"hopper_gemm", gemm_with<Hole::none>},
    {"hopper_without_full_wait", gemm_with<Hole::full_wait>},
    {"hopper_without_empty_wait", gemm_with<Hole::empty_wait>},
    {"hopper_without_product_wait", gemm_with<Hole::product_wait>},
    {"hopper_without_an_arrival", gemm_with<Hole::empty_arrival>},
    {"hopper_expecting_less", gemm_with<Hole::expect>},
    {"hopper_without_fence", gemm_with<Hole::fence>},
    {"hopper_without_init_fence", gemm_with<Hole::init_fence>},
    {"hopper_without_one_warp", gemm_with<Hole::one_warp>},
    {"hopper_two_barrier_counts", gemm_with<Hole::barrier_count>},
    {"mbarrier_not_initialised", misused<Misuse::no_init>},
    {"mbarrier_overwritten", misused<Misuse::overwritten>},
    {"mbarrier_arrivals", misused<Misuse::arrivals>},
    {"box_misplaced", misused<Misuse::misplaced>},
    {"box_outside", misused<Misuse::outside>},
    {"unfinished_box", misused<Misuse::unfinished_box>},
    {"unfinished_product", misused<Misuse::unfinished_product>},
    {"descriptors_differ", misused<Misuse::descriptors>},
};
constexpr size_t kRight = 3;

}  // namespace

std::span<const Case> hopper_cases() { return std::span(kCases).first(kRight); }
std::span<const Case> hopper_bug_cases() { return std::span(kCases).subspan(kRight); }

}  // namespace theia::simt::selftest
