#include "kernels/core/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "kernels/core/error.h"

namespace theia {

namespace {

// From this size on blocks start at 2 MiB and ask for huge pages: the panels of a large GEMM otherwise miss the TLB.
constexpr int64_t kHuge = int64_t{4} << 20;

std::byte* system_allocate(int64_t bytes) {
  const size_t alignment = bytes >= kHuge ? size_t{2} << 20 : 64;
  void* p = nullptr;
  if (posix_memalign(&p, alignment, static_cast<size_t>(bytes)) != 0) return nullptr;
  if (bytes >= kHuge) madvise(p, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  return static_cast<std::byte*>(p);
}

}  // namespace

Allocator::~Allocator() { trim(); }

int64_t Allocator::rounded(int64_t bytes) {
  bytes = std::max<int64_t>(bytes, 64);
  int64_t step = 64;
  if (bytes > 4096) step = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(bytes)) >> 3);
  return (bytes + step - 1) / step * step;
}

Block* Allocator::allocate(int64_t bytes) {
  if (bytes < 0 || bytes > (int64_t{1} << 46)) fail("ERR_OOM", "expected a buffer of 0 to 2^46 bytes, got a request for %lld", static_cast<long long>(bytes));
  const int64_t size = rounded(bytes);
  Block* block = nullptr;
  if (auto found = cache_.find(size); found != cache_.end() && !found->second.empty()) {
    block = found->second.back();
    found->second.pop_back();
    cached_ -= size;
    block->refs = 1;
  } else {
    std::byte* data = system_allocate(size);
    if (!data) {
      trim();
      data = system_allocate(size);
    }
    if (!data) fail("ERR_OOM", "out of memory: a buffer of %lld bytes could not be had (%lld bytes are in use)", static_cast<long long>(size), static_cast<long long>(live_));
    block = new Block{data, size, 1};
  }
  live_ += size;
  peak_ = std::max(peak_, live_);
  return block;
}

void Allocator::release(Block* block) {
  live_ -= block->bytes;
  cached_ += block->bytes;
  cache_[block->bytes].push_back(block);
}

void Allocator::trim() {
  for (auto& [size, blocks] : cache_)
    for (Block* b : blocks) {
      std::free(b->data);
      delete b;
    }
  cache_.clear();
  cached_ = 0;
}

}  // namespace theia
