#include <sys/mman.h>

#include "kernels/core/error.h"
#include "kernels/simt/engine.h"

namespace theia::simt {
namespace {

constexpr std::byte kPoison{0xff};
constexpr int64_t kStaticLimit = 48 * 1024;

int64_t up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

}  // namespace

SharedMemory::~SharedMemory() {
  if (!memory_) return;
  allow(memory_, kMapped);
  munmap(memory_, kMapped);
}

void SharedMemory::start_launch(int64_t dynamic_bytes) {
  if (!memory_) {
    // Mapped memory starts at a page, which is more than the 1024 bytes that kernels count on.
    void* const memory = mmap(nullptr, kMapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("ERR_OOM", "simt: no memory for a block's shared memory");
    memory_ = static_cast<std::byte*>(memory);
  }
  dynamic_bytes_ = dynamic_bytes;
  static_bytes_ = 0;
  count_ = 0;
  end_ = up(dynamic_bytes, 16) + kGap;
  forbid(memory_, kMapped);
  allow(memory_, static_cast<size_t>(dynamic_bytes));
}

// Not memset: the race detector would take it for a write of a thread.
__attribute__((optimize("no-tree-loop-distribute-patterns"), no_sanitize("address"))) void SharedMemory::fill(int64_t from, int64_t to) {
  // Both ends are multiples of 16.
  uint64_t* const words = reinterpret_cast<uint64_t*>(memory_);
  for (int64_t i = from / 8; i < to / 8; ++i) words[i] = ~uint64_t{0};
}

void SharedMemory::start_block() {
  // The race detector would hold the last block's accesses against this one's. Newly mapped memory has no past.
  if constexpr (kRaceDetector)
    mmap(memory_, static_cast<size_t>(up(end_, 4096)), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  fill(0, end_);
}

void* SharedMemory::array(const void* key, size_t bytes, size_t align) {
  for (int i = 0; i < count_; ++i)
    if (arrays_[i].key == key) return memory_ + arrays_[i].offset;
  const int64_t size = static_cast<int64_t>(bytes);
  const int64_t offset = up(end_, std::max<int64_t>(static_cast<int64_t>(align), 16));
  if (count_ == kArrays || align > 1024 || size > kStaticLimit - static_bytes_ || size + static_bytes_ + dynamic_bytes_ > kSharedLimit)
    return nullptr;
  arrays_[count_++] = {key, offset, size};
  static_bytes_ += up(size, 16);
  const int64_t end = offset + up(size, 16) + kGap;
  fill(end_, end);
  end_ = end;
  allow(memory_ + offset, bytes);
  return memory_ + offset;
}

bool SharedMemory::holds(const void* p, size_t bytes) const {
  const int64_t at = static_cast<const std::byte*>(p) - memory_, end = at + static_cast<int64_t>(bytes);
  if (at < 0 || at >= end_) return false;
  if (end <= dynamic_bytes_) return true;
  for (int i = 0; i < count_; ++i)
    if (at >= arrays_[i].offset && end <= arrays_[i].offset + arrays_[i].bytes) return true;
  return false;
}

SharedMemory::Overrun SharedMemory::overrun() const {
  if constexpr (kAddressSanitizer) return {};
  const auto look = [&](int64_t from, int64_t to) -> int64_t {
    for (int64_t i = from; i < to; ++i)
      if (memory_[i] != kPoison) return i;
    return -1;
  };
  int64_t at = look(dynamic_bytes_, up(dynamic_bytes_, 16) + kGap);
  if (at >= 0) return {"dynamic shared memory", dynamic_bytes_, at - dynamic_bytes_};
  for (int i = 0; i < count_; ++i) {
    const int64_t end = arrays_[i].offset + arrays_[i].bytes;
    at = look(end, arrays_[i].offset + up(arrays_[i].bytes, 16) + kGap);
    if (at >= 0) return {"a static array", arrays_[i].bytes, at - end};
  }
  return {};
}

}  // namespace theia::simt
