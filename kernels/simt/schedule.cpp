#include "kernels/simt/schedule.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "kernels/core/error.h"
#include "kernels/simt/emulator.h"

namespace theia::simt {
namespace {

// Order in the two top bits, seed below; all ones: not set yet.
constexpr uint64_t kUnset = ~uint64_t{0};
constexpr uint64_t kSeedMask = (uint64_t{1} << 62) - 1;
std::atomic<uint64_t> chosen{kUnset};

uint64_t parse(const char* text, const char* where) {
  using enum Schedule::Order;
  const auto code = [](Schedule::Order order, uint64_t seed) { return static_cast<uint64_t>(order) << 62 | (seed & kSeedMask); };
  if (std::strcmp(text, "forward") == 0) return code(forward, 0);
  if (std::strcmp(text, "reverse") == 0) return code(reverse, 0);
  if (std::strncmp(text, "random:", 7) == 0 && text[7] >= '0' && text[7] <= '9') {
    char* end = nullptr;
    const unsigned long long seed = std::strtoull(text + 7, &end, 10);
    if (*end == 0) return code(random, seed);
  }
  fail("ERR_ARGS", "%s: expected forward, reverse or random:SEED, got \"%.40s\"", where, text);
}

}  // namespace

void set_schedule(const char* text) { chosen.store(parse(text, "schedule"), std::memory_order_relaxed); }

Schedule current_schedule() {
  uint64_t code = chosen.load(std::memory_order_relaxed);
  if (code == kUnset) {
    const char* const variable = std::getenv("THEIA_SIMT_SCHEDULE");
    code = parse(variable && *variable ? variable : "forward", "THEIA_SIMT_SCHEDULE");
    chosen.store(code, std::memory_order_relaxed);
  }
  return {static_cast<Schedule::Order>(code >> 62), code & kSeedMask};
}

BlockOrder::BlockOrder(Schedule schedule, uint64_t n, uint64_t salt) : n_(n), start_(0), step_(1) {
  if (schedule.order == Schedule::Order::reverse) {
    start_ = n - 1;
    step_ = n - 1;  // minus one, modulo n
  } else if (schedule.order == Schedule::Order::random) {
    Random random(schedule.seed ^ salt);
    start_ = random.below(static_cast<uint32_t>(n < 0xffffffffu ? n : 0xffffffffu));
    do step_ = 1 + random.below(static_cast<uint32_t>(n < 0xffffffffu ? n : 0xffffffffu));
    while (std::gcd(step_, n) != 1);
  }
}

}  // namespace theia::simt
