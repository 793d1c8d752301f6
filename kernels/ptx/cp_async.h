// Copies from global to shared memory that go on while the thread computes. (PTX ISA, "cp.async") Both addresses are aligned to the
// size. `valid` bytes are read, the rest is filled with zeros: 0 reads nothing, and `global` need then not be a valid address.
//   cp_async_16(...); cp_async_commit(); ... cp_async_wait<n>();   all but the newest n groups of this thread have landed; then a barrier
#pragma once
#include "kernels/cuda/runtime.h"

namespace theia::THEIA_DEVICE::ptx {

#ifdef __CUDACC__

/// .cg: past L1, which these kernels have no use for.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, int valid = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))), "l"(global),
               "r"(valid)
               : "memory");
}
__device__ __forceinline__ void cp_async_8(void* shared, const void* global, int valid = 8) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))), "l"(global),
               "r"(valid)
               : "memory");
}
__device__ __forceinline__ void cp_async_4(void* shared, const void* global, int valid = 4) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))), "l"(global),
               "r"(valid)
               : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int n>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

#else

__device__ __forceinline__ void cp_async_16(void* shared, const void* global, int valid = 16, Site site = Site::here()) {
  async_copy(shared, global, 16, valid, site);
}
__device__ __forceinline__ void cp_async_8(void* shared, const void* global, int valid = 8, Site site = Site::here()) {
  async_copy(shared, global, 8, valid, site);
}
__device__ __forceinline__ void cp_async_4(void* shared, const void* global, int valid = 4, Site site = Site::here()) {
  async_copy(shared, global, 4, valid, site);
}
__device__ __forceinline__ void cp_async_commit() { async_commit(); }
template <int n>
__device__ __forceinline__ void cp_async_wait() {
  async_wait(n);
}

#endif

}  // namespace theia::THEIA_DEVICE::ptx
