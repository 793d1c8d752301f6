#include "kernels/core/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>

#include "kernels/core/pool.h"

namespace theia {

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Burst {
  FmaBurst run;
  int flops;  // of one round
};

Burst burst_of(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return {avx512::fma_burst, avx512::kBurstFlops};
  if (isa == Isa::avx2) return {avx2::fma_burst, avx2::kBurstFlops};
#endif
  static_cast<void>(isa);
  return {cpu::fma_burst, cpu::kBurstFlops};
}

}  // namespace

/// What every machine of the architecture has: 4 lanes, and a multiplication and an addition where there is no fused one.
float cpu::fma_burst(int64_t rounds, float factor, float term) {
  using v4 = float __attribute__((vector_size(16)));
  constexpr int kAccumulators = kBurstFlops / 8;
  v4 acc[kAccumulators];
#pragma GCC unroll 8
  for (int i = 0; i < kAccumulators; ++i) acc[i] = v4{} + (factor + static_cast<float>(i));
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < kAccumulators; ++i) acc[i] = acc[i] * factor + term;
  }
  v4 sum = acc[0];
#pragma GCC unroll 8
  for (int i = 1; i < kAccumulators; ++i) sum += acc[i];
  return sum[0];
}

double best_rate(int threads, double flops, const std::function<float()>& burst) {
  constexpr double kBudget = 0.020;
  constexpr int64_t kChunks = 16;  // a thread
  Pool pool(threads);
  std::atomic<float> sink = 0;
  double best = 0;
  const Clock::time_point start = Clock::now();
  do {
    const Clock::time_point begin = Clock::now();
    pool.run(kChunks * threads, [&](int64_t, int) { sink.store(burst(), std::memory_order_relaxed); });
    best = std::max(best, flops * static_cast<double>(kChunks) * threads / seconds_since(begin) / 1e9);
  } while (seconds_since(start) < kBudget);
  return best;
}

double measure_peak(Isa isa, int threads) {
  const Burst burst = burst_of(isa);
  constexpr int64_t kRounds = 1 << 14;
  // x = x/2 + 1/2 tends to 1: no overflow, no subnormal.
  return best_rate(threads, static_cast<double>(kRounds) * burst.flops, [&] { return burst.run(kRounds, 0.5f, 0.5f); });
}

double measure_copy_bandwidth() {
  constexpr size_t kBytes = size_t{128} << 20, kChunk = size_t{4} << 20;
  const std::unique_ptr<std::byte[]> from(new std::byte[kBytes]), to(new std::byte[kBytes]);
  std::memset(from.get(), 1, kBytes);
  std::memset(to.get(), 2, kBytes);
  const std::shared_ptr<Pool> workers = pool();
  double best = 0;
  for (int i = 0; i < 4; ++i) {
    const Clock::time_point begin = Clock::now();
    workers->run(static_cast<int64_t>(kBytes / kChunk), [&](int64_t chunk, int) {
      const size_t at = static_cast<size_t>(chunk) * kChunk;
      std::memcpy(to.get() + at, from.get() + at, kChunk);
    });
    best = std::max(best, 2.0 * static_cast<double>(kBytes) / seconds_since(begin) / 1e9);
  }
  return best;
}

}  // namespace theia
