// What the emulator tells the sanitizers. For a race detector build (-DTHEIA_SIMT_TSAN) the emulator itself is compiled without
// -fsanitize=thread, and only kernel code with it: its own reads and writes then count as nobody's, and what they mean for the kernel is
// said by the calls below.
#pragma once
#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(THEIA_SIMT_TSAN)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_read_range_pc(void* address, size_t bytes, void* pc);
void __tsan_write_range_pc(void* address, size_t bytes, void* pc);
}
#endif

namespace theia::simt {

#if defined(THEIA_SIMT_TSAN)
inline constexpr bool kRaceDetector = true;
#else
inline constexpr bool kRaceDetector = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif

/// What comes before release(token) in one thread is seen by who calls acquire(token) later.
inline void release([[maybe_unused]] void* token) {
#if defined(THEIA_SIMT_TSAN)
  __tsan_release(token);
#endif
}
inline void acquire([[maybe_unused]] void* token) {
#if defined(THEIA_SIMT_TSAN)
  __tsan_acquire(token);
#endif
}
/// The running thread reads or writes these bytes; the report names the line of `pc`.
inline void reads([[maybe_unused]] const void* p, [[maybe_unused]] size_t bytes, [[maybe_unused]] void* pc) {
#if defined(THEIA_SIMT_TSAN)
  __tsan_read_range_pc(const_cast<void*>(p), bytes, pc);
#endif
}
inline void writes([[maybe_unused]] void* p, [[maybe_unused]] size_t bytes, [[maybe_unused]] void* pc) {
#if defined(THEIA_SIMT_TSAN)
  __tsan_write_range_pc(p, bytes, pc);
#endif
}
/// Memory that kernels may not touch, and may again.
inline void forbid([[maybe_unused]] void* p, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(p, bytes);
#endif
}
inline void allow([[maybe_unused]] void* p, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(p, bytes);
#endif
}

}  // namespace theia::simt
