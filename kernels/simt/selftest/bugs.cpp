// Kernels that are wrong in the order of what their threads do: each must be caught, by its results or by an error that names the line.
#include <stdexcept>

#include "kernels/core/error.h"
#include "kernels/ptx/cp_async.h"
#include "kernels/simt/selftest/gemm.h"

namespace theia::simt::selftest {
namespace {

template <Gap gap>
void gemm_without() {
  check_gemm<gap>(130, 70, 200);
}

/// The reverse of each block's 64 numbers, through shared memory.
template <bool with_barrier>
__global__ void reverse_kernel(float* x) {
  THEIA_SHARED(float, s, [64]);
  s[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
  if (with_barrier) __syncthreads();
  x[blockIdx.x * 64 + threadIdx.x] = s[63 - threadIdx.x];
}

void missing_barrier() {
  std::vector<float> x(128);
  for (int i = 0; i < 128; ++i) x[static_cast<size_t>(i)] = static_cast<float>(i);
  launch("selftest_reverse", reverse_kernel<false>, dim3(2), dim3(64), 0, kContext, x.data());
  for (int i = 0; i < 128; ++i) expect_near("x", i, x[static_cast<size_t>(i)], i / 64 * 64 + 63 - i % 64, 0);
}

/// A shared array used twice: the second write may come before the last read of the first.
__global__ void reused_kernel(float* out) {
  THEIA_SHARED(float, s, [2]);
  const unsigned warp = threadIdx.x / 32;
  if (threadIdx.x % 32 == 0) s[warp] = 1.f + static_cast<float>(warp);
  __syncthreads();
  const float first = s[0] + s[1];
  // A barrier is missing here.
  if (threadIdx.x % 32 == 0) s[warp] = 10.f;
  __syncthreads();
  out[threadIdx.x] = first + s[0] + s[1];
}

void missing_barrier_before_reuse() {
  std::vector<float> out(64);
  launch("selftest_reused", reused_kernel, dim3(1), dim3(64), 0, kContext, out.data());
  for (int i = 0; i < 64; ++i) expect_near("out", i, out[static_cast<size_t>(i)], 23, 0);
}

/// Written for lanes that run in step, as they have not since 2017.
__global__ void warp_synchronous_kernel(float* out, int from) {
  THEIA_SHARED(float, s, [32]);
  const unsigned lane = threadIdx.x;
  s[lane] = static_cast<float>(lane);
  // A __syncwarp is missing here.
  out[lane] = s[(lane + static_cast<unsigned>(from)) % 32];
}

void warp_synchronous() {
  std::vector<float> out(32);
  for (int from : {1, 31}) {
    launch("selftest_warp_synchronous", warp_synchronous_kernel, dim3(1), dim3(32), 0, kContext, out.data(), from);
    for (int i = 0; i < 32; ++i) expect_near("out", i, out[static_cast<size_t>(i)], (i + from) % 32, 0);
  }
}

__global__ void two_barriers_kernel() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void early_exit_kernel() {
  if (threadIdx.x == 33) return;
  __syncthreads();
}
__global__ void exit_before_shuffle_kernel(int* out) {
  if (threadIdx.x == 5) return;
  out[threadIdx.x] = __shfl_xor_sync(kFullMask, static_cast<int>(threadIdx.x), 1);
}
__global__ void different_operations_kernel(int* out) {
  if (threadIdx.x % 2)
    out[threadIdx.x] = __shfl_xor_sync(kFullMask, 1, 2);
  else
    out[threadIdx.x] = __any_sync(kFullMask, 1);
}
__global__ void different_masks_kernel(int* out) { out[threadIdx.x] = __shfl_xor_sync(threadIdx.x < 8 ? 0xffffu : kFullMask, 1, 2); }
__global__ void foreign_mask_kernel(int* out) { out[threadIdx.x] = __any_sync(0xffffu, 1); }
__global__ void missing_lanes_kernel(int* out) { out[threadIdx.x] = __any_sync(kFullMask, 1); }
__global__ void lane_outside_mask_kernel(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1, 20);
}
/// One lane waits at the barrier, the others for it in a warp operation.
__global__ void crossed_kernel(int* out) {
  if (threadIdx.x != 7) out[threadIdx.x] = __any_sync(kFullMask, 1);
  __syncthreads();
}
/// Three lanes, each waiting for the next.
__global__ void ring_kernel(int* out) {
  if (threadIdx.x < 3) out[threadIdx.x] = __any_sync(threadIdx.x == 0 ? 3u : threadIdx.x == 1 ? 6u : 5u, 1);
}
__global__ void unfinished_copy_kernel(const int* in) {
  THEIA_SHARED(int, s, [4]);
  if (threadIdx.x == 0) ptx::cp_async_4(s, in);
  ptx::cp_async_commit();
}
__global__ void throwing_kernel() {
  if (threadIdx.x == 9) throw std::runtime_error("from a kernel");
  __syncthreads();
}
__global__ void empty_kernel() {}
__global__ void nested_kernel() {
  if (threadIdx.x == 0) launch("selftest_inner", empty_kernel, dim3(1), dim3(32), 0, kContext);
}

int out[64];

template <void (*kernel)(int*), unsigned threads>
void with_output() {
  launch("selftest_bug", kernel, dim3(1), dim3(threads), 0, kContext, static_cast<int*>(out));
}
template <void (*kernel)()>
void alone() {
  launch("selftest_bug", kernel, dim3(2), dim3(64), 0, kContext);
}
void unfinished_copy() { launch("selftest_bug", unfinished_copy_kernel, dim3(1), dim3(32), 0, kContext, static_cast<const int*>(out)); }

/// All blocks write the same place: on a GPU any of them may be the last.
__global__ void blocks_race_kernel(int* x) {
  if (threadIdx.x == 0) x[0] = static_cast<int>(blockIdx.x);
}
void blocks_race() {
  int x = -1;
  launch("selftest_blocks_race", blocks_race_kernel, dim3(5), dim3(32), 0, kContext, &x);
  expect_equal("the last block", 0, x, 4);
}

constexpr Case kCases[] = {
    {"gemm_without_first_barrier", gemm_without<Gap::first_barrier>},
    {"gemm_without_trailing_barrier", gemm_without<Gap::trailing_barrier>},
    {"gemm_without_wait", gemm_without<Gap::wait>},
    {"missing_barrier", missing_barrier},
    {"missing_barrier_before_reuse", missing_barrier_before_reuse},
    {"warp_synchronous", warp_synchronous},
    {"two_barriers", alone<two_barriers_kernel>},
    {"early_exit", alone<early_exit_kernel>},
    {"exit_before_shuffle", with_output<exit_before_shuffle_kernel, 32>},
    {"different_operations", with_output<different_operations_kernel, 32>},
    {"different_masks", with_output<different_masks_kernel, 32>},
    {"foreign_mask", with_output<foreign_mask_kernel, 32>},
    {"missing_lanes", with_output<missing_lanes_kernel, 24>},
    {"lane_outside_mask", with_output<lane_outside_mask_kernel, 32>},
    {"crossed", with_output<crossed_kernel, 64>},
    {"ring", with_output<ring_kernel, 32>},
    {"unfinished_copy", unfinished_copy},
    {"throwing", alone<throwing_kernel>},
    {"nested", alone<nested_kernel>},
    {"blocks_race", blocks_race},
};

}  // namespace

std::span<const Case> bug_cases() { return kCases; }

}  // namespace theia::simt::selftest
