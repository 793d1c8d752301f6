// Copies of boxes by the copy engine (TMA). They land when no thread can go on (late), when they are issued (at once), or at any moment and
// in any order in between, as the schedule has it; a box that has landed counts its bytes off its mbarrier.
#include <cstring>

#include "kernels/simt/engine.h"

namespace theia::simt {
namespace {

constexpr int kLine = 128, kChunk = 16, kElement = 2;

int lines_of(const BoxMap& m) {
  int lines = 1;
  for (unsigned i = 1; i < m.rank; ++i) lines *= m.box[i];
  return lines;
}

/// Calls use(line, from, elements): the part of each line that lies inside the map begins at element `skip` of it.
template <class F>
void for_lines(const BoxCopy& c, F&& use) {
  const BoxMap& m = c.map;
  const int lines = lines_of(m);
  const int64_t begin = c.at[0] < 0 ? 0 : c.at[0];
  int64_t end = int64_t{c.at[0]} + m.box[0];
  if (end > m.size[0]) end = m.size[0];
  for (int line = 0; line < lines; ++line) {
    const std::byte* from = m.data + begin * kElement;
    bool inside = end > begin;
    int rest = line;
    for (unsigned i = 1; i < m.rank; ++i) {
      const int64_t at = int64_t{c.at[i]} + rest % m.box[i];
      rest /= m.box[i];
      inside = inside && at >= 0 && at < m.size[i];
      from += at * m.stride[i - 1];
    }
    use(line, inside ? from : nullptr, static_cast<int>(begin - c.at[0]), inside ? static_cast<int>(end - begin) : 0);
  }
}

void land(Engine& e, const BoxCopy& c) {
  for_lines(c, [&](int line, const std::byte* from, int skip, int elements) {
    std::byte row[kLine] = {};
    // The byte loop keeps the copy out of the race detector's memcpy.
    for (int i = 0; i < elements * kElement; ++i) row[skip * kElement + i] = from[i];
    for (int chunk = 0; chunk < kLine / kChunk; ++chunk) {
      std::byte* const to = c.to + line * kLine + (chunk ^ (line & 7)) * kChunk;
      for (int i = 0; i < kChunk; ++i) to[i] = row[chunk * kChunk + i];
    }
  });
  c.barrier->bytes -= int64_t{lines_of(c.map)} * kLine;
  e.settle(*c.barrier, *c.by, c.site);
}

}  // namespace

bool Engine::land_box() {
  HopperState& h = hopper;
  if (h.copy_count == 0) return false;
  const int i = schedule.order == Schedule::Order::random ? static_cast<int>(rng.below(static_cast<uint32_t>(h.copy_count))) : 0;
  const BoxCopy copy = h.copies[i];
  h.copy_count -= 1;
  for (int j = i; j < h.copy_count; ++j) h.copies[j] = h.copies[j + 1];
  land(*this, copy);
  return true;
}

void box_copy(void* shared, const BoxMap& map, uint64_t* barrier, const int* at, int rank, Site site) {
  Engine& e = *engine;
  Thread& t = *e.current;
  HopperState& h = e.hopper;
  e.statistics.box_copies += 1;
  if (map.magic != BoxMap::kMagic) e.stop(t, site, "a copy of a box by what is no tensor map");
  if (static_cast<int>(map.rank) != rank) e.stop(t, site, "a copy of a box of %d dimensions by a tensor map of %u", rank, map.rank);
  const int64_t bytes = int64_t{lines_of(map)} * kLine;
  if (!e.shared.holds(shared, static_cast<size_t>(bytes)))
    e.stop(t, site, "a box of %lld bytes goes outside of shared memory: to %td bytes from the start of its dynamic part",
           static_cast<long long>(bytes), static_cast<std::byte*>(shared) - e.shared.dynamic());
  if (reinterpret_cast<uintptr_t>(shared) % 1024)
    e.stop(t, site, "the shared address of a box in lines of 128 bytes must be a multiple of 1024; it is %d past one",
           static_cast<int>(reinterpret_cast<uintptr_t>(shared) % 1024));
  MBarrier* b = nullptr;
  for (int i = 0; i < h.barrier_count; ++i)
    if (h.barriers[i].at == barrier) b = &h.barriers[i];
  if (!b) e.stop(t, site, "a copy of a box by an mbarrier that was not initialised");
  if (!b->fenced) e.stop(t, site, "the copy engine may not see the mbarrier yet: no fence came after its initialisation");
  BoxCopy c{map, static_cast<std::byte*>(shared), b, {}, &t, site};
  for (int i = 0; i < rank; ++i) c.at[i] = at[i];
  // It may land from now on: whoever still reads the place races with it, and who waits for the barrier sees it.
  void* const pc = __builtin_return_address(0);
  writes(shared, static_cast<size_t>(bytes), pc);
  if constexpr (kRaceDetector)
    for_lines(c, [&](int, const std::byte* from, int, int elements) { reads(from, static_cast<size_t>(elements * kElement), pc); });
  release(&b->token[b->phase]);
  if (e.landing == Engine::Landing::at_once || (e.landing == Engine::Landing::either && e.rng.below(4) == 0)) return land(e, c);
  if (h.copy_count == HopperState::kCopies) e.stop(t, site, "simt: no more than %d boxes of a block on their way", HopperState::kCopies);
  h.copies[h.copy_count++] = c;
}

}  // namespace theia::simt
