// Kernels that reach outside of what is theirs, and launches that no GPU would take.
#include "kernels/core/error.h"
#include "kernels/ptx/cp_async.h"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/simt/selftest/gemm.h"

namespace theia::simt::selftest {
namespace {

alignas(16) float memory[256];

// The indices come from the host, so that no compiler knows better.
__global__ void shared_index_kernel(float* x, int index) {
  THEIA_SHARED(float, s, [32]);
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = s[(static_cast<int>(threadIdx.x) == 4 ? index : 0)];
}
__global__ void local_index_kernel(float* x, int index) {
  float local[4] = {};
  for (int i = 0; i < 4; ++i) local[i] = x[i];
  x[threadIdx.x] = local[index];
}
__global__ void shared_write_kernel(float* x, int index) {
  THEIA_SHARED(float, s, [32]);
  float* const p = s;
  p[static_cast<int>(threadIdx.x) + index] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = p[threadIdx.x];
}
__global__ void dynamic_write_kernel(float* x, int index) {
  THEIA_DYNAMIC_SHARED(smem);
  float* const p = reinterpret_cast<float*>(smem);
  p[static_cast<int>(threadIdx.x) + index] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = p[threadIdx.x];
}
/// Reads what nothing has written: shared memory starts as NaN.
__global__ void shared_read_kernel(float* x, int index) {
  THEIA_DYNAMIC_SHARED(smem);
  float* const p = reinterpret_cast<float*>(smem);
  p[threadIdx.x] = 1.f;
  __syncthreads();
  x[threadIdx.x] = p[static_cast<int>(threadIdx.x) + index];
}
__global__ void float4_kernel(float* x, int index) {
  float4 v = *reinterpret_cast<const float4*>(x + index + 4 * threadIdx.x);
  x[threadIdx.x] = v.x + v.w;
}
__global__ void null_kernel(float* x, int index) {
  const float* const p = index == 1 ? nullptr : x;
  x[threadIdx.x] = *p;
}
__global__ void shift_kernel(float* x, int index) { x[threadIdx.x] = static_cast<float>(1 << (index + 31)); }
__global__ void division_kernel(float* x, int index) { x[threadIdx.x] = static_cast<float>(100 / (index - 1)); }
__global__ void ldmatrix_kernel(float* x, int offset) {
  THEIA_DYNAMIC_SHARED(smem);
  reinterpret_cast<float*>(smem)[threadIdx.x] = 0.f;
  __syncwarp();
  uint32_t r[1];
  ptx::ldmatrix_x1(r, smem + threadIdx.x % 8 * 16 + offset);
  x[threadIdx.x] = __uint_as_float(r[0]);
}
__global__ void ldmatrix_global_kernel(float* x, int) {
  uint32_t r[1];
  ptx::ldmatrix_x1(r, x);
  x[threadIdx.x] = __uint_as_float(r[0]);
}
template <int size>
__global__ void copy_kernel(float* x, int to, int from) {
  THEIA_DYNAMIC_SHARED(smem);
  if (threadIdx.x == 3) {
    if (size == 16) ptx::cp_async_16(smem + to, reinterpret_cast<std::byte*>(x) + from);
    if (size == 8) ptx::cp_async_8(smem + to, reinterpret_cast<std::byte*>(x) + from);
    if (size == 4) ptx::cp_async_4(smem + to, reinterpret_cast<std::byte*>(x) + from);
  }
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
}
__global__ void valid_kernel(float* x, int valid) {
  THEIA_DYNAMIC_SHARED(smem);
  ptx::cp_async_16(smem + threadIdx.x * 16, x, valid);
  ptx::cp_async_wait<0>();
}
__global__ void static_kernel(float* x) {
  THEIA_SHARED(float, s, [12289]);
  s[threadIdx.x] = x[threadIdx.x];
}
__global__ void both_kernel(float* x) {
  THEIA_SHARED(float, s, [2048]);
  s[threadIdx.x] = x[threadIdx.x];
}
__global__ void empty_kernel() {}

template <void (*kernel)(float*, int), int index, int shared = 0>
void with_index() {
  for (float& m : memory) m = 1.f;
  launch("selftest_address", kernel, dim3(1), dim3(32), shared, kContext, static_cast<float*>(memory), index);
  for (int i = 0; i < 32; ++i) expect_near("x", i, memory[i], 1, 0);
}
template <int size, int to, int from>
void with_copy() {
  launch("selftest_copy", copy_kernel<size>, dim3(1), dim3(32), 64, kContext, static_cast<float*>(memory), to, from);
}
template <unsigned x, unsigned y, unsigned z>
void with_block() {
  launch("selftest_block", empty_kernel, dim3(1), dim3(x, y, z), 0, kContext);
}
template <int64_t bytes>
void with_shared() {
  launch("selftest_shared", empty_kernel, dim3(1), dim3(32), bytes, kContext);
}
void grid() { launch("selftest_grid", empty_kernel, dim3(1, 65536), dim3(32), 0, kContext); }
void static_size() { launch("selftest_static", static_kernel, dim3(1), dim3(32), 0, kContext, static_cast<float*>(memory)); }
void both_sizes() { launch("selftest_both", both_kernel, dim3(1), dim3(32), 220 * 1024, kContext, static_cast<float*>(memory)); }
/// A device of 163 KB, as sm_80 is.
void small_device() {
  DeviceInfo info{};
  info.shared_per_block = 163 * 1024;
  launch("selftest_small_device", empty_kernel, dim3(1), dim3(32), 164 * 1024, DeviceContext{nullptr, nullptr, 0, &info});
}
/// Rows past the end of A and B are read and then thrown away: only AddressSanitizer sees it.
void row_bound() { check_gemm<Gap::row_bound>(70, 66, 32); }
void bad_schedule() { set_schedule("backward"); }

constexpr Case kCases[] = {
    {"shared_index", with_index<shared_index_kernel, 32>},
    {"local_index", with_index<local_index_kernel, 4>},
    {"shared_write", with_index<shared_write_kernel, 1>},
    {"dynamic_write", with_index<dynamic_write_kernel, 1, 128>},
    {"shared_read", with_index<shared_read_kernel, 1, 256>},
    {"float4", with_index<float4_kernel, 1>},
    {"null", with_index<null_kernel, 1>},
    {"shift", with_index<shift_kernel, 1>},
    {"division", with_index<division_kernel, 1>},
    {"ldmatrix_misaligned", with_index<ldmatrix_kernel, 8, 256>},
    {"ldmatrix_outside", with_index<ldmatrix_kernel, 16, 128>},
    {"ldmatrix_global", with_index<ldmatrix_global_kernel, 0, 128>},
    {"copy_misaligned_shared", with_copy<16, 8, 0>},
    {"copy_misaligned_global", with_copy<8, 8, 4>},
    {"copy_outside", with_copy<4, 64, 0>},
    {"copy_valid", with_index<valid_kernel, 17, 512>},
    {"row_bound", row_bound},
    {"too_many_threads", with_block<1025, 1, 1>},
    {"too_deep_a_block", with_block<1, 1, 65>},
    {"no_threads", with_block<32, 0, 1>},
    {"too_large_a_grid", grid},
    {"too_much_dynamic_shared", with_shared<227 * 1024 + 1>},
    {"too_much_static_shared", static_size},
    {"too_much_shared", both_sizes},
    {"too_much_for_the_device", small_device},
    {"bad_schedule", bad_schedule},
};

}  // namespace

std::span<const Case> address_cases() { return kCases; }

}  // namespace theia::simt::selftest
