// Memory for buffers, of the host or of a device: kept in a cache by size when freed, so that a training step allocates nothing after
// warm-up. On a device all work goes to one stream in order, so a block may be used again as soon as it was freed: whoever used it before
// comes first.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace theia {

/// A region of huge pages that blocks are cut from, one behind the other. It goes back to the system whole, when none of its blocks lives.
struct Slab {
  std::byte* data;
  int64_t bytes, used;
  int live;  // blocks in use
};

class Allocator;

/// A piece of memory. `refs` counts the handles and plans that hold it.
struct Block {
  std::byte* data;
  int64_t bytes;  // rounded size, the key of the cache
  int refs;
  Slab* slab;  // null: a region of its own
  Allocator* home;
};

/// Where an allocator has its memory from.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  /// Null if it cannot be had.
  virtual std::byte* take(int64_t bytes) = 0;
  virtual void give(std::byte* memory) noexcept = 0;
  virtual const char* name() const = 0;  // for messages: "cpu", "cuda:1"
  /// Blocks are multiples of this, and start at multiples of it. A power of two, at most 4096.
  virtual int64_t granularity() const = 0;
  /// Small blocks are cut from larger regions.
  virtual bool slabs() const = 0;
};

/// Host memory, 64-byte aligned, large blocks on huge pages.
std::unique_ptr<MemorySource> host_memory();

class Allocator {
 public:
  explicit Allocator(std::unique_ptr<MemorySource> source);
  ~Allocator();
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;
  /// Rounds a request up to the size that blocks come in: the source's granularity below 4 KiB, then steps of 1/8 of the power of two
  /// below.
  int64_t rounded(int64_t bytes) const;
  /// A block with refs = 1; contents undefined. Throws ERR_OOM (after giving the cache back to the system once).
  Block* allocate(int64_t bytes);
  /// Puts a block without holders into the cache.
  void release(Block* block);
  /// Gives cached blocks back to the system, as far as nothing else lives in their slabs.
  void trim();

  int64_t live() const { return live_; }
  int64_t peak() const { return peak_; }
  int64_t cached() const { return cached_; }
  void reset_peak() { peak_ = live_; }

 private:
  Block* fresh(int64_t size);
  std::byte* cut(int64_t size, Slab*& from);

  std::unique_ptr<MemorySource> source_;
  std::vector<std::unique_ptr<Slab>> slabs_;
  std::map<int64_t, std::vector<Block*>> cache_;
  int64_t live_ = 0, peak_ = 0, cached_ = 0;
};

}  // namespace theia
