// Loads of 8x8 tiles of 16-bit elements from shared memory into the fragments that mma reads. (PTX ISA, "ldmatrix")
// Lane 8j + i gives the address of row i of tile j: 16 bytes, 16-byte aligned. Register j of lane l is then elements 2(l % 4) and
// 2(l % 4) + 1 of row l / 4 of tile j; with trans, of column l / 4. x2 reads the addresses of lanes 0..15, x1 those of lanes 0..7; the
// other lanes must still give a valid address.
#pragma once
#include "kernels/cuda/runtime.h"

namespace theia::THEIA_DEVICE::ptx {

#ifdef __CUDACC__

__device__ __forceinline__ uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void ldmatrix_x1(uint32_t (&r)[1], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(shared_address(row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x1_trans(uint32_t (&r)[1], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(shared_address(row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

#else

__device__ __forceinline__ void ldmatrix_x1(uint32_t (&r)[1], const void* row, Site site = Site::here()) {
  ldmatrix(r, row, 1, false, site);
}
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row, Site site = Site::here()) {
  ldmatrix(r, row, 2, false, site);
}
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row, Site site = Site::here()) {
  ldmatrix(r, row, 4, false, site);
}
__device__ __forceinline__ void ldmatrix_x1_trans(uint32_t (&r)[1], const void* row, Site site = Site::here()) {
  ldmatrix(r, row, 1, true, site);
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row, Site site = Site::here()) {
  ldmatrix(r, row, 2, true, site);
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, Site site = Site::here()) {
  ldmatrix(r, row, 4, true, site);
}

#endif

}  // namespace theia::THEIA_DEVICE::ptx
