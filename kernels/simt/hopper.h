// What sm_90 adds, as the wrappers of kernels/ptx/ call it: mbarriers, named barriers, copies of boxes (TMA), products of a warpgroup.
#pragma once
#include "kernels/simt/emulator.h"

namespace theia::simt {

/// What a CUtensorMap says of a map of bf16, in the clear: dimension 0 lies packed, the others are `stride` bytes apart.
struct BoxMap {
  static constexpr int kMostRank = 5;
  static constexpr uint32_t kMagic = 0x7e54a90b;
  const std::byte* data;
  uint32_t magic, rank;
  uint32_t size[kMostRank];
  uint16_t box[kMostRank];
  int64_t stride[kMostRank - 1];  // [i]: of dimension i + 1
};

// mbarriers (hopper_barrier.cpp).
void mbarrier_init(uint64_t* barrier, unsigned arrivals, Site site);
void mbarrier_fence();
/// One arrival, which first adds `bytes` to those that copies must bring before the phase ends.
void mbarrier_arrive(uint64_t* barrier, unsigned bytes, Site site);
void mbarrier_wait(uint64_t* barrier, unsigned parity, Site site);
void named_barrier(int id, int threads, Site site);

/// The box at coordinates `at` goes to shared memory, lines of 128 bytes with their chunks of 16 exchanged; then its bytes are counted
/// off the barrier (hopper_copy.cpp).
void box_copy(void* shared, const BoxMap& map, uint64_t* barrier, const int* at, int rank, Site site);

// Products of a warpgroup (hopper_product.cpp).
uint32_t shared_offset(const void* shared);
void wgmma_fence(Site site);
void wgmma(float* d, int n, uint64_t a, uint64_t b, bool a_along_k, bool b_along_k, Site site);
void wgmma_commit(Site site);
void wgmma_wait(int newest, Site site);
void set_registers(int count, bool more, Site site);

}  // namespace theia::simt
