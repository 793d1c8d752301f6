// The backend `simt`: memory of the host that counts as a device's own, and everything done at once. Kernels run in the emulator
// (kernels/simt/). It is not there to be quick, but to be strict: fresh memory holds NaN patterns.
#include "kernels/cuda/runtime.h"

#ifndef __CUDACC__

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "kernels/cuda/backend.h"
#include "kernels/gemm/device/choose.h"
#include "kernels/cuda/emulated_memory.h"
#include "kernels/table_device.h"

namespace theia::THEIA_DEVICE {

namespace {

std::atomic<bool> graphs{false};
std::atomic<int64_t> captured{0}, dropped{0};

class EmulatedDevice final : public Device {
 public:
  explicit EmulatedDevice(const DeviceInfo& info) : info_(info) {}
  const DeviceInfo& info() const override { return info_; }
  void* stream() const override { return nullptr; }
  void enter() override { memory_.open(); }
  void leave() noexcept override { memory_.close(); }

  std::byte* allocate(int64_t bytes) override { return memory_.allocate(bytes, info_.memory_bytes); }
  void release(std::byte* memory) noexcept override { memory_.release(memory); }
  void upload(std::byte* to, const std::byte* host, int64_t bytes) override { move(to, host, bytes); }
  void download(std::byte* host, const std::byte* from, int64_t bytes) override { move(host, from, bytes); }
  void copy(std::byte* to, const std::byte* from, int64_t bytes) override { move(to, from, bytes); }
  void fill(std::byte* to, int value, int64_t bytes) override {
    memory_.open();
    std::memset(to, value, static_cast<size_t>(bytes));
    memory_.close();
  }
  void wait() override {}

  uint64_t upload_later(std::byte* to, const std::byte* pinned, int64_t bytes) override {
    move(to, pinned, bytes);
    return 0;
  }
  uint64_t download_later(std::byte* pinned, const std::byte* from, int64_t bytes) override {
    move(pinned, from, bytes);
    return 0;
  }
  void reach(uint64_t) override {}

  // A graph is the calls themselves: what is tried with it is when one is made, launched and dropped. Off unless a test asks for it.
  bool captures() const override { return graphs; }
  void* capture(const std::function<void()>& calls) override {
    captured += 1;
    return new std::function<void()>(calls);
  }
  void launch_graph(void* graph) override { (*static_cast<std::function<void()>*>(graph))(); }
  void drop_graph(void* graph) noexcept override {
    dropped += 1;
    delete static_cast<std::function<void()>*>(graph);
  }

 private:
  void move(std::byte* to, const std::byte* from, int64_t bytes) {
    memory_.open();
    std::memmove(to, from, static_cast<size_t>(bytes));
    memory_.close();
  }
  const DeviceInfo& info_;  // the backend's: settings reach devices that are open
  EmulatedMemory memory_;
};

class Emulator final : public Backend {
 public:
  const char* name() const override { return "simt"; }
  int devices() override { return 1; }
  std::string trouble(int) override { return {}; }
  std::string versions() override { return {}; }
  DeviceInfo info(int) override { return info_; }
  std::unique_ptr<Device> open(int) override { return std::make_unique<EmulatedDevice>(info_); }
  std::byte* allocate_pinned(int64_t bytes) override {
    std::byte* p = poisoned_memory(bytes);
    if (!p) fail("ERR_OOM", "out of memory: %lld bytes for copies could not be had", static_cast<long long>(bytes));
    return p;
  }
  void release_pinned(std::byte* memory) noexcept override { std::free(memory); }
  void lock(std::byte*, int64_t bytes) override {
    if (bytes > lockable_) fail("ERR_OOM", "out of memory: %lld bytes for copies could not be locked", static_cast<long long>(bytes));
  }
  void unlock(std::byte*) noexcept override {}

  const DeviceEntry* table() const override { return device_table(); }

  void set(const std::string& option, const std::string& value) override {
    if (option == "schedule") return set_schedule(value.c_str());
    if (option == "multiprocessors") {
      const int n = std::atoi(value.c_str());
      if (n < 1 || n > 1024) fail("ERR_ARGS", "simt: expected multiprocessors of 1 to 1024, got '%.40s'", value.c_str());
      info_.multiprocessors = n;
    } else if (option == "capability") {
      if (value != "8.0" && value != "8.7" && value != "9.0")
        fail("ERR_ARGS", "simt: expected a capability of 8.0, 8.7 or 9.0, got '%.40s'", value.c_str());
      info_.major = value[0] - '0';
      info_.minor = value[2] - '0';
      const int64_t kilobytes = info_.major == 9 ? 227 : 163;
      info_.shared_per_block = kilobytes * 1024;
      info_.shared_per_multiprocessor = (kilobytes + 1) * 1024;
    } else if (option == "graphs") {
      graphs = value == "on";
    } else if (option == "protect") {
      EmulatedMemory::protect(value == "on");
    } else if (option == "memory") {
      const int64_t bytes = std::atoll(value.c_str());
      if (bytes < 0) fail("ERR_ARGS", "simt: expected memory in bytes, got '%.40s'", value.c_str());
      info_.memory_bytes = bytes;
    } else if (option == "lockable") {
      lockable_ = std::atoll(value.c_str());
    } else {
      fail("ERR_ARGS",
           "simt: expected an option of schedule, multiprocessors, capability, graphs, memory, lockable or protect, got '%.40s'",
           option.c_str());
    }
  }

  double count(const std::string& what) override {
    if (what.starts_with("gemm ")) return choice_for(what.c_str() + 5, info_);
    Statistics& s = statistics();
    const std::pair<const char*, int64_t*> counts[] = {
        {"launches", &s.launches}, {"blocks", &s.blocks},         {"threads", &s.threads},
        {"switches", &s.switches}, {"barriers", &s.barriers},     {"collectives", &s.collectives},
        {"mma", &s.mma},           {"ldmatrix", &s.ldmatrix},     {"async_copies", &s.async_copies},
        {"wgmma", &s.wgmma},       {"box_copies", &s.box_copies}, {"bank_conflicts", &s.bank_conflicts},
    };
    if (what == "captures") return static_cast<double>(captured.exchange(0));
    if (what == "dropped_graphs") return static_cast<double>(dropped.exchange(0));
    for (const auto& [name, value] : counts)
      if (what == name) return static_cast<double>(std::exchange(*value, 0));
    fail("ERR_ARGS", "simt counts no '%.40s'", what.c_str());
  }

 private:
  // As small as grids of tests are, so that what depends on the number of multiprocessors is seen in them; the rest is an H100's.
  DeviceInfo info_ = {"emulator", 9, 0, 8, 227 * 1024, 228 * 1024, 65536, int64_t{50} << 20, int64_t{8} << 30};
  std::atomic<int64_t> lockable_{int64_t{1} << 40};  // by one request
};

}  // namespace

Backend& backend() {
  static Emulator* const one = new Emulator;  // never destroyed: environments may go after static objects
  return *one;
}

}  // namespace theia::THEIA_DEVICE

/// What theia_simt.node is loaded for. Null for an addon of another build.
extern "C" __attribute__((visibility("default"))) theia::Backend* theia_simt_backend(int interface) {
  return interface == theia::kDeviceInterface ? &theia::THEIA_DEVICE::backend() : nullptr;
}

#endif
