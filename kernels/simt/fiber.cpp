#include "kernels/simt/fiber.h"

#include <cstdint>
#include <sys/mman.h>

#include "kernels/core/error.h"
#include "kernels/simt/sanitizers.h"

// Saves the registers that a call preserves on the old stack and takes them from the new one. All that differs between fibers of one
// kernel is the stack, so the return is predicted well.
extern "C" void theia_simt_switch(void** from, void* to);

#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.globl theia_simt_switch
.hidden theia_simt_switch
.type theia_simt_switch, @function
theia_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size theia_simt_switch, .-theia_simt_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.globl theia_simt_switch
.hidden theia_simt_switch
.type theia_simt_switch, %function
theia_simt_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size theia_simt_switch, .-theia_simt_switch
)");
#else
#error "kernels/simt runs on x86-64 and aarch64"
#endif

namespace theia::simt {
namespace {

constexpr size_t kGuard = 4096;

#if defined(__SANITIZE_ADDRESS__)
// Where the last switch came from: its stack, once the other side has arrived.
__thread Fiber* left = nullptr;
#endif

}  // namespace

void prepare(Fiber& fiber, void (*entry)()) {
  // Entry functions end without returning: their frame's red zones are still there.
  allow(fiber.bottom + fiber.bytes - 8192, 8192);
  // As if entry had been called by address 0 with the saved registers zero.
  void** sp = reinterpret_cast<void**>(fiber.bottom + fiber.bytes - 64 - fiber.shift);
#if defined(__x86_64__)
  *--sp = nullptr;
  *--sp = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--sp = nullptr;
#else
  sp -= 20;
  for (int i = 0; i < 20; ++i) sp[i] = nullptr;
  sp[11] = reinterpret_cast<void*>(entry);  // x30
#endif
  fiber.sp = sp;
}

void entered() {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (!left->bottom) {  // only the sanitizer knows the stack of the OS thread
    left->bottom = static_cast<std::byte*>(const_cast<void*>(bottom));
    left->bytes = bytes;
  }
#endif
}

void switch_fiber(Fiber& from, Fiber& to) {
#if defined(THEIA_SIMT_TSAN)
  if (!from.tsan) from.tsan = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.tsan, 1);  // 1: a switch alone orders nothing
#endif
#if defined(__SANITIZE_ADDRESS__)
  left = &from;
  __sanitizer_start_switch_fiber(&from.asan, to.bottom, to.bytes);
#endif
  theia_simt_switch(&from.sp, to.sp);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.asan, nullptr, nullptr);
#endif
}

FiberPool::~FiberPool() {
  abandon();
  for (int i = 0; i < count_; ++i) {
#if defined(THEIA_SIMT_TSAN)
    if (fibers_[i]->tsan) __tsan_destroy_fiber(fibers_[i]->tsan);
#endif
    delete fibers_[i];
  }
  for (int i = 0; i < region_count_; ++i) munmap(regions_[i].memory, regions_[i].bytes);
}

void FiberPool::reserve(int count) {
  if (count <= count_) return;
  constexpr size_t stride = kStackBytes + kGuard;
  const size_t bytes = static_cast<size_t>(count - count_) * stride;
  void* const memory = region_count_ < 64 && count <= kMost
                           ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                           : MAP_FAILED;
  if (memory == MAP_FAILED) fail("ERR_OOM", "simt: no memory for the stacks of %d threads", count);
  regions_[region_count_++] = {static_cast<std::byte*>(memory), bytes};
  for (size_t at = 0; at < bytes; at += stride) {
    std::byte* const stack = static_cast<std::byte*>(memory) + at;
    mprotect(stack, kGuard, PROT_NONE);
    Fiber* const fiber = new Fiber;
    fiber->bottom = stack + kGuard;
    fiber->bytes = kStackBytes;
    fiber->shift = static_cast<size_t>(count_ * 7 % 64) * 64;
#if defined(THEIA_SIMT_TSAN)
    fiber->tsan = __tsan_create_fiber(0);
#endif
    fibers_[count_++] = fiber;
  }
}

void FiberPool::abandon() {
  for (int i = 0; i < count_; ++i) {
    allow(fibers_[i]->bottom, fibers_[i]->bytes);  // frames that never returned leave their red zones behind
#if defined(THEIA_SIMT_TSAN)
    // And their calls. The new fiber shall not race with what the old one did on its stack.
    __tsan_destroy_fiber(fibers_[i]->tsan);
    mmap(fibers_[i]->bottom, fibers_[i]->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    fibers_[i]->tsan = __tsan_create_fiber(0);
#endif
  }
}

}  // namespace theia::simt
