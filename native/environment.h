// What one JavaScript environment (the main thread or a worker) owns: its devices with their memory, buffers, the recorder and its plans.
// Nothing here is shared between environments but the thread pool.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "kernels/core/cpu.h"
#include "kernels/core/pool.h"
#include "kernels/core/tensor.h"
#include "native/devices.h"
#include "native/plan.h"

namespace theia::native {

/// A live buffer: the size asked for, and the block that holds it.
struct Buffer {
  Block* block = nullptr;
  int64_t bytes = 0;
  uint32_t generation = 0;  // raised at free: an old handle is recognised
  int device = 0;
};

/// The CPU's number among an environment's devices.
inline constexpr int kCpu = 0;

class Environment {
 public:
  Environment();
  ~Environment();

  /// The number of a device, opened at its first use. Throws ERR_DEVICE, ERR_CUDA.
  int open(const std::string& device);
  DeviceState& device(int number);

  /// A new buffer of `bytes` bytes, contents undefined. Handles are numbers below 2^53 that are never used twice.
  uint64_t allocate(int64_t bytes, int device);
  /// Throws ERR_DISPOSED if the handle is not alive.
  void release(uint64_t handle);
  Buffer& buffer(uint64_t handle);
  bool alive(uint64_t handle) const;

  /// Between host memory and a range of a buffer that lies inside it.
  void write(const Buffer& to, int64_t offset, const std::byte* host, int64_t bytes);
  void read(const Buffer& from, int64_t offset, std::byte* host, int64_t bytes);
  /// Between buffers, on one device or across.
  void transfer(const Buffer& from, int64_t from_offset, const Buffer& to, int64_t to_offset, int64_t bytes);
  void clear(const Buffer& to, int64_t offset, int64_t bytes);

  /// Memory for write_later and read_later, for as long as the result lives; pinned where the device has use for that.
  std::shared_ptr<std::byte> pinned(int64_t bytes, int device);
  /// Makes the whole pages within [host, host + bytes) such memory until unlock, and returns where they start (0 on the CPU: nothing to
  /// do). The caller keeps the memory alive. For what several threads share, which memory of the function above is not.
  int64_t lock(std::byte* host, int64_t bytes, int device);
  /// `start`: of the pages. Waits for the copies. Nothing happens to memory that is not locked; does not throw.
  void unlock(std::byte* start) noexcept;
  /// Like write and read, but returns at once; `host` is in use until reach(device, ticket). Where it is not pinned (or the device is the
  /// CPU) the copy is done at once, and the ticket 0.
  uint64_t write_later(const Buffer& to, int64_t offset, const std::byte* host, int64_t bytes);
  uint64_t read_later(const Buffer& from, int64_t offset, std::byte* host, int64_t bytes);
  void reach(int device, uint64_t ticket);

  /// Reads one op's arguments from the call area (layout: call.h), checks and runs them, and records them while recording.
  void dispatch(int op, std::span<const double> area);
  /// Bytes of scratch the op now in the call area needs; its flops and bytes (for bench and trace).
  struct Cost {
    double flops, bytes;
    int64_t workspace;
  };
  Cost cost(int op, std::span<const double> area);

  void begin_recording();
  /// Ends the recording and returns the plan's number.
  uint32_t end_recording();
  void drop_recording();
  bool recording() const { return recorder_ != nullptr; }
  void replay(uint32_t plan);
  void release_plan(uint32_t plan);
  int64_t plan_calls(uint32_t plan);

  struct Memory {
    int64_t live;     // bytes that tensors and plans hold
    int64_t scratch;  // bytes of workspace kept from op to op
    int64_t peak;     // the largest live + scratch
    int64_t cached, buffers, plans;
    int64_t pinned;  // bytes of locked host memory
  };
  Memory memory(int device);
  void reset_peak();
  void trim();

  /// The instruction set of this environment's kernels. Tests lower it to compare variants within one process.
  Isa isa = cpu_isa();

 private:
  /// Reads, resolves and checks a call; returns the number of the device that its tensors lie on.
  int read_call(int op, std::span<const double> area, void* args);
  int64_t workspace_of(int op, const void* args, int device, int threads);
  void run(int op, const void* args, int device, Pool& workers, int64_t scratch, bool may_wait);
  void release_block(Block* block);
  void record(int op, const void* args, int device, int threads, int64_t scratch);
  void place_transients(Plan& plan);
  void settle(Plan& plan);
  void capture(Plan& plan);
  void forget(Plan& plan);
  Plan& plan(uint32_t number);
  Device* later(const Buffer& buffer, const std::byte* host, int64_t bytes);

  std::vector<std::unique_ptr<DeviceState>> devices_;
  struct Pinned {
    int64_t bytes;
    int device;
    bool locked;  // somebody else's
  };
  using PinnedMap = std::map<std::byte*, Pinned, std::less<>>;
  /// By start. The owners of what is not locked may outlive the environment.
  std::shared_ptr<PinnedMap> pinned_ = std::make_shared<PinnedMap>();
  std::vector<Buffer> buffers_;
  std::vector<uint32_t> free_slots_;
  int64_t alive_ = 0;
  std::unique_ptr<Plan> recorder_;
  std::unordered_map<uint32_t, std::unique_ptr<Plan>> plans_;
  uint32_t next_plan_ = 1;
};

}  // namespace theia::native
