// Warp operations: lanes meet, the last one does the work of all. Shuffles and votes.
#include <bit>

#include "kernels/simt/engine.h"

namespace theia::simt {
namespace {

/// Whether this lane's operation can ever happen: none of its lanes may be gone, at a barrier, or waiting for this lane elsewhere.
void check(Engine& e, const Thread& t, const WarpOp& op, unsigned mask, Site site, const Meeting* own) {
  Warp& w = *t.warp;
  if (!(mask & t.bit))
    e.stop(t, site, "the mask %08x of %s does not name the thread itself, lane %d", mask, op.name, std::countr_zero(t.bit));
  if (const unsigned bad = mask & ~w.exist)
    e.stop(t, site, "the mask %08x of %s names lane %d, which the block does not have", mask, op.name, std::countr_zero(bad));
  if (const unsigned bad = mask & w.gone)
    e.stop(t, site, "the mask %08x of %s names thread %s, which has left the kernel", mask, op.name, name_of(lane(w, bad).thread));
  if (const unsigned bad = mask & w.at_barrier)
    e.stop(t, site, "%s waits for thread %s, which waits at a barrier, %s", op.name, name_of(lane(w, bad).thread), name_of(e.barrier_site));
  for (int i = 0; i < w.meetings_count; ++i) {
    const Meeting& m = w.meetings[i];
    if (&m != own && (m.mask & t.bit) && (m.arrived & mask))
      e.stop(t, site, "the thread waits in %s (mask %08x), but thread %s waits for it in %s (mask %08x) at %s", op.name, mask,
             name_of(lane(w, m.arrived & mask).thread), m.op->name, m.mask, name_of(m.site));
  }
}

}  // namespace

void collective(const WarpOp& op, unsigned mask, void* operand, Site site) {
  Engine& e = *engine;
  Thread& t = *e.current;
  Warp& w = *t.warp;
  int at = 0;
  while (at < w.meetings_count && w.meetings[at].mask != mask) ++at;
  Meeting& m = w.meetings[at];
  if (at == w.meetings_count) {
    if (((w.gone | w.at_barrier | ~w.exist) & mask) || !(mask & t.bit) || at > 0) check(e, t, op, mask, site, nullptr);
    w.meetings_count += 1;
    m = {&op, site, mask, 0};
  } else if (m.op != &op || !same(m.site, site) || !(mask & t.bit)) {
    check(e, t, op, mask, site, nullptr);
  } else if (w.meetings_count > 1) {
    check(e, t, op, mask, site, &m);
  }
  Tokens& tokens = w.tokens[std::countr_zero(mask)];
  char* const token = &tokens.token[tokens.turn];
  if (op.orders_memory) release(token);
  w.operands[std::countr_zero(t.bit)] = operand;
  m.arrived |= t.bit;
  if (m.arrived != mask) {
    e.block_current();
  } else {
    e.statistics.collectives += 1;
    op.run(w.operands, mask);
    tokens.turn ^= 1;
    w.meetings_count -= 1;
    m = w.meetings[w.meetings_count];
    e.make_ready(w, mask);
    if (e.restless && e.rng.below(e.restless) == 0) {
      e.shuffle_warps();
      e.switch_to(e.next_warp());
    }
  }
  if (op.orders_memory) acquire(token);
}

namespace {

struct ShuffleOperand {
  uint64_t value, result;
  int argument, width;
  Site site;
};

template <Shuffle kind>
void run_shuffle(void* const* operands, unsigned mask) {
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    ShuffleOperand& o = *static_cast<ShuffleOperand*>(operands[lane]);
    const int first = lane & ~(o.width - 1);
    int from;
    if constexpr (kind == Shuffle::index) {
      from = first | (o.argument & (o.width - 1));
    } else if constexpr (kind == Shuffle::up) {
      from = lane - o.argument < first ? lane : lane - o.argument;
    } else if constexpr (kind == Shuffle::down) {
      from = lane + o.argument >= first + o.width ? lane : lane + o.argument;
    } else {
      from = (lane ^ o.argument) >= first + o.width ? lane : lane ^ o.argument;
    }
    if (!(mask >> from & 1u)) {
      Thread& t = engine->current->warp->threads[lane];
      engine->stop(t, o.site, "the thread reads lane %d by a shuffle whose mask %08x does not name it", from, mask);
    }
    o.result = static_cast<ShuffleOperand*>(operands[from])->value;
  }
}

constexpr WarpOp kShuffles[] = {{"__shfl_sync", run_shuffle<Shuffle::index>, false},
                                {"__shfl_up_sync", run_shuffle<Shuffle::up>, false},
                                {"__shfl_down_sync", run_shuffle<Shuffle::down>, false},
                                {"__shfl_xor_sync", run_shuffle<Shuffle::xor_>, false}};

struct VoteOperand {
  bool predicate;
  unsigned result;
};

constexpr WarpOp kVote{"a vote",
                       [](void* const* operands, unsigned mask) {
                         unsigned result = 0;
                         for (unsigned rest = mask; rest; rest &= rest - 1) {
                           const int lane = std::countr_zero(rest);
                           result |= static_cast<unsigned>(static_cast<VoteOperand*>(operands[lane])->predicate) << lane;
                         }
                         for (unsigned rest = mask; rest; rest &= rest - 1)
                           static_cast<VoteOperand*>(operands[std::countr_zero(rest)])->result = result;
                       },
                       false};

constexpr WarpOp kSync{"__syncwarp", [](void* const*, unsigned) {}, true};

}  // namespace

uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int argument, int width, Site site) {
  if (width < 1 || width > 32 || (width & (width - 1)))
    engine->stop(*engine->current, site, "the width of a shuffle is a power of two up to 32; got %d", width);
  if (argument < 0) argument &= 31;
  ShuffleOperand o{value, 0, argument, width, site};
  collective(kShuffles[static_cast<int>(kind)], mask, &o, site);
  return o.result;
}

void sync_warp(unsigned mask, Site site) { collective(kSync, mask, nullptr, site); }

unsigned ballot(unsigned mask, bool predicate, Site site) {
  VoteOperand o{predicate, 0};
  collective(kVote, mask, &o, site);
  return o.result;
}

}  // namespace theia::simt
