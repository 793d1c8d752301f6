#include "native/devices.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>

#include "kernels/core/error.h"
#include "kernels/ops.h"
#ifdef THEIA_WITH_CUDA
namespace theia::cuda {
Backend& backend();
}
#endif

namespace theia::native {

namespace {

/// Device memory of an environment's device.
class DeviceMemory final : public MemorySource {
 public:
  DeviceMemory(Device& device, const std::string& name, bool slabs) : device_(device), name_(name), slabs_(slabs) {}
  std::byte* take(int64_t bytes) override { return device_.allocate(bytes); }
  void give(std::byte* memory) noexcept override { device_.release(memory); }
  const char* name() const override { return name_.c_str(); }
  int64_t granularity() const override { return 256; }
  bool slabs() const override { return slabs_; }

 private:
  Device& device_;
  const std::string name_;
  const bool slabs_;
};

std::unique_ptr<MemorySource> memory_of(const DeviceName& name, Device* device) {
  // The emulator's blocks are allocations of their own, so that a sanitizer sees their ends.
  return device ? std::make_unique<DeviceMemory>(*device, name.text(), name.kind != "simt") : host_memory();
}

bool asks_to_wait() {
  const char* value = std::getenv("THEIA_SYNC");
  return value && *value && std::string(value) != "0";
}

/// The folder this addon was loaded from.
std::string own_folder() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<void*>(&own_folder), &info) || !info.dli_fname) return ".";
  const std::string file = info.dli_fname;
  const size_t slash = file.rfind('/');
  return slash == std::string::npos ? "." : file.substr(0, slash);
}

/// The emulator is a shared object of its own, so that users need not carry it and its sanitizer builds touch nothing else.
Backend& load_simt() {
  const char* chosen = std::getenv("THEIA_SIMT");
  const std::string file = chosen && *chosen ? chosen : own_folder() + "/theia_simt.node";
  // Never unloaded: exceptions and tables of its own may be held until the process ends.
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) fail("ERR_DEVICE", "device simt: expected the emulator beside the addon; %s", dlerror());
  const auto entry = reinterpret_cast<Backend* (*)(int)>(dlsym(library, "theia_simt_backend"));
  Backend* backend = entry ? entry(kDeviceInterface) : nullptr;
  bool same = backend != nullptr;
  for (int i = 0; same && i < kOps; ++i) {
    const DeviceEntry& entry = backend->table()[i];
    same = op_info(static_cast<Op>(i)).name == std::string(entry.op) && op_info(static_cast<Op>(i)).args_bytes == entry.args_bytes;
  }
  if (!same) fail("ERR_DEVICE", "device simt: %s belongs to another build of the addon", file.c_str());
  return *backend;
}

}  // namespace

DeviceName parse_device(const std::string& name) {
  if (name == "cpu" || name == "simt" || name == "cuda") return {name, 0};
  const size_t digits = name.size() - 5;
  if (name.rfind("cuda:", 0) == 0 && digits >= 1 && digits <= 4 && (digits == 1 || name[5] != '0') &&
      name.find_first_not_of("0123456789", 5) == std::string::npos)
    return {"cuda", std::atoi(name.c_str() + 5)};
  fail("ERR_DEVICE", "expected a device of cpu, cuda, cuda:N or simt, got '%.40s'", name.c_str());
}

Backend& backend_of(const std::string& kind) {
  if (kind == "simt") {
    static std::mutex mutex;
    static Backend* simt = nullptr;
    const std::lock_guard lock(mutex);
    if (!simt) simt = &load_simt();
    return *simt;
  }
#ifdef THEIA_WITH_CUDA
  if (kind == "cuda") return cuda::backend();
#endif
  fail("ERR_DEVICE", "device %s: this addon was built without CUDA", kind.c_str());
}

DeviceState::DeviceState(const DeviceName& n)
    : name(n.text()),
      backend(n.kind == "cpu" ? nullptr : &backend_of(n.kind)),
      device(backend ? backend->open(n.index) : nullptr),
      allocator(memory_of(n, device.get())),
      synchronous(asks_to_wait()) {}

DeviceState::~DeviceState() {
  if (scratch_) allocator.release(scratch_);
  if (transients_) allocator.release(transients_);
}

void DeviceState::hold_transients(int64_t bytes) {
  holders_ += 1;
  transient_bytes_ = std::max(transient_bytes_, bytes);
}

void DeviceState::drop_transients() {
  if (--holders_ > 0) return;
  if (transients_) allocator.release(transients_);
  transients_ = nullptr;
  transient_bytes_ = 0;
}

std::byte* DeviceState::transients() {
  if (!transients_ || transients_->bytes < transient_bytes_) {
    if (transients_) allocator.release(transients_);
    transients_ = nullptr;
    allocator.trim();  // what the recording used lies in the cache, about as much again
    transient_moves += 1;
    transients_ = allocator.allocate(transient_bytes_);
  }
  return transients_->data;
}

std::byte* DeviceState::reserve_scratch(int64_t bytes) {
  if (!scratch_ || scratch_->bytes < bytes) {
    if (scratch_) allocator.release(scratch_);
    scratch_ = nullptr;
    scratch_ = allocator.allocate(bytes);
    scratch_moves += 1;
  }
  return scratch_->data;
}

}  // namespace theia::native
