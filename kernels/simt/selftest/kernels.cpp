// Kernels that are right, and must come out so under every schedule.
#include <atomic>
#include <cmath>
#include <string>
#include <thread>

#include "kernels/core/error.h"
#include "kernels/ptx/cp_async.h"
#include "kernels/simt/selftest/gemm.h"

namespace theia::simt::selftest {
namespace {

void gemm_right() {
  check_gemm<Gap::none>(130, 70, 200);
  check_gemm<Gap::none>(64, 64, 8);
  check_gemm<Gap::none>(1, 65, 96);
}

/// Rows of 64 bytes one under the other put every second row into the same banks; the swizzle does not.
void bank_conflicts() {
  statistics() = {};
  check_gemm<Gap::none>(64, 64, 64);
  expect_equal("conflicts with swizzle", 0, statistics().bank_conflicts, 0);
  check_gemm<Gap::swizzle>(64, 64, 64);
  // Each tile of eight rows takes four wavefronts instead of one.
  expect_equal("conflicts without", 0, statistics().bank_conflicts, statistics().ldmatrix / 2 * 4 * 3);
  expect_equal("mma", 0, statistics().mma, 2 * 4 * 2 * 2 * 2 * 4);
}

/// One row a block: maximum and sum over all warps, through two shared arrays.
__global__ void softmax_kernel(const float* x, float* y, int n) {
  THEIA_SHARED(float, most, [4]);
  THEIA_SHARED(float, sums, [4]);
  const float* const row = x + static_cast<int64_t>(blockIdx.x) * n;
  const int t = static_cast<int>(threadIdx.x);
  float m = -INFINITY, s = 0;
  for (int i = t; i < n; i += 128) m = fmaxf(m, row[i]);
  for (int d = 16; d; d /= 2) m = fmaxf(m, __shfl_xor_sync(kFullMask, m, d));
  if (t % 32 == 0) most[t / 32] = m;
  __syncthreads();
  m = fmaxf(fmaxf(most[0], most[1]), fmaxf(most[2], most[3]));
  for (int i = t; i < n; i += 128) s += __expf(row[i] - m);
  for (int d = 16; d; d /= 2) s += __shfl_xor_sync(kFullMask, s, d);
  if (t % 32 == 0) sums[t / 32] = s;
  __syncthreads();
  s = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  for (int i = t; i < n; i += 128) y[static_cast<int64_t>(blockIdx.x) * n + i] = __expf(row[i] - m) / s;
}

void softmax() {
  constexpr int rows = 5, n = 197;
  std::vector<float> x(rows * n), y(rows * n);
  for (int i = 0; i < rows * n; ++i) x[static_cast<size_t>(i)] = static_cast<float>(i * 37 % 101) / 10.f;
  launch("selftest_softmax", softmax_kernel, dim3(rows), dim3(128), 0, kContext, x.data(), y.data(), n);
  for (int r = 0; r < rows; ++r) {
    double sum = 0;
    for (int i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[static_cast<size_t>(r * n + i)]));
    for (int i = 0; i < n; ++i)
      expect_near("y", r * n + i, y[static_cast<size_t>(r * n + i)], std::exp(static_cast<double>(x[static_cast<size_t>(r * n + i)])) / sum,
                  1e-7);
  }
}

/// Where a thread is, in three dimensions; a block whose last warp is not full; barriers that combine.
__global__ void places_kernel(int* out) {
  const int t = static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
  const int b = static_cast<int>(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));
  const int any = __syncthreads_or(t == 44 && b == 3), all = __syncthreads_and(t < 45), count = __syncthreads_count(t % 2);
  out[b * 45 + t] = t + 100 * any + 200 * all + 1000 * count;
}

void places() {
  std::vector<int> out(45 * 2 * 3 * 2, -1);
  launch("selftest_places", places_kernel, dim3(2, 3, 2), dim3(3, 5, 3), 0, kContext, out.data());
  for (int i = 0; i < 45 * 12; ++i) expect_equal("thread", i, out[static_cast<size_t>(i)], i % 45 + (i / 45 == 3 ? 100 : 0) + 200 + 22000);
}

/// The block that comes last adds up what all have written: fences and a counter.
__global__ void last_block_kernel(float* parts, unsigned* counter, float* sum) {
  THEIA_SHARED(bool, last, [1]);
  parts[blockIdx.x * 64 + threadIdx.x] = static_cast<float>(threadIdx.x + blockIdx.x);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last[0] = atomicAdd(counter, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!last[0]) return;
  float s = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) s += parts[i * 64 + threadIdx.x];
  sum[threadIdx.x] = s;
}

void last_block() {
  std::vector<float> parts(7 * 64), sum(64);
  unsigned counter = 0;
  launch("selftest_last_block", last_block_kernel, dim3(7), dim3(64), 0, kContext, parts.data(), &counter, sum.data());
  for (int i = 0; i < 64; ++i) expect_near("sum", i, sum[static_cast<size_t>(i)], 7 * i + 21, 0);
}

