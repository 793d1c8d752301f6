// Stacks that can be switched between: what a CUDA thread runs on. The sanitizers are told of every switch.
#pragma once
#include <cstddef>

namespace theia::simt {

struct Fiber {
  void* sp = nullptr;
  std::byte* bottom = nullptr;  // null: the stack of the OS thread
  size_t bytes = 0;
  size_t shift = 0;  // where the stack starts below its top, so that all stacks do not fall on the same lines of the cache
  void* tsan = nullptr;
  void* asan = nullptr;
};

/// Makes the fiber start with entry() at the next switch to it. entry() never returns.
void prepare(Fiber& fiber, void (*entry)());
/// Must be the first call of entry().
void entered();
/// Leaves `from` and goes on in `to`; returns when something switches back to `from`.
void switch_fiber(Fiber& from, Fiber& to);

/// Fibers for one OS thread. Stacks have a guard page below them.
class FiberPool {
 public:
  static constexpr size_t kStackBytes = 128 * 1024;
  ~FiberPool();
  /// At least `count` fibers.
  void reserve(int count);
  Fiber& operator[](int i) { return *fibers_[i]; }
  /// Forgets what fibers were in the middle of. They may then be prepared again.
  void abandon();

 private:
  static constexpr int kMost = 4096;
  struct Region {
    std::byte* memory;
    size_t bytes;
  };
  Fiber* fibers_[kMost] = {};
  int count_ = 0;
  Region regions_[64] = {};
  int region_count_ = 0;
};

}  // namespace theia::simt
