// What a backend with memory of its own (cuda, simt) is to those above it. A backend's code lies in namespace theia::THEIA_DEVICE; these
// types do not: they are what crosses the border, and look the same from both sides.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace theia {

/// Raised when anything in this file changes: a theia_simt.node of another build is then refused instead of misread.
inline constexpr int kDeviceInterface = 4;

/// What launchers choose tiles by.
struct DeviceInfo {
  char name[96];
  int major, minor;          // compute capability; simt says 9.0
  int multiprocessors;       // 132 on an H100 or H200
  int64_t shared_per_block;  // bytes of shared memory a block may ask for (opt-in maximum): 227 KB on sm_90, 163 KB on sm_80 and 87
  int64_t shared_per_multiprocessor;
  int64_t registers_per_multiprocessor;
  int64_t l2_bytes;
  int64_t memory_bytes;
};

/// What a device kernel gets beside its arguments. Work goes to `stream` in order; nothing here waits for it.
struct DeviceContext {
  void* stream;          // cudaStream_t; unused by simt, which runs a launch at once
  std::byte* workspace;  // device memory, 256-byte aligned, of at least the op's workspace bytes; contents undefined
  int64_t workspace_bytes;
  const DeviceInfo* info;
};

/// One op on a device. An empty kernel is ERR_UNSUPPORTED naming op and backend.
struct DeviceEntry {
  const char* op;
  size_t args_bytes;
  void (*kernel)(const void* args, const DeviceContext& context);
  int64_t (*workspace)(const void* args, const DeviceInfo& info);  // null: none
};

/// One device as one environment uses it: memory, and a stream on which everything happens in the order of the calls. Nothing waits for
/// the device but what says so. All throw ERR_CUDA (with what an earlier kernel left behind, too) or ERR_OOM where nothing else is said.
class Device {
 public:
  virtual ~Device() = default;  // waits for the stream; does not throw

  virtual const DeviceInfo& info() const = 0;
  virtual void* stream() const = 0;
  /// Makes it the device of this thread, for the kernel launches that follow, and says that they are over.
  virtual void enter() = 0;
  virtual void leave() noexcept = 0;

  /// Device memory, 256-byte aligned, contents undefined; null if it cannot be had.
  virtual std::byte* allocate(int64_t bytes) = 0;
  /// What is still running may use it: freeing waits for that where it must. Does not throw.
  virtual void release(std::byte* memory) noexcept = 0;

  /// From the host; its memory may be changed as soon as this returns.
  virtual void upload(std::byte* to, const std::byte* host, int64_t bytes) = 0;
  /// To the host: waits until it is there.
  virtual void download(std::byte* host, const std::byte* from, int64_t bytes) = 0;
  virtual void copy(std::byte* to, const std::byte* from, int64_t bytes) = 0;
  virtual void fill(std::byte* to, int value, int64_t bytes) = 0;
  /// Waits for everything so far.
  virtual void wait() = 0;

  /// Like upload and download, from and to memory of Backend::allocate_pinned or lock, which is in use until reach(ticket) has returned.
  virtual uint64_t upload_later(std::byte* to, const std::byte* pinned, int64_t bytes) = 0;
  virtual uint64_t download_later(std::byte* pinned, const std::byte* from, int64_t bytes) = 0;
  virtual void reach(uint64_t ticket) = 0;

  /// True if launches can be captured and launched again as one. Where not, callers repeat the calls.
  virtual bool captures() const = 0;
  /// Captures what calls() launches, without running it. calls() allocates nothing and waits for nothing; what it throws is passed on.
  virtual void* capture(const std::function<void()>& calls) = 0;
  virtual void launch_graph(void* graph) = 0;
  virtual void drop_graph(void* graph) noexcept = 0;
};

/// A kind of device. There is one object of each kind in the process; it keeps nothing but what the driver said.
class Backend {
 public:
  virtual const char* name() const = 0;  // "cuda", "simt"
  /// Number of devices, whether this build has code for them or not. 0: trouble() says why.
  virtual int devices() = 0;
  /// Why there is no device, or why device `index` cannot be used; empty where it can.
  virtual std::string trouble(int index) = 0;
  /// What the machine has, as far as it is known: "driver 12.4, runtime 13.0".
  virtual std::string versions() = 0;
  virtual DeviceInfo info(int index) = 0;
  /// Throws ERR_DEVICE with trouble(index).
  virtual std::unique_ptr<Device> open(int index) = 0;
  /// Host memory that devices copy from and to by themselves, while host and device go on. Throws ERR_OOM. A device was opened before.
  virtual std::byte* allocate_pinned(int64_t bytes) = 0;
  virtual void release_pinned(std::byte* memory) noexcept = 0;
  /// Makes whole pages of somebody else's memory such memory, until unlock. Throws ERR_OOM, ERR_CUDA. A device was opened before.
  virtual void lock(std::byte* memory, int64_t bytes) = 0;
  virtual void unlock(std::byte* memory) noexcept = 0;
  /// kOps entries.
  virtual const DeviceEntry* table() const = 0;
  /// Settings of one backend that tests change; ERR_ARGS for a name it does not know. simt: schedule, multiprocessors, capability,
  /// memory, lockable, graphs, protect.
  virtual void set(const std::string& option, const std::string& value) = 0;
  /// What the emulator counted since the last call for this name: launches, blocks, barriers, mma, bank_conflicts, ... ERR_ARGS otherwise.
  virtual double count(const std::string& what) = 0;

 protected:
  ~Backend() = default;
};

}  // namespace theia
