// In which order blocks, warps and lanes run, and when asynchronous copies land. Which of two racing accesses comes first is a matter of
// the schedule, so a kernel is run under several.
//   forward    the first warp runs as far as it can before the next starts; copies land as late as they may
//   reverse    the last block, warp and lane first; copies land at once
//   random:N   a warp of random priority runs ahead, priorities change at barriers and now and then; blocks, lanes and copies at random
#pragma once
#include <cstdint>

namespace theia::simt {

struct Schedule {
  enum class Order { forward, reverse, random } order;
  uint64_t seed;
};

/// What is set now: by set_schedule, else by THEIA_SIMT_SCHEDULE, else forward. Throws ERR_ARGS for a bad value of the variable.
Schedule current_schedule();

/// Small and fast; the numbers are the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed = 1) : state_(seed) { next(); }
  uint32_t next() {
    state_ += 0x9e3779b97f4a7c15u;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<uint32_t>((z ^ (z >> 31)) >> 16);
  }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(static_cast<uint64_t>(next()) * n >> 32); }

 private:
  uint64_t state_;
};

/// The i-th of n blocks to run: a permutation of 0..n-1.
struct BlockOrder {
  BlockOrder(Schedule schedule, uint64_t n, uint64_t salt);
  uint64_t operator()(uint64_t i) const { return static_cast<uint64_t>((static_cast<unsigned __int128>(i) * step_ + start_) % n_); }

 private:
  uint64_t n_, start_, step_;
};

}  // namespace theia::simt
