// The language of the .cu files and the one way to start a kernel. A .cu file is compiled twice: by nvcc, where this is the CUDA runtime,
// and by g++, where it is the emulator of kernels/simt/. No other file includes cuda_runtime.h.
//
// Rules for kernel code, so that both compilers take it and the emulator can see into it:
//   THEIA_SHARED(float, sums, [8][32]);   a static __shared__ array
//   THEIA_DYNAMIC_SHARED(smem);           std::byte* smem, the block's dynamic shared memory, 1024-byte aligned
//   launch("layernorm", kernel, grid, block, shared_bytes, context, args...)   instead of <<<>>>
//   wrappers of kernels/ptx/ instead of inline PTX; warp shuffles, __syncthreads, __syncwarp and the like as usual
//   all of it in namespace theia::THEIA_DEVICE, kernels in an unnamed namespace inside it
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/core/device.h"
#include "kernels/core/error.h"

#ifdef __CUDACC__

#include <cuda_runtime.h>

#define THEIA_SHARED(type, name, dims) __shared__ type name dims
#define THEIA_DYNAMIC_SHARED(name) extern __shared__ __align__(1024) std::byte name[]

#else

#include "kernels/simt/simt.h"

#endif

namespace theia::THEIA_DEVICE {

inline constexpr int kWarp = 32;
inline constexpr unsigned kFullMask = 0xffffffffu;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/// The grid limits of every supported GPU; launchers fold what does not fit (a loop over blocks) rather than fail.
inline constexpr int64_t kMaxGridX = 0x7fffffff, kMaxGridYZ = 65535;

#ifdef __CUDACC__

/// Shared memory beyond this needs cudaFuncAttributeMaxDynamicSharedMemorySize.
inline constexpr int kDefaultShared = 48 * 1024;

/// True of an error that a kernel made while it ran: whichever call waits or comes next reports it, and every later one does again.
inline bool is_lasting(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalInstruction:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
      return true;
    default:
      return false;
  }
}

inline void throw_if_failed(const char* what, cudaError_t status) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // errors of a launch are sticky in the thread's state, not in the context
  fail(status == cudaErrorMemoryAllocation ? "ERR_OOM" : "ERR_CUDA", "%s: %s (%s)%s", what, cudaGetErrorString(status),
       cudaGetErrorName(status),
       is_lasting(status)
           ? "; this or an earlier kernel did it (THEIA_SYNC=1 finds out which), and this process cannot use the device any more"
           : "");
}

template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, int64_t shared_bytes, const DeviceContext& context,
            Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;  // nothing to do is not an error here
  // All that a block may have, not what this launch wants: the setting is the kernel's on this device. A smaller one would be met by other
  // threads on their way to a launch, and by kernels of a graph that was captured but not made yet. Such kernels have no static arrays.
  if (shared_bytes > kDefaultShared)
    throw_if_failed(
        name, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(context.info->shared_per_block)));
  kernel<<<grid, block, static_cast<size_t>(shared_bytes), static_cast<cudaStream_t>(context.stream)>>>(static_cast<Params>(args)...);
  throw_if_failed(name, cudaGetLastError());
}

#endif

}  // namespace theia::THEIA_DEVICE
