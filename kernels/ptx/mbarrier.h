// Barriers in shared memory that count arrivals and bytes, and barriers of some of a block's warps. sm_90. (PTX ISA, "Parallel
// Synchronization and Communication Instructions: mbarrier" and "bar, barrier")
// A phase ends when all expected arrivals are there and all expected bytes have been brought; the next then begins. Phases have parity 0,
// 1, 0, ...; mbarrier_wait(parity) returns once the phase of that parity is over, so that of a new barrier a wait for 1 returns at once.
//   one thread: mbarrier_init(&full, 1); mbarrier_init_fence(); then __syncthreads
//   producer:   mbarrier_wait(&empty, parity ^ 1); mbarrier_arrive_expect(&full, bytes); a copy that counts its bytes off `full` (tma.h)
//   consumers:  mbarrier_wait(&full, parity); ...; mbarrier_arrive(&empty)
#pragma once
#include "kernels/cuda/runtime.h"
#include "kernels/ptx/ldmatrix.h"

namespace theia::THEIA_DEVICE::ptx {

#ifdef __CUDACC__

__device__ __forceinline__ void mbarrier_init([[maybe_unused]] uint64_t* barrier, [[maybe_unused]] unsigned arrivals) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
#endif
}
/// Makes initialised barriers known to the copy engine: by the thread that initialised them.
__device__ __forceinline__ void mbarrier_init_fence() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("fence.mbarrier_init.release.cluster;\n fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
__device__ __forceinline__ void mbarrier_arrive([[maybe_unused]] uint64_t* barrier) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
#endif
}
/// An arrival that also announces bytes, which copies will bring in the same phase.
__device__ __forceinline__ void mbarrier_arrive_expect([[maybe_unused]] uint64_t* barrier, [[maybe_unused]] unsigned bytes) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
#endif
}
__device__ __forceinline__ void mbarrier_wait([[maybe_unused]] uint64_t* barrier, [[maybe_unused]] unsigned parity) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  // try_wait sleeps in hardware for a while; it may return without the phase being over.
  for (uint32_t over = 0; !over;)
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(over)
                 : "r"(shared_address(barrier)), "r"(parity)
                 : "memory");
#endif
}
/// As __syncthreads, for the threads (a multiple of 32) that come to barrier `id` of 1 to 15: all lanes of each of their warps.
__device__ __forceinline__ void named_barrier(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

#else

__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, unsigned arrivals, Site site = Site::here()) {
  simt::mbarrier_init(barrier, arrivals, site);
}
__device__ __forceinline__ void mbarrier_init_fence() { mbarrier_fence(); }
__device__ __forceinline__ void mbarrier_arrive(uint64_t* barrier, Site site = Site::here()) { simt::mbarrier_arrive(barrier, 0, site); }
__device__ __forceinline__ void mbarrier_arrive_expect(uint64_t* barrier, unsigned bytes, Site site = Site::here()) {
  simt::mbarrier_arrive(barrier, bytes, site);
}
__device__ __forceinline__ void mbarrier_wait(uint64_t* barrier, unsigned parity, Site site = Site::here()) {
  simt::mbarrier_wait(barrier, parity, site);
}
__device__ __forceinline__ void named_barrier(int id, int threads, Site site = Site::here()) { simt::named_barrier(id, threads, site); }

#endif

}  // namespace theia::THEIA_DEVICE::ptx
