// A small GEMM as the real ones are built: C[m,n] = A[m,k]·B[n,k]^T in bf16, tiles of 64 x 64 x 32, four warps, two stages of cp.async,
// ldmatrix with swizzled rows, mma. One of its barriers, waits or bounds can be left out.
#pragma once
#include "kernels/core/dtype.h"
#include "kernels/ptx/cp_async.h"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/mma.h"
#include "kernels/simt/selftest/selftest.h"

namespace theia::simt::selftest {

enum class Gap { none, first_barrier, trailing_barrier, wait, swizzle, row_bound };

struct GemmArgs {
  const bf16 *a, *b;
  float* c;
  int m, n, k;
};

inline constexpr int kGemmShared = 2 * 2 * 64 * 32 * 2;

/// Where 16 bytes of a tile lie: rows of 64 bytes, in which chunks change places so that eight rows touch all banks.
template <Gap gap>
__device__ __forceinline__ bf16* at(bf16* tile, int row, int chunk) {
  return tile + row * 32 + (gap == Gap::swizzle ? chunk : chunk ^ (row / 2 % 4)) * 8;
}

template <Gap gap>
__device__ __forceinline__ void load_tile(bf16* tile, const bf16* from, int rows, int k, int row0, int k0) {
  for (int i = static_cast<int>(threadIdx.x); i < 64 * 4; i += 128) {
    const int row = i / 4, chunk = i % 4, left = k - k0 - chunk * 8;
    const bool inside = (gap == Gap::row_bound || row0 + row < rows) && left > 0;
    ptx::cp_async_16(at<gap>(tile, row, chunk), inside ? from + static_cast<int64_t>(row0 + row) * k + k0 + chunk * 8 : from,
                     inside ? min(16, 2 * left) : 0);
  }
}

template <Gap gap>
__global__ void __launch_bounds__(128) gemm_kernel(const __grid_constant__ GemmArgs g) {
  THEIA_DYNAMIC_SHARED(smem);
  const auto tile_a = [&](int stage) { return reinterpret_cast<bf16*>(smem) + stage * 4096; };
  const auto tile_b = [&](int stage) { return reinterpret_cast<bf16*>(smem) + stage * 4096 + 2048; };
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int m0 = static_cast<int>(blockIdx.y) * 64, n0 = static_cast<int>(blockIdx.x) * 64, wm = warp / 2 * 32, wn = warp % 2 * 32;
  const int steps = (g.k + 31) / 32;
  const auto load = [&](int step) {
    load_tile<gap>(tile_a(step % 2), g.a, g.m, g.k, m0, step * 32);
    load_tile<gap>(tile_b(step % 2), g.b, g.n, g.k, n0, step * 32);
    ptx::cp_async_commit();
  };
  float d[2][4][4] = {};
  load(0);
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) load(step + 1);
    if (step + 1 < steps)
      gap == Gap::wait ? void() : ptx::cp_async_wait<1>();
    else
      ptx::cp_async_wait<0>();
    if (gap != Gap::first_barrier) __syncthreads();
    for (int kk = 0; kk < 2; ++kk) {
      uint32_t a[2][4], b[4][2];
      for (int i = 0; i < 2; ++i) ptx::ldmatrix_x4(a[i], at<gap>(tile_a(step % 2), wm + i * 16 + lane % 16, kk * 2 + lane / 16));
      for (int j = 0; j < 2; ++j) {
        uint32_t r[4];
        ptx::ldmatrix_x4(r, at<gap>(tile_b(step % 2), wn + j * 16 + lane % 8 + lane / 16 * 8, kk * 2 + lane / 8 % 2));
        for (int i = 0; i < 4; ++i) b[j * 2 + i / 2][i % 2] = r[i];
      }
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j) ptx::mma_m16n8k16<bf16>(d[i][j], a[i], b[j]);
    }
    if (gap != Gap::trailing_barrier) __syncthreads();
  }
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j)
      for (int e = 0; e < 4; ++e) {
        const int row = m0 + wm + i * 16 + lane / 4 + e / 2 * 8, column = n0 + wn + j * 8 + lane % 4 * 2 + e % 2;
        if (row < g.m && column < g.n) g.c[static_cast<int64_t>(row) * g.n + column] = d[i][j][e];
      }
}

/// Runs it and compares every element with the sum in float64; exact, as the numbers have few bits.
template <Gap gap>
void check_gemm(int m, int n, int k) {
  Numbers numbers(7);
  std::vector<bf16> a(static_cast<size_t>(m) * k), b(static_cast<size_t>(n) * k);
  std::vector<float> c(static_cast<size_t>(m) * n, 0.f);
  for (bf16& x : a) x = to_bf16(numbers.small());
  for (bf16& x : b) x = to_bf16(numbers.small());
  launch("selftest_gemm", gemm_kernel<gap>, dim3(static_cast<unsigned>((n + 63) / 64), static_cast<unsigned>((m + 63) / 64)), dim3(128),
         kGemmShared, kContext, GemmArgs{a.data(), b.data(), c.data(), m, n, k});
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < n; ++j) {
      double sum = 0;
      for (int e = 0; e < k; ++e)
        sum += static_cast<double>(to_float(a[static_cast<size_t>(i) * k + e])) * to_float(b[static_cast<size_t>(j) * k + e]);
      expect_near("C", static_cast<int64_t>(i) * n + j, c[static_cast<size_t>(i) * n + j], sum, 1e-6);
    }
}

}  // namespace theia::simt::selftest
