// Memory of the emulated device, of this process's own.
#pragma once
#include <cstddef>
#include <cstdint>
#include <unordered_map>

namespace theia::THEIA_DEVICE {

/// Blocks filled with NaN patterns. While `protecting()`, new blocks lie on pages of their own that nobody may touch but between open() and
/// close(), where kernels run and copies are made: a host function that follows a device address crashes, as it would with a GPU.
class EmulatedMemory {
 public:
  ~EmulatedMemory();
  static void protect(bool on);
  /// Null if it is more than `limit` in the whole process, or not there.
  std::byte* allocate(int64_t bytes, int64_t limit);
  void release(std::byte* memory) noexcept;
  void open() noexcept { set_access(true); }
  void close() noexcept { set_access(false); }

 private:
  struct Piece {
    int64_t bytes;
    bool pages;
  };
  void set_access(bool open) noexcept;
  std::unordered_map<std::byte*, Piece> pieces_;
  int paged_ = 0;
};

/// 256-byte aligned, filled with NaN patterns; freed by std::free. Null if it is not there.
std::byte* poisoned_memory(int64_t bytes);

}  // namespace theia::THEIA_DEVICE
