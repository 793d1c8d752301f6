// Runs the threads of a block in turns, and blocks one after the other. A thread runs until it waits for others; then the next one that
// can run is chosen by the schedule. Whatever goes wrong stops the block: its threads are forgotten where they stand, and run_grid throws.
#include "kernels/simt/emulator.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/simt/engine.h"

namespace theia::simt {

__thread Place* place = nullptr;
__thread Engine* engine = nullptr;

Engine& get_engine() {
  // A pointer is all that the hot paths read; this object only frees the engine with its OS thread.
  thread_local std::unique_ptr<Engine> owner;
  if (!owner) {
    owner = std::make_unique<Engine>();
    engine = owner.get();
  }
  return *owner;
}

Statistics& statistics() { return get_engine().statistics; }

Engine::~Engine() {
  for (Thread& t : thread_of) std::free(t.queue.copies);
#if defined(THEIA_SIMT_TSAN)
  for (auto& set : copiers)
    for (void* copier : set)
      if (copier) __tsan_destroy_fiber(copier);
#endif
  engine = nullptr;
}

bool same(Site a, Site b) { return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0); }

namespace {

char* next_buffer() {
  static __thread char buffers[8][160];
  static __thread unsigned turn;
  return buffers[turn++ % 8];
}

}  // namespace

const char* name_of(const uint3& p) {
  char* const buffer = next_buffer();
  std::snprintf(buffer, 160, "(%u,%u,%u)", p.x, p.y, p.z);
  return buffer;
}

const char* name_of(Site site) {
  const char* file = site.file;
  for (const char* p = file; (p = std::strstr(p, "kernels/")) != nullptr; ++p) file = p;
  char* const buffer = next_buffer();
  std::snprintf(buffer, 160, "%s:%d", file, site.line);
  return buffer;
}

void Engine::shuffle_warps() {
  for (int i = warps - 1; i > 0; --i) std::swap(order[i], order[rng.below(static_cast<uint32_t>(i + 1))]);
}

Thread* Engine::next_warp() {
  using enum Schedule::Order;
  if (ready_warps == 0) return nullptr;
  if (schedule.order == forward) {
    warp = &warp_of[__builtin_ctz(ready_warps)];
  } else if (schedule.order == reverse) {
    warp = &warp_of[31 - __builtin_clz(ready_warps)];
  } else {
    int first = 0;
    while (!(ready_warps >> order[first] & 1u)) ++first;
    warp = &warp_of[order[first]];
  }
  return next();
}

Thread* Engine::next() {
  using enum Schedule::Order;
  const unsigned ready = warp->ready;
  if (ready == 0) return next_warp();
  if (schedule.order == forward) return &warp->threads[__builtin_ctz(ready)];
  if (schedule.order == reverse) return &warp->threads[31 - __builtin_clz(ready)];
  const unsigned by = rng.next() & 31u;
  return &warp->threads[(static_cast<unsigned>(__builtin_ctz(std::rotr(ready, static_cast<int>(by)))) + by) & 31u];
}

void Engine::switch_to(Thread* thread) {
  Thread* const from = current;
  if (thread == from) return;
  current = thread;
  place = thread;
  statistics.switches += 1;
  switch_fiber(*from->fiber, *thread->fiber);
}

void Engine::block_current() {
  Warp& w = *current->warp;
  w.ready &= ~current->bit;
  if (w.ready == 0) ready_warps &= ~(1u << w.index);
  Thread* thread;
  while (!(thread = next()))
    if (!land_box()) stop_deadlock();
  switch_to(thread);
}

void Engine::stop_deadlock() {
  stop_waiting();
  // Barriers and exits see at once what can never be. What is left are warp operations that wait for each other in a ring.
  for (int i = 0; i < warps; ++i) {
    Warp& w = warp_of[i];
    if (w.meetings_count == 0) continue;
    const Meeting& m = w.meetings[0];
    stop(lane(w, m.arrived), m.site, "deadlock: the thread waits in %s (mask %08x) for thread %s, and no thread of the block can go on",
         m.op->name, m.mask, name_of(lane(w, m.mask & ~m.arrived).thread));
  }
  stop(*current, {}, "deadlock: no thread of the block can go on");
}

void Engine::leave() {
  Thread* const from = current;
  release(&launch_token);
  current = nullptr;
  place = nullptr;
  switch_fiber(*from->fiber, host);
  __builtin_unreachable();
}

void Engine::stop(const Thread& thread, Site site, const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  failure = kernel;
  failure += ": block ";
  failure += name_of(thread.block);
  failure += ", thread ";
  failure += name_of(thread.thread);
  if (site.file) {
    failure += ", ";
    failure += name_of(site);
  }
  failure += ": ";
  failure += text;
  failed = true;
  leave();
}

