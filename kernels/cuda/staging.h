// The way of host memory to the device while the device computes.
//
// A copy into a tensor may not overtake the kernels that still read the tensor's old values, and a copy in their stream would wait behind
// them with the copy engine idle. So values go in two hops: by the copy stream into a region of their own on the device, which may happen
// while a step runs; and from there into the tensor in the compute stream, at memory speed (1 % of the time of the first hop). What lies
// in ordinary host memory goes by way of pinned chunks, since the copy engine cannot reach it.
#pragma once
#include <deque>

#include "kernels/cuda/runtime.h"

#ifdef __CUDACC__

namespace theia::THEIA_DEVICE {

class Staging {
 public:
  /// Streams of the current device. Nothing is allocated before the first copy.
  Staging(cudaStream_t compute, cudaStream_t copy) : compute_(compute), copy_(copy) {}
  ~Staging();  // both streams idle
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// `host` may be changed as soon as this returns. Waits only when all pinned chunks are under way.
  void upload(std::byte* to, const std::byte* host, int64_t bytes);
  /// `pinned` is read until all that is in the copy stream now has happened.
  void upload_pinned(std::byte* to, const std::byte* pinned, int64_t bytes);
  /// Gives back the device memory that no copy uses at this moment, for when there is no other. False if there was none.
  bool shrink();

 private:
  static constexpr int64_t kSmall = int64_t{64} << 10, kChunk = int64_t{8} << 20;
  static constexpr int kSmallSlots = 64, kPinnedChunks = 6;
  static constexpr size_t kDeviceChunks = 64;  // 512 MB: a batch of 128 images with the features of five teachers

  /// Pinned memory in slots that are used in turn, each with the event that tells when it is free again.
  struct Ring {
    std::byte* memory = nullptr;
    int64_t slot_bytes;
    int slots, next = 0;
    cudaEvent_t free[kSmallSlots] = {};
  };
  struct Landing {
    std::byte* memory;
    cudaEvent_t free;
  };
  std::byte* take(Ring& ring, cudaEvent_t& free);
  void drop(Ring& ring);
  Landing land();
  void hop(std::byte* to, const std::byte* pinned, int64_t bytes);

  const cudaStream_t compute_, copy_;
  Ring small_{nullptr, kSmall, kSmallSlots}, large_{nullptr, kChunk, kPinnedChunks};
  std::deque<Landing> landings_;  // the longest used first
  cudaEvent_t arrived_ = nullptr;
};

/// An event that carries order and no time.
cudaEvent_t make_event();

}  // namespace theia::THEIA_DEVICE

#endif
