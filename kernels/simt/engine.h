// The state of a running block: threads, warps, barriers and shared memory. One engine an OS thread, so that several may run kernels at
// the same time. Inside of the emulator only.
#pragma once
#include <cstdarg>
#include <exception>
#include <string>

#include "kernels/simt/emulator.h"
#include "kernels/simt/fiber.h"
#include "kernels/simt/hopper_state.h"
#include "kernels/simt/sanitizers.h"
#include "kernels/simt/schedule.h"

namespace theia::simt {

inline constexpr int kLanes = 32;
inline constexpr int kWarps = kBlockThreads / kLanes;
/// A barrier releases by one token and acquires by the same; the next uses the other. With one, a fast thread's next release would order
/// what nothing orders.
struct Tokens {
  char token[2];
  int turn;
};

/// Lanes of one mask on their way into one warp operation. Several may be under way in a warp: half of it may wait for all, and the other
/// half first do something of its own.
struct Meeting {
  const WarpOp* op;
  Site site;
  unsigned mask;
  unsigned arrived;
};

struct Thread;

struct Warp {
  unsigned exist;       // lanes that the block has
  unsigned ready;       // lanes that can run
  unsigned gone;        // lanes that have left the kernel
  unsigned at_barrier;  // lanes in the block's barrier
  int index;
  Thread* threads;  // 32
  void* operands[kLanes];
  int meetings_count;
  Meeting meetings[kLanes];
  Tokens tokens[kLanes];  // by the lowest lane of the mask
  /// One that waits for this lane; null if none does.
  const Meeting* waits_for(unsigned bit) const {
    for (int i = 0; i < meetings_count; ++i)
      if (meetings[i].mask & ~meetings[i].arrived & bit) return &meetings[i];
    return nullptr;
  }
};

/// Copies of one thread on their way from global to shared memory, in order.
struct AsyncQueue {
  struct Copy {
    std::byte* shared;
    const std::byte* global;
    void* pc;
    int8_t bytes, valid;
    bool landed;
    int group;
  };
  Copy* copies = nullptr;
  int capacity = 0, first = 0, count = 0;
  int group = 0;  // of the next copy; groups before it are committed
  // For the race detector: what was issued, and what of which group has landed.
  char issued = 0, landed[16] = {};
};

struct Thread : Place {
  Fiber* fiber;
  Warp* warp;
  unsigned bit;
  AsyncQueue queue;
  const MBarrier* waits;  // for the end of its phase
  int waits_named;        // a barrier of some warps; 0: none
  Site waits_at;
};

/// Shared memory of the running block: the dynamic part, then the static arrays as they are met, with a gap behind each.
class SharedMemory {
 public:
  ~SharedMemory();
  /// For a new launch: forgets static arrays.
  void start_launch(int64_t dynamic_bytes);
  /// For a new block: everything is 0xff, NaN in every floating-point type.
  void start_block();
  std::byte* dynamic() { return memory_; }
  /// Null if there is no room.
  void* array(const void* key, size_t bytes, size_t align);
  /// Whether an array, or the dynamic part, holds all of these bytes.
  bool holds(const void* p, size_t bytes) const;
  struct Overrun {
    const char* what;  // null: none
    int64_t bytes, offset;
  };
  /// Looks for writes into the gaps. (Under AddressSanitizer there are none to be found: it stops at the write.)
  Overrun overrun() const;

 private:
  static constexpr int64_t kGap = 256;
  static constexpr int kArrays = 64;
  static constexpr int64_t kMapped = kSharedLimit + (kArrays + 2) * 1024;
  struct Array {
    const void* key;
    int64_t offset, bytes;
  };
  void fill(int64_t from, int64_t to);

  std::byte* memory_ = nullptr;
  int64_t dynamic_bytes_ = 0, static_bytes_ = 0, end_ = 0;
  Array arrays_[kArrays] = {};
  int count_ = 0;
};

struct Engine {
  // The launch.
  const char* kernel = nullptr;
  Schedule schedule{};
  void (*body)(const void*) = nullptr;
  const void* data = nullptr;
  int threads = 0, warps = 0;

  // The block.
  Thread* current = nullptr;  // null: no kernel runs
  Warp* warp = nullptr;
  unsigned ready_warps = 0;
  int gone = 0;
  int arrived = 0;  // in the barrier
  Site barrier_site{};
  Thread* barrier_first = nullptr;
  Combine barrier_combine{};
  int barrier_nonzero = 0, barrier_result = 0;
  Tokens barrier_tokens{};
  char block_token = 0;   // what came before the block
  char launch_token = 0;  // what its threads did: blocks do not wait for each other, only the launch for all
  bool failed = false;
  std::string failure;
  std::exception_ptr thrown;

  // The schedule.
  Random rng;
  uint8_t order[kWarps] = {};  // of warps, first first
  unsigned restless = 0;       // a warp gives way after one in so many warp operations; 0: never
  enum class Landing { late, at_once, either } landing{};

  // Under the race detector a block's threads are other fibers than those of the block before: a fiber's own accesses never race.
  static constexpr int kFiberSets = kRaceDetector ? 2 : 1;
  int fiber_set = 0;
  FiberPool fibers;
  /// For the race detector: who does the copies of each warp. Not the thread that issues them: it knows of them only after its wait.
  void* copiers[kFiberSets][kWarps] = {};
  Fiber host;  // where run_grid waits for the block
  SharedMemory shared;
  HopperState hopper{};
  Warp warp_of[kWarps] = {};
  Thread thread_of[kBlockThreads] = {};
  Statistics statistics{};

  ~Engine();
  void run_block(uint3 block);
  void shuffle_warps();
  /// The next thread to run, of this warp if it has one that can; null if no thread can.
  Thread* next();
  /// The next thread of the warp whose turn it is.
  Thread* next_warp();
  void switch_to(Thread* thread);
  /// The current thread cannot go on: runs others until something makes it ready.
  void block_current();
  void make_ready(Warp& w, unsigned lanes) {
    w.ready |= lanes;
    ready_warps |= 1u << w.index;
  }
  /// Ends the block with an error at this thread and line. Does not return.
  [[noreturn]] void stop(const Thread& thread, Site site, const char* format, ...) __attribute__((format(printf, 4, 5)));
  [[noreturn]] void stop_deadlock();
  /// If a thread waits for what hopper_barrier.cpp has.
  void stop_waiting();
  /// Ends the barrier's phase if nothing is left to wait for. The thread and line are those of an error.
  void settle(MBarrier& barrier, const Thread& thread, Site site);
  /// One of the boxes on their way arrives; false if there is none.
  bool land_box();
  /// Nothing may be under way when a thread, and when the block's last, leaves.
  void finish_products(const Thread& thread);
  void finish_block(const Thread& last);
  [[noreturn]] void leave();
};

extern __thread Engine* engine __attribute__((tls_model("initial-exec")));
/// This OS thread's engine.
Engine& get_engine();

bool same(Site a, Site b);
/// "(1,0,0)" of a thread, in a ring of buffers.
const char* name_of(const uint3& p);
/// "kernels/x/x.cu:12", in the same ring.
const char* name_of(Site site);
inline Thread& lane(Warp& w, unsigned lanes) { return w.threads[__builtin_ctz(lanes)]; }

void finish_copies(Thread& thread);
void reset_copies(Thread& thread);

}  // namespace theia::simt