namespace {

/// The whole life of a fiber in one block.
void run_thread() {
  entered();
  Engine& e = *engine;
  Thread& t = *e.current;
  acquire(&e.block_token);
  try {
    e.body(e.data);
  } catch (...) {
    e.thrown = std::current_exception();
    e.failed = true;
  }
  if (e.failed) e.leave();
  Warp& w = *t.warp;
  finish_copies(t);
  e.finish_products(t);
  if (const Meeting* m = w.waits_for(t.bit))
    e.stop(t, m->site, "the thread has left the kernel, but thread %s waits for it in %s", name_of(lane(w, m->arrived).thread),
           m->op->name);
  if (e.arrived > 0)
    e.stop(t, e.barrier_site, "the thread has left the kernel, but thread %s waits for it at a barrier", name_of(e.barrier_first->thread));
  w.gone |= t.bit;
  e.gone += 1;
  release(&e.launch_token);
  if (e.gone == e.threads) {
    e.finish_block(t);
    e.leave();
  }
  e.block_current();
  __builtin_unreachable();
}

}  // namespace

void Engine::run_block(uint3 block) {
  failed = false;
  gone = arrived = 0;
  ready_warps = 0;
  shared.start_block();
  hopper.start_block();
  fiber_set = (fiber_set + 1) % kFiberSets;
  for (int i = 0; i < warps; ++i) {
    Warp& w = warp_of[i];
    const int lanes = std::min(kLanes, threads - i * kLanes);
    w.exist = w.ready = lanes == kLanes ? 0xffffffffu : (1u << lanes) - 1u;
    w.gone = w.at_barrier = 0;
    w.meetings_count = 0;
    ready_warps |= 1u << i;
    order[i] = static_cast<uint8_t>(i);
  }
  for (int i = 0; i < threads; ++i) {
    Thread& t = thread_of[i];
    t.block = block;
    t.fiber = &fibers[i * kFiberSets + fiber_set];
    reset_copies(t);
    t.waits = nullptr;
    t.waits_named = 0;
    prepare(*t.fiber, run_thread);
  }
  if (schedule.order == Schedule::Order::random) {
    shuffle_warps();
    landing = static_cast<Landing>(rng.below(3));
    restless = rng.below(2) ? 0 : 4u << rng.below(4);
  } else {
    landing = schedule.order == Schedule::Order::forward ? Landing::late : Landing::at_once;
    restless = 0;
  }
  release(&block_token);
  Thread* const first = next_warp();
  current = first;
  place = first;
  switch_fiber(host, *first->fiber);
  current = nullptr;
  place = nullptr;
  statistics.blocks += 1;
  statistics.threads += threads;
  if (!failed) {
    const SharedMemory::Overrun o = shared.overrun();
    if (!o.what) return;
    failed = true;
    failure = std::string(kernel) + ": block " + name_of(block) + ": a write of shared memory outside of its array, " +
              std::to_string(o.offset) + " bytes past the end of " + o.what + " of " + std::to_string(o.bytes) + " bytes";
  }
  // Threads that never came to their end are given up, and with them what their locals would have freed.
  fibers.abandon();
}

