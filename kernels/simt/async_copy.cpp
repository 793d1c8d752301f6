// cp.async: copies that land when their thread waits for them (late), when they are issued (at once), or either, as the schedule has it.
// A kernel is right only if it does not matter.
#include <cstdlib>
#include <cstring>

#include "kernels/core/error.h"
#include "kernels/simt/engine.h"

namespace theia::simt {
namespace {

// Not memset: the race detector would take it for a write of the thread.
__attribute__((optimize("no-tree-loop-distribute-patterns"))) void land(const AsyncQueue::Copy& c) {
  for (int i = 0; i < c.valid; ++i) c.shared[i] = c.global[i];
  for (int i = c.valid; i < c.bytes; ++i) c.shared[i] = std::byte{0};
}

/// Tells the race detector of a copy: a read and a write by somebody who has seen what the thread had seen when it issued the copy, and
/// whom only the thread's wait orders before anything else. Its lines are those of the issue.
void announce([[maybe_unused]] Engine& e, [[maybe_unused]] Thread& t, [[maybe_unused]] const AsyncQueue::Copy& c) {
#if defined(THEIA_SIMT_TSAN)
  void*& copier = e.copiers[e.fiber_set][t.warp->index];
  if (!copier) copier = __tsan_create_fiber(0);
  // The thread's own write, for the report's call stack: it races with who still reads the place.
  writes(c.shared, static_cast<size_t>(c.bytes), c.pc);
  release(&t.queue.issued);
  __tsan_switch_to_fiber(copier, 1);
  acquire(&t.queue.issued);
  reads(c.global, static_cast<size_t>(c.valid), c.pc);
  writes(c.shared, static_cast<size_t>(c.bytes), c.pc);
  release(&t.queue.landed[c.group % 16]);
  __tsan_switch_to_fiber(t.fiber->tsan, 1);
#endif
}

}  // namespace

void reset_copies(Thread& thread) {
  AsyncQueue& q = thread.queue;
  q.first = q.count = q.group = 0;
}

void async_copy(void* shared, const void* global, int bytes, int valid, Site site) {
  Engine& e = *engine;
  Thread& t = *e.current;
  e.statistics.async_copies += 1;
  if (valid < 0 || valid > bytes) e.stop(t, site, "cp.async of %d bytes cannot have %d valid ones", bytes, valid);
  if (reinterpret_cast<uintptr_t>(shared) % static_cast<uintptr_t>(bytes))
    e.stop(t, site, "the shared address of a cp.async of %d bytes must be a multiple of that; it is %d past one", bytes,
           static_cast<int>(reinterpret_cast<uintptr_t>(shared) % static_cast<uintptr_t>(bytes)));
  if (valid > 0 && reinterpret_cast<uintptr_t>(global) % static_cast<uintptr_t>(bytes))
    e.stop(t, site, "the global address of a cp.async of %d bytes must be a multiple of that; it is %d past one", bytes,
           static_cast<int>(reinterpret_cast<uintptr_t>(global) % static_cast<uintptr_t>(bytes)));
  if (!e.shared.holds(shared, static_cast<size_t>(bytes)))
    e.stop(t, site, "cp.async writes outside of shared memory: %td bytes from the start of its dynamic part",
           static_cast<std::byte*>(shared) - e.shared.dynamic());
  const bool now = e.landing == Engine::Landing::at_once || (e.landing == Engine::Landing::either && (e.rng.next() & 1u));
  const AsyncQueue::Copy copy{static_cast<std::byte*>(shared),
                              static_cast<const std::byte*>(global),
                              __builtin_return_address(0),
                              static_cast<int8_t>(bytes),
                              static_cast<int8_t>(valid),
                              now,
                              t.queue.group};
  announce(e, t, copy);
  if (now) land(copy);
  AsyncQueue& q = t.queue;
  if (q.first + q.count == q.capacity) {
    if (q.first > 0) {
      std::memmove(q.copies, q.copies + q.first, sizeof(AsyncQueue::Copy) * static_cast<size_t>(q.count));
      q.first = 0;
    } else {
      const int capacity = q.capacity ? 2 * q.capacity : 64;
      void* const more = std::realloc(q.copies, sizeof(AsyncQueue::Copy) * static_cast<size_t>(capacity));
      if (!more) e.stop(t, site, "simt: no memory for %d copies on their way", capacity);
      q.copies = static_cast<AsyncQueue::Copy*>(more);
      q.capacity = capacity;
    }
  }
  q.copies[q.first + q.count++] = copy;
}

void async_commit() { engine->current->queue.group += 1; }

void async_wait(int newest) {
  AsyncQueue& q = engine->current->queue;
  while (q.count > 0 && q.copies[q.first].group + newest < q.group) {
    const AsyncQueue::Copy& c = q.copies[q.first];
    if (!c.landed) land(c);
    acquire(&q.landed[c.group % 16]);
    q.first += 1;
    q.count -= 1;
  }
  if (q.count == 0) q.first = 0;
}

void finish_copies(Thread& thread) {
  if (thread.queue.count > 0)
    engine->stop(thread, {}, "the thread has left the kernel with %d cp.async on their way: nothing waited for them", thread.queue.count);
}

}  // namespace theia::simt
