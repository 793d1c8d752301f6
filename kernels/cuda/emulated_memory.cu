#include "kernels/cuda/runtime.h"

#ifndef __CUDACC__

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "kernels/cuda/emulated_memory.h"

namespace theia::THEIA_DEVICE {

namespace {
std::atomic<int64_t> used{0};  // by all environments
std::atomic<bool> protecting{false};
}  // namespace

std::byte* poisoned_memory(int64_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 256, static_cast<size_t>(bytes)) != 0) return nullptr;
  std::memset(p, 0xff, static_cast<size_t>(bytes));
  return static_cast<std::byte*>(p);
}

EmulatedMemory::~EmulatedMemory() {
  while (!pieces_.empty()) release(pieces_.begin()->first);
}

void EmulatedMemory::protect(bool on) { protecting = on; }

std::byte* EmulatedMemory::allocate(int64_t bytes, int64_t limit) {
  if (used + bytes > limit) return nullptr;
  const bool pages = protecting;
  std::byte* memory;
  if (pages) {
    void* p = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    memory = static_cast<std::byte*>(p);
    std::memset(memory, 0xff, static_cast<size_t>(bytes));
    mprotect(p, static_cast<size_t>(bytes), PROT_NONE);
  } else {
    memory = poisoned_memory(bytes);
    if (!memory) return nullptr;
  }
  used += bytes;
  pieces_.emplace(memory, Piece{bytes, pages});
  paged_ += pages;
  return memory;
}

void EmulatedMemory::release(std::byte* memory) noexcept {
  const auto found = pieces_.find(memory);
  const Piece piece = found->second;
  pieces_.erase(found);
  used -= piece.bytes;
  paged_ -= piece.pages;
  if (piece.pages)
    munmap(memory, static_cast<size_t>(piece.bytes));
  else
    std::free(memory);
}

void EmulatedMemory::set_access(bool open) noexcept {
  if (paged_ == 0) return;
  for (const auto& [memory, piece] : pieces_)
    if (piece.pages) mprotect(memory, static_cast<size_t>(piece.bytes), open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

}  // namespace theia::THEIA_DEVICE

#endif