/// cp.async of all sizes with every number of valid bytes; a group left open while another is waited for.
__global__ void copies_kernel(const unsigned char* from, unsigned char* to) {
  THEIA_DYNAMIC_SHARED(smem);
  const int t = static_cast<int>(threadIdx.x);
  if (t <= 16) ptx::cp_async_16(smem + t * 32, t ? from + t * 16 : nullptr, t);
  if (t <= 8) ptx::cp_async_8(smem + t * 32 + 16, t ? from + t * 8 : nullptr, t);
  if (t <= 4) ptx::cp_async_4(smem + t * 32 + 24, t ? from + t * 4 : nullptr, t);
  ptx::cp_async_commit();
  ptx::cp_async_16(smem + 32 * 32 + t * 16, from + t * 16);
  ptx::cp_async_commit();
  ptx::cp_async_wait<1>();
  __syncthreads();
  for (int i = t; i < 17 * 32; i += 32) to[i] = std::to_integer<unsigned char>(smem[i]);
  ptx::cp_async_wait<0>();
  __syncthreads();
  for (int i = t; i < 32 * 16; i += 32) to[17 * 32 + i] = std::to_integer<unsigned char>(smem[32 * 32 + i]);
}

void copies() {
  alignas(16) unsigned char from[32 * 16];
  for (int i = 0; i < 32 * 16; ++i) from[i] = static_cast<unsigned char>(i * 7 + 1);
  std::vector<unsigned char> to(17 * 32 + 32 * 16);
  launch("selftest_copies", copies_kernel, dim3(1), dim3(32), 32 * 32 + 32 * 16, kContext, static_cast<const unsigned char*>(from),
         to.data());
  for (int t = 0; t <= 16; ++t)
    for (int i = 0; i < 28; ++i) {
      const int size = i < 16 ? 16 : i < 24 ? 8 : 4, e = i < 16 ? i : i < 24 ? i - 16 : i - 24;
      if (t > size) continue;
      expect_equal("copied", t * 32 + i, to[static_cast<size_t>(t * 32 + i)], e < t ? from[t * size + e] : 0);
    }
  for (int i = 0; i < 32 * 16; ++i) expect_equal("second group", i, to[static_cast<size_t>(17 * 32 + i)], from[i]);
}

/// Every block is run once, whatever the order.
__global__ void once_kernel(int* counts) {
  if (threadIdx.x == 0) counts[blockIdx.x] += 1;
}

void every_block_once() {
  for (unsigned blocks : {1u, 2u, 3u, 12u, 97u}) {
    std::vector<int> counts(blocks);
    launch("selftest_once", once_kernel, dim3(blocks), dim3(32), 0, kContext, counts.data());
    for (unsigned b = 0; b < blocks; ++b) expect_equal("runs of block", b, counts[b], 1);
  }
  launch("selftest_nothing", once_kernel, dim3(0), dim3(32), 0, kContext, static_cast<int*>(nullptr));
}

/// Large blocks, all of shared memory, deep stacks.
__global__ void large_kernel(float* out) {
  THEIA_DYNAMIC_SHARED(smem);
  float* const s = reinterpret_cast<float*>(smem);
  float local[1024];
  for (int i = 0; i < 1024; ++i) local[i] = static_cast<float>(i);
  for (int i = static_cast<int>(threadIdx.x); i < 227 * 256; i += 1024) s[i] = local[i % 1024];
  __syncthreads();
  out[blockIdx.x * 1024 + threadIdx.x] = s[227 * 256 - 1 - threadIdx.x] + local[threadIdx.x];
}

void large_block() {
  std::vector<float> out(2048);
  launch("selftest_large", large_kernel, dim3(2), dim3(1024), 227 * 1024, kContext, out.data());
  for (int i = 0; i < 2048; ++i) expect_near("out", i, out[static_cast<size_t>(i)], (227 * 256 - 1 - i % 1024) % 1024 + i % 1024, 0);
}

__global__ void leave_early_kernel() {
  if (threadIdx.x == 3) return;
  __syncthreads();
}

/// Several OS threads at once, each with an engine of its own; every other launch fails.
void threads() {
  std::atomic<int> caught{0}, done{0};
  const auto work = [&] {
    for (int i = 0; i < 4; ++i) {
      try {
        check_gemm<Gap::none>(65, 66, 40);
        done += 1;
        launch("selftest_leave_early", leave_early_kernel, dim3(1), dim3(64), 0, kContext);
      } catch (const Error&) {
        caught += 1;
      }
    }
  };
  std::vector<std::thread> pool;
  for (int i = 0; i < 3; ++i) pool.emplace_back(work);
  work();
  for (std::thread& t : pool) t.join();
  expect_equal("done", 0, done, 16);
  expect_equal("caught", 0, caught, 16);
}

constexpr Case kCases[] = {
    {"gemm", gemm_right},
    {"bank_conflicts", bank_conflicts},
    {"softmax", softmax},
    {"places", places},
    {"last_block", last_block},
    {"copies", copies},
    {"every_block_once", every_block_once},
    {"large_block", large_block},
    {"threads", threads},
};

}  // namespace

std::span<const Case> kernel_cases() { return kCases; }

}  // namespace theia::simt::selftest
