#include "kernels/core/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "kernels/core/error.h"

namespace theia {

namespace {

// Weights and activations of a small model are thousands of pages, more than the TLB holds, and in a virtual machine a miss is a walk in
// two dimensions. So blocks come on huge pages: large ones by themselves, small ones cut from slabs.
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kLarge = int64_t{4} << 20;
constexpr int64_t kLargestSlab = int64_t{32} << 20;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSlabs = false;  // every block gets the sanitizer's red zones
#else
constexpr bool kSlabs = true;
#endif

class HostMemory final : public MemorySource {
 public:
  std::byte* take(int64_t bytes) override {
    const bool huge = bytes >= kHugePage;
    void* p = nullptr;
    if (posix_memalign(&p, huge ? static_cast<size_t>(kHugePage) : 64, static_cast<size_t>(bytes)) != 0) return nullptr;
    if (huge) madvise(p, static_cast<size_t>(bytes), MADV_HUGEPAGE);
    return static_cast<std::byte*>(p);
  }
  void give(std::byte* memory) noexcept override { std::free(memory); }
  const char* name() const override { return "cpu"; }
  int64_t granularity() const override { return 64; }
  bool slabs() const override { return kSlabs; }
};

}  // namespace

std::unique_ptr<MemorySource> host_memory() { return std::make_unique<HostMemory>(); }

Allocator::Allocator(std::unique_ptr<MemorySource> source) : source_(std::move(source)) {}

Allocator::~Allocator() { trim(); }

int64_t Allocator::rounded(int64_t bytes) const {
  int64_t step = source_->granularity();
  bytes = std::max<int64_t>(bytes, step);
  if (bytes > 4096) step = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(bytes)) >> 3);
  return (bytes + step - 1) / step * step;
}

std::byte* Allocator::cut(int64_t size, Slab*& from) {
  if (slabs_.empty() || slabs_.back()->bytes - slabs_.back()->used < size) {
    // Slabs double, so that a small program stays small and a large one has few.
    const int64_t wanted = slabs_.empty() ? kHugePage : std::min(2 * slabs_.back()->bytes, kLargestSlab);
    const int64_t bytes = std::max(wanted, (size + kHugePage - 1) / kHugePage * kHugePage);
    std::byte* data = source_->take(bytes);
    if (!data) return nullptr;
    slabs_.push_back(std::make_unique<Slab>(Slab{data, bytes, 0, 0}));
  }
  from = slabs_.back().get();
  std::byte* data = from->data + from->used;
  from->used += size;
  return data;
}

Block* Allocator::fresh(int64_t size) {
  Slab* slab = nullptr;
  std::byte* data = source_->slabs() && size < kLarge ? cut(size, slab) : source_->take(size);
  return data ? new Block{data, size, 0, slab, this} : nullptr;
}

Block* Allocator::allocate(int64_t bytes) {
  if (bytes < 0 || bytes > (int64_t{1} << 46))
    fail("ERR_OOM", "expected a buffer of 0 to 2^46 bytes, got a request for %lld", static_cast<long long>(bytes));
  const int64_t size = rounded(bytes);
  Block* block = nullptr;
  if (auto found = cache_.find(size); found != cache_.end() && !found->second.empty()) {
    block = found->second.back();
    found->second.pop_back();
    cached_ -= size;
  } else {
    block = fresh(size);
    if (!block) {
      trim();
      block = fresh(size);
    }
    if (!block)
      fail("ERR_OOM", "out of memory on %s: a buffer of %lld bytes could not be had (%lld bytes are in use)", source_->name(),
           static_cast<long long>(size), static_cast<long long>(live_));
  }
  block->refs = 1;
  if (block->slab) block->slab->live += 1;
  live_ += size;
  peak_ = std::max(peak_, live_);
  return block;
}

void Allocator::release(Block* block) {
  if (block->slab) block->slab->live -= 1;
  live_ -= block->bytes;
  cached_ += block->bytes;
  cache_[block->bytes].push_back(block);
}

void Allocator::trim() {
  for (auto& [size, blocks] : cache_) {
    const auto goes = [&, this](Block* b) {
      if (b->slab && b->slab->live > 0) return false;
      if (!b->slab) source_->give(b->data);
      cached_ -= b->bytes;
      delete b;
      return true;
    };
    blocks.erase(std::remove_if(blocks.begin(), blocks.end(), goes), blocks.end());
  }
  const auto empty = [this](const std::unique_ptr<Slab>& slab) {
    if (slab->live > 0) return false;
    source_->give(slab->data);
    return true;
  };
  slabs_.erase(std::remove_if(slabs_.begin(), slabs_.end(), empty), slabs_.end());
}

}  // namespace theia
