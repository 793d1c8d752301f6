#include "kernels/gemm/tile_peak.h"

#include <algorithm>
#include <vector>

#include "kernels/core/peak.h"
#include "kernels/gemm/gemm.h"

namespace theia {

double measure_tile_peak(Isa isa, int threads) {
#if defined(__x86_64__)
  if (isa != Isa::plain) {
    const bool wide = isa == Isa::avx512;
    const int rows = wide ? avx512::tile_rows() : avx2::tile_rows();
    const auto burst = wide ? avx512::tile_burst : avx2::tile_burst;
    constexpr int64_t kRounds = 128;  // about 60 us, as the bursts of measure_peak
    // Values near 1: no subnormals.
    const std::vector<float> a(static_cast<size_t>(rows * kTileDepth), 1.25f), b(static_cast<size_t>(kTileDepth * kPanel), 0.75f);
    return best_rate(threads, 2.0 * static_cast<double>(rows * kPanel * kTileDepth * kRounds), [&] {
      alignas(64) float out[8 * kPanel];
      burst(kRounds, a.data(), b.data(), out);
      return out[0];
    });
  }
#endif
  return measure_peak(isa, threads);
}

}  // namespace theia
