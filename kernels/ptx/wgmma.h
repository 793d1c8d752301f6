// Products of a warpgroup (four warps, the first of them a multiple of four) on Hopper's tensor cores: D[64,n] += A[64,16] · B[16,n], bf16
// operands in shared memory, float32 sums in registers. sm_90a. (PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate
// Instructions", "Register Fragments for wgmma.mma_async.m64nNk16", "Matrix Descriptor Format")
// Warp w of the group holds rows 16w to 16w + 15; its lane l, with g = l / 4 and t = l % 4:
//   d[4j] D[g][8j + 2t]   d[4j+1] D[g][8j + 2t + 1]   d[4j+2] D[g+8][8j + 2t]   d[4j+3] D[g+8][8j + 2t + 1]
// Operands lie as tma.h brings them, in lines of 128 bytes with exchanged chunks, tiles at multiples of 1024 bytes:
//   along k       a line is one row of A (column of B) and 64 of k:   descriptor(p + k·2, 0, 1024), k = 0, 16, 32, 48
//   not along k   a line is one k and 64 rows of A (columns of B); 64 more lie `leading` bytes on: descriptor(p + k·128, leading, 1024)
// Use:
//   wgmma_fence();              registers are as the program says: before the first, and after sums were read or written
//   wgmma<n>(d, a, b); ...      d belongs to the tensor cores from here on
//   wgmma_commit();             what was started is a group
//   wgmma_wait<m>();            all but the newest m groups are done: their d may be used, what they read may be overwritten
#pragma once
#include "kernels/cuda/runtime.h"
#include "kernels/ptx/ldmatrix.h"

/// Kernels of this file's instructions are compiled to nothing but a trap for other GPUs; launchers do not start them there.
#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define THEIA_WGMMA_CODE
#endif

namespace theia::THEIA_DEVICE::ptx {

#ifndef __CUDACC__
__device__ __forceinline__ uint32_t wgmma_address(const void* shared) { return shared_offset(shared); }
#else
__device__ __forceinline__ uint32_t wgmma_address(const void* shared) { return shared_address(shared); }
#endif

/// Of a tile in lines of 128 bytes: eight lines further on is `stride` bytes on.
__device__ __forceinline__ uint64_t descriptor(const void* shared, int leading, int stride) {
  constexpr uint64_t kSwizzle128 = 1;
  return static_cast<uint64_t>((wgmma_address(shared) & 0x3ffff) >> 4) | static_cast<uint64_t>(leading >> 4) << 16 |
         static_cast<uint64_t>(stride >> 4) << 32 | kSwizzle128 << 62;
}

#ifdef __CUDACC__

__device__ __forceinline__ void wgmma_fence() {
#ifdef THEIA_WGMMA_CODE
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void wgmma_commit() {
#ifdef THEIA_WGMMA_CODE
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
template <int newest>
__device__ __forceinline__ void wgmma_wait() {
#ifdef THEIA_WGMMA_CODE
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(newest) : "memory");
#endif
}
/// Registers of the warpgroup's threads, from what __launch_bounds__(threads, 1) cut: a multiple of 8, all four warps together.
template <int count>
__device__ __forceinline__ void fewer_registers() {
#ifdef THEIA_WGMMA_CODE
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
#endif
}
template <int count>
__device__ __forceinline__ void more_registers() {
#ifdef THEIA_WGMMA_CODE
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
#endif
}

#define THEIA_D8(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define THEIA_D32(i) THEIA_D8(i), THEIA_D8(i + 8), THEIA_D8(i + 16), THEIA_D8(i + 24)
#define THEIA_R32_0 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define THEIA_R32_32                                                  \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define THEIA_R32_64                                                  \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79," \
  "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define THEIA_R32_96                                                              \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111," \
  "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"

/// D[64,n] += A·B. The kernels use 64, 128 and 256 columns.
template <int n, bool a_along_k = true, bool b_along_k = true>
__device__ __forceinline__ void wgmma([[maybe_unused]] float (&d)[n / 2], [[maybe_unused]] uint64_t a, [[maybe_unused]] uint64_t b) {
  static_assert(n == 64 || n == 128 || n == 256);
#ifdef THEIA_WGMMA_CODE
  if constexpr (n == 64)
    asm volatile("{ .reg .pred p; setp.ne.b32 p, 1, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" THEIA_R32_0
                 "}, %32, %33, p, 1, 1, %34, %35; }"
                 : THEIA_D32(0)
                 : "l"(a), "l"(b), "n"(!a_along_k), "n"(!b_along_k));
  if constexpr (n == 128)
    asm volatile("{ .reg .pred p; setp.ne.b32 p, 1, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" THEIA_R32_0 THEIA_R32_32
                 "}, %64, %65, p, 1, 1, %66, %67; }"
                 : THEIA_D32(0), THEIA_D32(32)
                 : "l"(a), "l"(b), "n"(!a_along_k), "n"(!b_along_k));
  if constexpr (n == 256)
    asm volatile("{ .reg .pred p; setp.ne.b32 p, 1, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" THEIA_R32_0 THEIA_R32_32
                     THEIA_R32_64 THEIA_R32_96 "}, %128, %129, p, 1, 1, %130, %131; }"
                 : THEIA_D32(0), THEIA_D32(32), THEIA_D32(64), THEIA_D32(96)
                 : "l"(a), "l"(b), "n"(!a_along_k), "n"(!b_along_k));
#endif
}
#undef THEIA_D8
#undef THEIA_D32
#undef THEIA_R32_0
#undef THEIA_R32_32
#undef THEIA_R32_64
#undef THEIA_R32_96

#else

__device__ __forceinline__ void wgmma_fence(Site site = Site::here()) { simt::wgmma_fence(site); }
__device__ __forceinline__ void wgmma_commit(Site site = Site::here()) { simt::wgmma_commit(site); }
template <int newest>
__device__ __forceinline__ void wgmma_wait(Site site = Site::here()) {
  simt::wgmma_wait(newest, site);
}
template <int count>
__device__ __forceinline__ void fewer_registers(Site site = Site::here()) {
  set_registers(count, false, site);
}
template <int count>
__device__ __forceinline__ void more_registers(Site site = Site::here()) {
  set_registers(count, true, site);
}
template <int n, bool a_along_k = true, bool b_along_k = true>
__device__ __forceinline__ void wgmma(float (&d)[n / 2], uint64_t a, uint64_t b, Site site = Site::here()) {
  simt::wgmma(d, n, a, b, a_along_k, b_along_k, site);
}

#endif

}  // namespace theia::THEIA_DEVICE::ptx
