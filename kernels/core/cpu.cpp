#include "kernels/core/cpu.h"

#include <cstdlib>
#include <cstring>

#include "kernels/core/error.h"

namespace theia {

bool has_isa(Isa isa) {
  if (isa == Isa::plain) return true;
#if defined(__x86_64__)
  __builtin_cpu_init();
  // "f" alone is not enough: the AVX-512 files are compiled for the server set (F, BW, DQ, VL), as x86-64-v4 defines it.
  if (isa == Isa::avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#else
  return false;
#endif
}

Isa cpu_isa() {
  static const Isa chosen = [] {
    if (const char* wanted = std::getenv("THEIA_CPU"); wanted && *wanted) {
      for (int i = 0; i < kIsas; ++i)
        if (std::strcmp(wanted, kIsaNames[i]) == 0) {
          if (!has_isa(static_cast<Isa>(i))) fail("ERR_CONFIG", "THEIA_CPU asks for %s, which this machine lacks", wanted);
          return static_cast<Isa>(i);
        }
      fail("ERR_CONFIG", "THEIA_CPU: expected plain, avx2 or avx512, got '%.40s'", wanted);
    }
    return has_isa(Isa::avx512) ? Isa::avx512 : has_isa(Isa::avx2) ? Isa::avx2 : Isa::plain;
  }();
  return chosen;
}

}  // namespace theia
