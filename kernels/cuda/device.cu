// One GPU as one environment uses it: a stream for kernels, one for copies to it, tickets for what is under way, graphs.
#include "kernels/cuda/device.h"

#include "kernels/cuda/runtime.h"

#ifdef __CUDACC__

#include <map>
#include <vector>

#include "kernels/cuda/staging.h"

namespace theia::THEIA_DEVICE {

namespace {

/// A stream that does not wait for the null stream. Not freed by an error: destroying is told nothing new.
struct Stream {
  cudaStream_t handle = nullptr;
  Stream() { throw_if_failed("cudaStreamCreate", cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking)); }
  ~Stream() { (void)cudaStreamDestroy(handle); }
};

/// Makes the device this thread's, before any member of CudaDevice is made.
struct Entered {
  explicit Entered(int index) { throw_if_failed("cudaSetDevice", cudaSetDevice(index)); }
};

class CudaDevice final : public Device {
 public:
  CudaDevice(int index, const DeviceInfo& info) : index_(index), info_(info), entered_(index), staging_(compute_.handle, copy_.handle) {}
  // At the end of a process the driver may be gone before the environment: errors say nothing then.
  ~CudaDevice() override {
    (void)cudaSetDevice(index_);
    (void)cudaStreamSynchronize(copy_.handle);
    (void)cudaStreamSynchronize(compute_.handle);
    for (auto& [ticket, event] : pending_) (void)cudaEventDestroy(event);
    for (cudaEvent_t event : spare_) (void)cudaEventDestroy(event);
    (void)cudaGetLastError();
  }

  const DeviceInfo& info() const override { return info_; }
  void* stream() const override { return compute_.handle; }
  void enter() override { throw_if_failed("cudaSetDevice", cudaSetDevice(index_)); }
  void leave() noexcept override {}

  std::byte* allocate(int64_t bytes) override {
    enter();
    void* memory = nullptr;
    cudaError_t status = cudaMalloc(&memory, static_cast<size_t>(bytes));
    if (status == cudaErrorMemoryAllocation && staging_.shrink()) status = cudaMalloc(&memory, static_cast<size_t>(bytes));
    if (status == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      return nullptr;
    }
    throw_if_failed("cudaMalloc", status);
    return static_cast<std::byte*>(memory);
  }
  void release(std::byte* memory) noexcept override {
    (void)cudaSetDevice(index_);
    (void)cudaFree(memory);  // waits for the kernels that use it
    (void)cudaGetLastError();
  }

  void upload(std::byte* to, const std::byte* host, int64_t bytes) override {
    enter();
    staging_.upload(to, host, bytes);
  }
  void download(std::byte* host, const std::byte* from, int64_t bytes) override {
    enter();
    throw_if_failed("reading a tensor", cudaMemcpyAsync(host, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, compute_.handle));
    wait();
  }
  void copy(std::byte* to, const std::byte* from, int64_t bytes) override {
    enter();
    throw_if_failed("cudaMemcpyAsync", cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, compute_.handle));
  }
  void fill(std::byte* to, int value, int64_t bytes) override {
    enter();
    throw_if_failed("cudaMemsetAsync", cudaMemsetAsync(to, value, static_cast<size_t>(bytes), compute_.handle));
  }
  void wait() override {
    enter();
    // Whatever a kernel did wrong is reported by the first call that waits for it.
    throw_if_failed("waiting for earlier kernels", cudaStreamSynchronize(compute_.handle));
  }

  uint64_t upload_later(std::byte* to, const std::byte* pinned, int64_t bytes) override {
    enter();
    staging_.upload_pinned(to, pinned, bytes);
    return ticket(copy_.handle);
  }
  uint64_t download_later(std::byte* pinned, const std::byte* from, int64_t bytes) override {
    enter();
    throw_if_failed("cudaMemcpyAsync", cudaMemcpyAsync(pinned, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, compute_.handle));
    return ticket(compute_.handle);
  }
  void reach(uint64_t ticket) override {
    const auto found = pending_.find(ticket);
    if (found == pending_.end()) return;  // reached before
    enter();
    throw_if_failed("waiting for a copy", cudaEventSynchronize(found->second));
    spare_.push_back(found->second);
    pending_.erase(found);
  }

  bool captures() const override { return true; }
  void* capture(const std::function<void()>& calls) override {
    enter();
    throw_if_failed("cudaStreamBeginCapture", cudaStreamBeginCapture(compute_.handle, cudaStreamCaptureModeThreadLocal));
    cudaGraph_t graph = nullptr;
    try {
      calls();
    } catch (...) {  // the stream must leave its capture
      (void)cudaStreamEndCapture(compute_.handle, &graph);
      if (graph) (void)cudaGraphDestroy(graph);
      (void)cudaGetLastError();
      throw;
    }
    throw_if_failed("cudaStreamEndCapture", cudaStreamEndCapture(compute_.handle, &graph));
    cudaGraphExec_t exec = nullptr;
    const cudaError_t made = cudaGraphInstantiate(&exec, graph, 0);
    (void)cudaGraphDestroy(graph);
    throw_if_failed("cudaGraphInstantiate", made);
    (void)cudaGraphUpload(exec, compute_.handle);  // the first launch is then as quick as the others; if not, it does the work
    (void)cudaGetLastError();
    return exec;
  }
  void launch_graph(void* graph) override {
    enter();
    throw_if_failed("cudaGraphLaunch", cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), compute_.handle));
  }
  void drop_graph(void* graph) noexcept override {
    (void)cudaSetDevice(index_);
    (void)cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
    (void)cudaGetLastError();
  }

 private:
  /// A number for what is in the stream now. The oldest of many that nobody waited for is waited for, so that they stay few.
  uint64_t ticket(cudaStream_t stream) {
    if (pending_.size() >= 256) reach(pending_.begin()->first);
    cudaEvent_t event;
    if (spare_.empty()) {
      event = make_event();
    } else {
      event = spare_.back();
      spare_.pop_back();
    }
    pending_.emplace(++tickets_, event);
    throw_if_failed("cudaEventRecord", cudaEventRecord(event, stream));
    return tickets_;
  }

  const int index_;
  const DeviceInfo info_;
  const Entered entered_;
  Stream compute_, copy_;
  Staging staging_;
  std::map<uint64_t, cudaEvent_t> pending_;
  std::vector<cudaEvent_t> spare_;
  uint64_t tickets_ = 0;
};

}  // namespace

std::unique_ptr<Device> open_device(int index, const DeviceInfo& info) { return std::make_unique<CudaDevice>(index, info); }

}  // namespace theia::THEIA_DEVICE

#endif
