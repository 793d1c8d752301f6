#include "kernels/cuda/staging.h"

#ifdef __CUDACC__

#include <algorithm>
#include <cstring>

namespace theia::THEIA_DEVICE {

cudaEvent_t make_event() {
  cudaEvent_t event;
  throw_if_failed("cudaEventCreate", cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}

Staging::~Staging() {
  drop(small_);
  drop(large_);
  for (const Landing& l : landings_) {
    (void)cudaFree(l.memory);
    (void)cudaEventDestroy(l.free);
  }
  if (arrived_) (void)cudaEventDestroy(arrived_);
}

void Staging::drop(Ring& ring) {
  if (ring.memory) (void)cudaFreeHost(ring.memory);
  for (cudaEvent_t event : ring.free)
    if (event) (void)cudaEventDestroy(event);
}

/// The next slot, when the device no longer reads it.
std::byte* Staging::take(Ring& ring, cudaEvent_t& free) {
  if (!ring.memory) {
    void* memory = nullptr;
    throw_if_failed("cudaMallocHost", cudaMallocHost(&memory, static_cast<size_t>(ring.slots * ring.slot_bytes)));
    ring.memory = static_cast<std::byte*>(memory);
  }
  const int slot = ring.next;
  ring.next = (slot + 1) % ring.slots;
  if (!ring.free[slot])
    ring.free[slot] = make_event();
  else
    throw_if_failed("cudaEventSynchronize", cudaEventSynchronize(ring.free[slot]));
  free = ring.free[slot];
  return ring.memory + slot * ring.slot_bytes;
}

/// A chunk of device memory that the copy stream may write: one that is free, else a new one while there are few, else the one that has
/// been in use for longest, which the copy stream then waits for.
Staging::Landing Staging::land() {
  if (!landings_.empty() && cudaEventQuery(landings_.front().free) == cudaSuccess) {
    const Landing found = landings_.front();
    landings_.pop_front();
    return found;
  }
  (void)cudaGetLastError();  // "not ready" is no error
  if (landings_.size() < kDeviceChunks) {
    void* memory = nullptr;
    const cudaError_t status = cudaMalloc(&memory, static_cast<size_t>(kChunk));
    if (status == cudaSuccess) return {static_cast<std::byte*>(memory), make_event()};
    if (landings_.empty()) throw_if_failed("cudaMalloc", status);
    (void)cudaGetLastError();
  }
  const Landing found = landings_.front();
  throw_if_failed("cudaStreamWaitEvent", cudaStreamWaitEvent(copy_, found.free, 0));
  landings_.pop_front();
  return found;
}

bool Staging::shrink() {
  const size_t before = landings_.size();
  while (!landings_.empty() && cudaEventQuery(landings_.front().free) == cudaSuccess) {
    (void)cudaFree(landings_.front().memory);
    (void)cudaEventDestroy(landings_.front().free);
    landings_.pop_front();
  }
  (void)cudaGetLastError();  // "not ready" is no error
  return landings_.size() < before;
}

void Staging::hop(std::byte* to, const std::byte* pinned, int64_t bytes) {
  if (!arrived_) arrived_ = make_event();
  const Landing l = land();
  landings_.push_back(l);  // at once: whatever fails below, it has an owner
  const size_t n = static_cast<size_t>(bytes);
  throw_if_failed("cudaMemcpyAsync", cudaMemcpyAsync(l.memory, pinned, n, cudaMemcpyHostToDevice, copy_));
  throw_if_failed("cudaEventRecord", cudaEventRecord(arrived_, copy_));
  throw_if_failed("cudaStreamWaitEvent", cudaStreamWaitEvent(compute_, arrived_, 0));
  throw_if_failed("cudaMemcpyAsync", cudaMemcpyAsync(to, l.memory, n, cudaMemcpyDeviceToDevice, compute_));
  throw_if_failed("cudaEventRecord", cudaEventRecord(l.free, compute_));
}

void Staging::upload(std::byte* to, const std::byte* host, int64_t bytes) {
  cudaEvent_t free;
  if (bytes <= kSmall) {  // scalars and the like: one hop, in order
    std::byte* const slot = take(small_, free);
    std::memcpy(slot, host, static_cast<size_t>(bytes));
    throw_if_failed("cudaMemcpyAsync", cudaMemcpyAsync(to, slot, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, compute_));
    throw_if_failed("cudaEventRecord", cudaEventRecord(free, compute_));
    return;
  }
  for (int64_t done = 0; done < bytes; done += kChunk) {
    const int64_t n = std::min(kChunk, bytes - done);
    std::byte* const slot = take(large_, free);
    std::memcpy(slot, host + done, static_cast<size_t>(n));
    hop(to + done, slot, n);
    throw_if_failed("cudaEventRecord", cudaEventRecord(free, copy_));
  }
}

void Staging::upload_pinned(std::byte* to, const std::byte* pinned, int64_t bytes) {
  for (int64_t done = 0; done < bytes; done += kChunk) hop(to + done, pinned + done, std::min(kChunk, bytes - done));
}

}  // namespace theia::THEIA_DEVICE

#endif
