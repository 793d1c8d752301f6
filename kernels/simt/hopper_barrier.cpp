// mbarriers: arrivals and bytes end a phase; and barriers of some of a block's warps. What an mbarrier holds is kept beside shared memory;
// its eight bytes there only say that it was initialised.
#include "kernels/simt/engine.h"

namespace theia::simt {
namespace {

constexpr uint64_t kInitialised = 0x6d62617272696572u;
constexpr unsigned kMostArrivals = (1u << 20) - 1;
constexpr int64_t kMostBytes = (1 << 20) - 1;

MBarrier& find(uint64_t* barrier, const char* what, Site site) {
  Engine& e = *engine;
  HopperState& h = e.hopper;
  for (int i = 0; i < h.barrier_count; ++i)
    if (h.barriers[i].at == barrier) {
      if (*barrier != kInitialised) e.stop(*e.current, site, "%s of an mbarrier that something else was written over", what);
      return h.barriers[i];
    }
  e.stop(*e.current, site, "%s of an mbarrier that was not initialised", what);
}

}  // namespace

void HopperState::start_block() {
  barrier_count = copy_count = 0;
  for (NamedBarrier& b : named) b = {};
  for (ProductQueue& q : queues) q.first = q.count = q.group = q.issued = 0, q.fenced = false;
}

void mbarrier_init(uint64_t* barrier, unsigned arrivals, Site site) {
  Engine& e = *engine;
  HopperState& h = e.hopper;
  if (reinterpret_cast<uintptr_t>(barrier) % 8 || !e.shared.holds(barrier, 8))
    e.stop(*e.current, site, "an mbarrier is 8 bytes of shared memory, at a multiple of 8");
  if (arrivals == 0 || arrivals > kMostArrivals)
    e.stop(*e.current, site, "an mbarrier expects 1 to %u arrivals; got %u", kMostArrivals, arrivals);
  int i = 0;
  while (i < h.barrier_count && h.barriers[i].at != barrier) ++i;
  if (i == HopperState::kBarriers) e.stop(*e.current, site, "simt: no more than %d mbarriers a block", HopperState::kBarriers);
  if (i == h.barrier_count) h.barrier_count += 1;
  writes(barrier, 8, __builtin_return_address(0));
  *barrier = kInitialised;
  h.barriers[i] = {barrier, arrivals, arrivals, 0, 0, false, 0, {}};
}

void mbarrier_fence() {
  HopperState& h = engine->hopper;
  for (int i = 0; i < h.barrier_count; ++i) h.barriers[i].fenced = true;
}

void Engine::settle(MBarrier& b, const Thread& t, Site site) {
  if (b.pending > 0) return;
  if (b.bytes < 0)
    stop(t, site, "more bytes than expected: copies have brought %lld beyond what the mbarrier was told", static_cast<long long>(-b.bytes));
  if (b.bytes > 0) return;
  b.phase ^= 1;
  b.pending = b.arrivals;
  for (int i = 0; b.waiting > 0; ++i) {
    Thread& other = thread_of[i];
    if (other.waits != &b) continue;
    other.waits = nullptr;
    b.waiting -= 1;
    make_ready(*other.warp, other.bit);
  }
}

void mbarrier_arrive(uint64_t* barrier, unsigned bytes, Site site) {
  Engine& e = *engine;
  MBarrier& b = find(barrier, "an arrival", site);
  if (b.pending == 0)
    e.stop(*e.current, site, "more arrivals than expected: all %u are there, and the mbarrier's phase waits for %lld bytes", b.arrivals,
           static_cast<long long>(b.bytes));
  b.bytes += bytes;
  if (b.bytes > kMostBytes) e.stop(*e.current, site, "an mbarrier counts up to %lld bytes", static_cast<long long>(kMostBytes));
  release(&b.token[b.phase]);
  b.pending -= 1;
  e.settle(b, *e.current, site);
}

void mbarrier_wait(uint64_t* barrier, unsigned parity, Site site) {
  Engine& e = *engine;
  Thread& t = *e.current;
  MBarrier& b = find(barrier, "a wait", site);
  if (parity > 1) e.stop(t, site, "the parity of an mbarrier's phase is 0 or 1; got %u", parity);
  if (e.landing == Engine::Landing::either && (e.rng.next() & 1u)) e.land_box();
  // Checked again after every waking: by the time it runs the next phase may be over as well, and then it has missed the one it waits for.
  while (b.phase == parity) {
    t.waits = &b;
    t.waits_at = site;
    b.waiting += 1;
    e.block_current();
  }
  acquire(&b.token[parity]);
  if (e.restless && e.rng.below(e.restless) == 0) {
    e.shuffle_warps();
    e.switch_to(e.next_warp());
  }
}

void named_barrier(int id, int threads, Site site) {
  Engine& e = *engine;
  Thread& t = *e.current;
  if (id < 1 || id >= HopperState::kNamed || threads < 1 || threads > e.threads || threads % kLanes)
    e.stop(t, site, "barriers 1 to %d are for a multiple of %d threads, at most the block's %d; got barrier %d for %d",
           HopperState::kNamed - 1, kLanes, e.threads, id, threads);
  NamedBarrier& b = e.hopper.named[id];
  if (b.arrived == 0) b.threads = threads;
  if (b.threads != threads) e.stop(t, site, "barrier %d is for %d threads here, but another came for %d", id, threads, b.threads);
  char* const token = &b.token[b.turn];
  release(token);
  b.arrived += 1;
  if (b.arrived < threads) {
    t.waits_named = id;
    t.waits_at = site;
    e.block_current();
  } else {
    b.arrived = 0;
    b.turn ^= 1;
    for (int i = 0; i < e.threads; ++i) {
      Thread& other = e.thread_of[i];
      if (other.waits_named != id) continue;
      other.waits_named = 0;
      e.make_ready(*other.warp, other.bit);
    }
    if (e.schedule.order == Schedule::Order::random) e.shuffle_warps();
    e.switch_to(e.next_warp());
  }
  acquire(token);
}

void Engine::stop_waiting() {
  for (int i = 0; i < threads; ++i) {
    const Thread& t = thread_of[i];
    if (t.waits)
      stop(t, t.waits_at,
           "deadlock: the thread waits for the end of an mbarrier's phase of parity %u, which lacks %u of %u arrivals and %lld bytes, and "
           "no "
           "thread of the block can go on",
           t.waits->phase, t.waits->pending, t.waits->arrivals, static_cast<long long>(t.waits->bytes));
    if (t.waits_named)
      stop(t, t.waits_at, "deadlock: the thread waits at barrier %d, where %d of %d threads are, and no thread of the block can go on",
           t.waits_named, hopper.named[t.waits_named].arrived, hopper.named[t.waits_named].threads);
  }
}

}  // namespace theia::simt
