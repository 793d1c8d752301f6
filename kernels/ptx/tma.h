// Copies of boxes of a map from global to shared memory by the copy engine, started by one thread. sm_90. (PTX ISA, "cp.async.bulk.tensor")
// The box is what its TensorMap says (kernels/cuda/tensor_map.h): lines of 64 elements, 128 bytes, one behind the other at a multiple of
// 1024 bytes, and within each the chunks of 16 bytes exchanged: chunk c of line l lies at c ^ (l % 8) ("128-byte swizzle"). What lies
// outside of the map becomes 0. Coordinates come innermost first, and may be negative. When all has landed the box's bytes, those of
// zeros too, are counted off the mbarrier, which must have been told to expect them.
#pragma once
#include "kernels/cuda/tensor_map.h"
#include "kernels/ptx/mbarrier.h"

namespace theia::THEIA_DEVICE::ptx {

#ifdef __CUDACC__

__device__ __forceinline__ void tma_load_2d([[maybe_unused]] void* shared, [[maybe_unused]] const TensorMap& map,
                                            [[maybe_unused]] uint64_t* barrier, [[maybe_unused]] int c0, [[maybe_unused]] int c1) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
                   shared_address(shared)),
               "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1)
               : "memory");
#endif
}
__device__ __forceinline__ void tma_load_4d([[maybe_unused]] void* shared, [[maybe_unused]] const TensorMap& map,
                                            [[maybe_unused]] uint64_t* barrier, [[maybe_unused]] int c0, [[maybe_unused]] int c1,
                                            [[maybe_unused]] int c2, [[maybe_unused]] int c3) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(
                   shared_address(shared)),
               "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
               : "memory");
#endif
}
/// Has the map itself fetched, which the first copy would wait for.
__device__ __forceinline__ void tma_prefetch([[maybe_unused]] const TensorMap& map) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
#endif
}

#else

__device__ __forceinline__ void tma_load_2d(void* shared, const TensorMap& map, uint64_t* barrier, int c0, int c1,
                                            Site site = Site::here()) {
  const int at[] = {c0, c1};
  box_copy(shared, map, barrier, at, 2, site);
}
__device__ __forceinline__ void tma_load_4d(void* shared, const TensorMap& map, uint64_t* barrier, int c0, int c1, int c2, int c3,
                                            Site site = Site::here()) {
  const int at[] = {c0, c1, c2, c3};
  box_copy(shared, map, barrier, at, 4, site);
}
__device__ __forceinline__ void tma_prefetch(const TensorMap&) {}

#endif

}  // namespace theia::THEIA_DEVICE::ptx
