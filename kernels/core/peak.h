// What this machine can do at most, measured at the moment of asking: benches divide by it, so that a busy or throttled machine shows.
#pragma once
#include <cstdint>
#include <functional>

#include "kernels/core/cpu.h"

namespace theia {

/// GFLOP/s of float32 multiply-adds in registers on `threads` threads with one instruction set: the best of several bursts, 20 ms in all.
double measure_peak(Isa isa, int threads);

/// GFLOP/s of a burst of `flops` operations (about 50 us, so that a lost time slice spoils one and not all), on every one of `threads`
/// threads again and again for 20 ms: the best stretch of 16. What a burst returns only keeps it from being left out.
double best_rate(int threads, double flops, const std::function<float()>& burst);

/// GB/s (read plus written) of a copy that is larger than the caches, on the threads of the process's pool. Needs 256 MB meanwhile.
double measure_copy_bandwidth();

/// One burst: `rounds` times a multiply-add on each of the accumulators. Returns a value that depends on all of them.
using FmaBurst = float (*)(int64_t rounds, float factor, float term);
namespace cpu {
inline constexpr int kBurstFlops = 2 * 8 * 4;
float fma_burst(int64_t rounds, float factor, float term);
}  // namespace cpu
namespace avx2 {
inline constexpr int kBurstFlops = 2 * 12 * 8;
float fma_burst(int64_t rounds, float factor, float term);
}  // namespace avx2
namespace avx512 {
inline constexpr int kBurstFlops = 2 * 24 * 16;
float fma_burst(int64_t rounds, float factor, float term);
}  // namespace avx512

}  // namespace theia
