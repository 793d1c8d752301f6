// The backend `cuda`: what the driver says, whether this build has code for a device, and why not.
#include "kernels/cuda/runtime.h"

#ifdef __CUDACC__

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/cuda/archs.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/device.h"
#include "kernels/table_device.h"

#ifndef THEIA_CUDA_ARCHS
#define THEIA_CUDA_ARCHS ""
#endif

namespace theia::THEIA_DEVICE {

namespace {

std::string version_text(int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); }

struct Driver {
  int devices = 0, driver = 0, runtime = 0;
  std::string trouble;  // why there are no devices
};

/// Asks once: a driver does not come while a process runs. Without one the runtime answers with an error, which is cleared here so that
/// nobody else meets it.
Driver look() {
  Driver d;
  (void)cudaRuntimeGetVersion(&d.runtime);
  (void)cudaDriverGetVersion(&d.driver);
  const cudaError_t status = cudaGetDeviceCount(&d.devices);
  (void)cudaGetLastError();
  if (status == cudaSuccess && d.devices > 0) return d;
  d.devices = 0;
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (status == cudaErrorInsufficientDriver && d.driver == 0)
    d.trouble = "no NVIDIA driver was found (libcuda.so.1)";
  else if (status == cudaErrorInsufficientDriver)
    d.trouble = "the NVIDIA driver supports CUDA " + version_text(d.driver) + ", but this build needs " + version_text(d.runtime);
  else if (status == cudaSuccess || status == cudaErrorNoDevice)
    d.trouble = visible ? "the driver shows no GPU (CUDA_VISIBLE_DEVICES is '" + std::string(visible).substr(0, 80) + "')"
                        : std::string("the driver shows no GPU");
  else
    d.trouble = std::string(cudaGetErrorString(status)) + " (" + cudaGetErrorName(status) + ")";
  return d;
}

const Driver& driver() {
  static const Driver* const found = new Driver(look());
  return *found;
}

int attribute(cudaDeviceAttr which, int index) {
  int value = 0;
  throw_if_failed("cudaDeviceGetAttribute", cudaDeviceGetAttribute(&value, which, index));
  return value;
}

class Cuda final : public Backend {
 public:
  const char* name() const override { return "cuda"; }
  int devices() override { return driver().devices; }
  std::string versions() override {
    const Driver& d = driver();
    return (d.driver ? "driver for CUDA " + version_text(d.driver) : std::string("no driver")) + ", runtime " + version_text(d.runtime) +
           ", code for " THEIA_CUDA_ARCHS;
  }

  std::string trouble(int index) override {
    const Driver& d = driver();
    if (d.devices == 0) return d.trouble;
    if (index >= d.devices) return "the driver shows " + std::to_string(d.devices) + (d.devices == 1 ? " GPU" : " GPUs");
    const int major = attribute(cudaDevAttrComputeCapabilityMajor, index), minor = attribute(cudaDevAttrComputeCapabilityMinor, index);
    if (!runs_on(THEIA_CUDA_ARCHS, major, minor))
      return "its compute capability is " + std::to_string(major) + "." + std::to_string(minor) + ", and this build has code for " +
             THEIA_CUDA_ARCHS;
    return {};
  }

  DeviceInfo info(int index) override {
    DeviceInfo i{};
    cudaDeviceProp p;
    throw_if_failed("cudaGetDeviceProperties", cudaGetDeviceProperties(&p, index));
    std::snprintf(i.name, sizeof i.name, "%.95s", p.name);
    i.major = p.major;
    i.minor = p.minor;
    i.multiprocessors = p.multiProcessorCount;
    i.shared_per_block = static_cast<int64_t>(p.sharedMemPerBlockOptin);
    i.shared_per_multiprocessor = static_cast<int64_t>(p.sharedMemPerMultiprocessor);
    i.registers_per_multiprocessor = p.regsPerMultiprocessor;
    i.l2_bytes = p.l2CacheSize;
    i.memory_bytes = static_cast<int64_t>(p.totalGlobalMem);
    return i;
  }

  std::unique_ptr<Device> open(int index) override {
    if (const std::string why = trouble(index); !why.empty()) fail("ERR_DEVICE", "device cuda:%d cannot be used: %s", index, why.c_str());
    return open_device(index, info(index));
  }

  std::byte* allocate_pinned(int64_t bytes) override {
    void* memory = nullptr;
    throw_if_failed("cudaHostAlloc", cudaHostAlloc(&memory, static_cast<size_t>(bytes), cudaHostAllocPortable));
    return static_cast<std::byte*>(memory);
  }
  void release_pinned(std::byte* memory) noexcept override {
    (void)cudaFreeHost(memory);
    (void)cudaGetLastError();
  }
  void lock(std::byte* memory, int64_t bytes) override {
    throw_if_failed("cudaHostRegister", cudaHostRegister(memory, static_cast<size_t>(bytes), cudaHostRegisterPortable));
  }
  void unlock(std::byte* memory) noexcept override {
    (void)cudaHostUnregister(memory);
    (void)cudaGetLastError();
  }

  const DeviceEntry* table() const override { return device_table(); }
  void set(const std::string& option, const std::string&) override { fail("ERR_ARGS", "cuda has no option '%.40s'", option.c_str()); }
  double count(const std::string& what) override { fail("ERR_ARGS", "cuda counts no '%.40s'", what.c_str()); }
};

}  // namespace

Backend& backend() {
  static Cuda* const one = new Cuda;  // never destroyed: environments may go after static objects
  return *one;
}

}  // namespace theia::THEIA_DEVICE

#endif