void run_grid(const char* name, dim3 grid, dim3 block, int64_t shared_bytes, const DeviceContext& context, void (*body)(const void*),
              const void* data) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  Engine& e = get_engine();
  if (e.current) fail("ERR_CUDA", "%s: a kernel cannot launch another one", name);
  const uint64_t threads = static_cast<uint64_t>(block.x) * block.y * block.z;
  if (threads == 0 || threads > kBlockThreads || block.x > 1024 || block.y > 1024 || block.z > 64)
    fail("ERR_CUDA", "%s: a block has 1 to %d threads, at most 64 of them in z; got %u x %u x %u", name, kBlockThreads, block.x, block.y,
         block.z);
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    fail("ERR_CUDA", "%s: a grid has at most 2147483647 x 65535 x 65535 blocks; got %u x %u x %u", name, grid.x, grid.y, grid.z);
  const int64_t limit = context.info ? std::min(context.info->shared_per_block, kSharedLimit) : kSharedLimit;
  if (shared_bytes < 0 || shared_bytes > limit)
    fail("ERR_CUDA", "%s: a block may have %lld bytes of shared memory; asked for %lld", name, static_cast<long long>(limit),
         static_cast<long long>(shared_bytes));

  e.kernel = name;
  e.schedule = current_schedule();
  e.body = body;
  e.data = data;
  e.threads = static_cast<int>(threads);
  e.warps = (e.threads + kLanes - 1) / kLanes;
  e.fibers.reserve(e.threads * Engine::kFiberSets);
  e.shared.start_launch(shared_bytes);
  e.statistics.launches += 1;
  for (int i = 0; i < e.warps; ++i) {
    e.warp_of[i].index = i;
    e.warp_of[i].threads = &e.thread_of[i * kLanes];
  }
  for (int i = 0; i < e.threads; ++i) {
    const unsigned u = static_cast<unsigned>(i);
    Thread& t = e.thread_of[i];
    t.thread = {u % block.x, u / block.x % block.y, u / (block.x * block.y)};
    t.block_size = block;
    t.grid_size = grid;
    t.warp = &e.warp_of[i / kLanes];
    t.bit = 1u << (i % kLanes);
  }
  uint64_t salt = 0;
  for (const char* p = name; *p; ++p) salt = salt * 31 + static_cast<unsigned char>(*p);
  e.rng = Random(e.schedule.seed * 0x9e3779b97f4a7c15u ^ salt);
  const uint64_t blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
  const BlockOrder order(e.schedule, blocks, salt);
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t b = order(i);
    e.run_block({static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                 static_cast<unsigned>(b / (static_cast<uint64_t>(grid.x) * grid.y))});
    if (!e.failed) continue;
    acquire(&e.launch_token);
    if (e.thrown) std::rethrow_exception(std::exchange(e.thrown, nullptr));
    static constexpr const char* kOrders[] = {"forward", "reverse", "random"};
    const char* const schedule = kOrders[static_cast<int>(e.schedule.order)];
    if (e.schedule.order == Schedule::Order::random)
      fail("ERR_CUDA", "%s (schedule %s:%llu)", e.failure.c_str(), schedule, static_cast<unsigned long long>(e.schedule.seed));
    fail("ERR_CUDA", "%s (schedule %s)", e.failure.c_str(), schedule);
  }
  acquire(&e.launch_token);
}

int barrier(Combine combine, int predicate, Site site) {
  Engine& e = *engine;
  Thread& t = *e.current;
  Warp& w = *t.warp;
  if (e.gone > 0) {
    for (int i = 0; i < e.threads; ++i) {
      const Thread& other = e.thread_of[i];
      if (other.warp->gone & other.bit)
        e.stop(t, site, "the thread waits at a barrier, but thread %s has left the kernel", name_of(other.thread));
    }
  }
  if (const Meeting* m = w.waits_for(t.bit))
    e.stop(t, site, "the thread waits at a barrier, but thread %s waits for it in %s at %s", name_of(lane(w, m->arrived).thread),
           m->op->name, name_of(m->site));
  if (e.arrived == 0) {
    e.barrier_site = site;
    e.barrier_first = &t;
    e.barrier_combine = combine;
    e.barrier_nonzero = 0;
  } else if (combine != e.barrier_combine || !same(site, e.barrier_site)) {
    e.stop(t, site, "the thread waits at this barrier, but thread %s waits at another, %s", name_of(e.barrier_first->thread),
           name_of(e.barrier_site));
  }
  char* const token = &e.barrier_tokens.token[e.barrier_tokens.turn];
  release(token);
  e.barrier_nonzero += predicate != 0;
  e.arrived += 1;
  if (e.arrived < e.threads) {
    w.at_barrier |= t.bit;
    e.block_current();
  } else {
    e.barrier_tokens.turn ^= 1;
    e.arrived = 0;
    e.statistics.barriers += 1;
    const int n = e.barrier_nonzero;
    e.barrier_result = combine == Combine::count ? n : combine == Combine::any ? n > 0 : n == e.threads;
    for (int i = 0; i < e.warps; ++i) {
      Warp& other = e.warp_of[i];
      other.at_barrier = 0;
      e.make_ready(other, other.exist);
    }
    // Who comes last has no right to go first: the schedule has.
    if (e.schedule.order == Schedule::Order::random) e.shuffle_warps();
    e.switch_to(e.next_warp());
  }
  acquire(token);
  return e.barrier_result;
}

void* shared_array(const void* key, size_t bytes, size_t align, Site site) {
  Engine& e = *engine;
  void* const p = e.shared.array(key, bytes, align);
  if (!p)
    e.stop(*e.current, site, "no room for %zu bytes of shared memory: a block may have %lld, static arrays at most 48 KiB of them", bytes,
           static_cast<long long>(kSharedLimit));
  return p;
}

std::byte* dynamic_shared() { return engine->shared.dynamic(); }

}  // namespace theia::simt
