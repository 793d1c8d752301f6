// The emulator's own tests: kernels that must come out right, and kernels with one planted bug each that must be caught.
//   theia_simt_selftest --list
//   theia_simt_selftest [--schedule S]... [--right] [CASE...]     one line of JSON a case and schedule: what became of it
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/runtime.h"

namespace theia::simt::selftest {

struct Case {
  const char* name;
  void (*run)();
};

std::span<const Case> lane_cases();        // lane maps against plain loops
std::span<const Case> number_cases();      // conversions and other functions without lanes
std::span<const Case> kernel_cases();      // right kernels
std::span<const Case> bug_cases();         // kernels whose results or barriers are wrong
std::span<const Case> hopper_cases();      // right kernels by sm_90's own instructions
std::span<const Case> hopper_bug_cases();  // and wrong ones
std::span<const Case> address_cases();     // kernels that reach outside of what is theirs, and launches that cannot be

/// Ends the case: its result is not what it must be.
[[noreturn]] void wrong(const char* format, ...) __attribute__((format(printf, 1, 2)));
/// wrong() if a value is not within `limit` of what it must be; NaN never is.
void expect_near(const char* what, int64_t index, double got, double want, double limit);
void expect_equal(const char* what, int64_t index, int64_t got, int64_t want);

/// Without info: the emulator's own limits.
inline constexpr DeviceContext kContext{};

/// The same numbers on every machine.
class Numbers {
 public:
  explicit Numbers(uint32_t seed) : state_(seed) {}
  uint32_t bits() { return state_ = state_ * 1664525u + 1013904223u; }
  /// In [-1, 1], with few enough bits to be exact in bf16 and f16.
  float small() { return static_cast<float>(static_cast<int>(bits() >> 16) % 129 - 64) / 64.f; }

 private:
  uint32_t state_;
};

}  // namespace theia::simt::selftest
