// wgmma: products of a warpgroup, operands in shared memory by descriptors. A warp's quarter of the rows is multiplied when the warp waits
// for it, and not before: what is read earlier lacks it, and what is overwritten earlier is missed.
#include <algorithm>
#include <cstring>

#include "kernels/core/dtype.h"
#include "kernels/simt/engine.h"

namespace theia::simt {
namespace {

constexpr int kDepth = 16, kRows = 16, kMostN = 256;
constexpr uint64_t kSwizzle128 = 1;

struct Descriptor {
  int64_t start, leading, stride;  // bytes
  explicit Descriptor(uint64_t bits)
      : start(static_cast<int64_t>(bits & 0x3fff) << 4),
        leading(static_cast<int64_t>(bits >> 16 & 0x3fff) << 4),
        stride(static_cast<int64_t>(bits >> 32 & 0x3fff) << 4) {}
};

/// Eight elements of the operand that lie next to each other: of line `line` (m or n) from k on, or of line k from m or n on. Which of a
/// line's chunks lies where depends on the line: bits 4 to 6 of the address against bits 7 to 9.
void read_chunk(Engine& e, const Product& p, const char* operand, int64_t offset, float (&to)[8]) {
  offset ^= offset >> 7 << 4 & 0x70;
  const std::byte* const from = e.shared.dynamic() + offset;
  if (!e.shared.holds(from, 16))
    e.stop(*e.current, p.site, "wgmma reads its %s outside of shared memory: %lld bytes from the start of its dynamic part", operand,
           static_cast<long long>(offset));
  uint16_t bits[8];
  for (int i = 0; i < 8; ++i) {
    std::memcpy(&bits[i], from + 2 * i, 2);
    to[i] = to_float(bf16{bits[i]});
  }
}

/// Sixteen of k by `count` lines from `first` on; put(line, k, value).
template <class F>
void read_operand(Engine& e, const Product& p, const char* operand, uint64_t bits, bool along_k, int first, int count, F&& put) {
  const Descriptor d(bits);
  float chunk[8];
  if (along_k) {
    for (int line = first; line < first + count; ++line)
      for (int k = 0; k < kDepth; k += 8) {
        read_chunk(e, p, operand, d.start + line / 8 * d.stride + line % 8 * 128 + k * 2, chunk);
        for (int i = 0; i < 8; ++i) put(line - first, k + i, chunk[i]);
      }
  } else {
    for (int k = 0; k < kDepth; ++k)
      for (int line = first; line < first + count; line += 8) {
        read_chunk(e, p, operand, d.start + line / 64 * d.leading + line % 64 * 2 + k % 8 * 128 + k / 8 * d.stride, chunk);
        for (int i = 0; i < 8; ++i) put(line - first + i, k, chunk[i]);
      }
  }
}

typedef float Row __attribute__((vector_size(32)));  // 8 columns

void multiply(Engine& e, const Warp& w, const Product& p) {
  float a[kRows][kDepth];
  alignas(32) float b[kMostN / 8][kDepth][8];
  read_operand(e, p, "A", p.a, p.a_along_k, w.index % 4 * kRows, kRows, [&](int line, int k, float v) { a[line][k] = v; });
  read_operand(e, p, "B", p.b, p.b_along_k, 0, p.n, [&](int line, int k, float v) { b[line / 8][k][line % 8] = v; });
  for (int j = 0; j < p.n / 8; ++j) {
    alignas(32) float d[kRows][8];
    const auto lanes = [&](auto move) {
      for (int l = 0; l < kLanes; ++l)
        for (int i = 0; i < 4; ++i) move(p.d[l][4 * j + i], d[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2]);
    };
    lanes([](float& held, float& x) { x = held; });
    for (int i = 0; i < kRows; ++i) {
      Row sum, row;
      std::memcpy(&sum, d[i], sizeof sum);
      for (int k = 0; k < kDepth; ++k) {
        std::memcpy(&row, b[j][k], sizeof row);
        sum += a[i][k] * row;
      }
      std::memcpy(d[i], &sum, sizeof sum);
    }
    lanes([](float& held, float& x) { held = x; });
  }
  e.statistics.wgmma += 1;
}

struct Operand {
  float* d;
  uint64_t a, b;
  int n;
  bool a_along_k, b_along_k;
  Site site;
};

void issue(void* const* operands, unsigned) {
  Engine& e = *engine;
  Warp& w = *e.current->warp;
  ProductQueue& q = e.hopper.queues[w.index];
  const Operand& first = *static_cast<Operand*>(operands[0]);
  const auto stop = [&](int l, const char* text) { e.stop(w.threads[l], static_cast<Operand*>(operands[l])->site, "%s", text); };
  if (w.index / 4 * 4 + 4 > e.warps) stop(0, "wgmma needs a warpgroup: four whole warps");
  if (first.n < 8 || first.n > kMostN || first.n % 8) stop(0, "wgmma has 8 to 256 columns, a multiple of 8");
  if (first.a >> 62 != kSwizzle128 || first.b >> 62 != kSwizzle128) stop(0, "only lines of 128 bytes (swizzle 1) are modelled");
  if ((first.a | first.b) >> 49 & 7) stop(0, "a descriptor's base offset is 0: tiles start at multiples of 1024 bytes");
  if (!q.fenced) stop(0, "a wgmma.fence must come before the first wgmma after registers were written or waited for");
  if (q.count == ProductQueue::kMost) stop(0, "simt: too many wgmma on their way");
  Product& p = q.products[(q.first + q.count) % ProductQueue::kMost];
  p = {{}, first.a, first.b, first.n, q.group, first.a_along_k, first.b_along_k, first.site};
  for (int l = 0; l < kLanes; ++l) {
    const Operand& o = *static_cast<Operand*>(operands[l]);
    if (o.a != first.a || o.b != first.b) stop(l, "the lanes of a warp give wgmma different descriptors");
    p.d[l] = o.d;
  }
  q.count += 1;
  // The first of the four warps writes down what it multiplies, the others must do the same.
  int most = 0;
  for (int i = 0; i < 4; ++i) most = std::max(most, e.hopper.queues[w.index / 4 * 4 + i].issued);
  HopperState::Issue& known = e.hopper.issues[w.index / 4][q.issued % ProductQueue::kMost];
  if (q.issued == most)
    known = {p.a, p.b, p.n};
  else if (most - q.issued <= ProductQueue::kMost && (known.a != p.a || known.b != p.b || known.n != p.n))
    stop(0, "the warps of a warpgroup give wgmma different descriptors");
  q.issued += 1;
}

ProductQueue& queue() { return engine->hopper.queues[engine->current->warp->index]; }

constexpr WarpOp kFence{"wgmma.fence", [](void* const*, unsigned) { queue().fenced = true; }, false};
constexpr WarpOp kIssue{"wgmma.mma_async", issue, false};
constexpr WarpOp kCommit{"wgmma.commit_group", [](void* const*, unsigned) { queue().group += 1; }, false};
constexpr WarpOp kWait{"wgmma.wait_group",
                       [](void* const* operands, unsigned) {
                         ProductQueue& q = queue();
                         const int newest = *static_cast<int*>(operands[0]);
                         while (q.count > 0 && q.products[q.first].group + newest < q.group) {
                           multiply(*engine, *engine->current->warp, q.products[q.first]);
                           q.first = (q.first + 1) % ProductQueue::kMost;
                           q.count -= 1;
                         }
                         if (q.count == 0) q.fenced = false;
                       },
                       false};
constexpr WarpOp kRegisters{"setmaxnreg", [](void* const*, unsigned) {}, false};

/// For the race detector: the tile that a thread's warp is going to read, by its first lane.
void read_tiles(uint64_t bits, int lines, bool along_k, void* pc) {
  if constexpr (!kRaceDetector) return;
  const Descriptor d(bits);
  Engine& e = *engine;
  if (along_k)
    for (int line = 0; line < lines; line += 8) reads(e.shared.dynamic() + (d.start & ~int64_t{127}) + line / 8 * d.stride, 1024, pc);
  else
    for (int line = 0; line < lines; line += 64)
      for (int k = 0; k < kDepth; k += 8)
        reads(e.shared.dynamic() + (d.start & ~int64_t{127}) + line / 64 * d.leading + k / 8 * d.stride, 1024, pc);
}

}  // namespace

uint32_t shared_offset(const void* shared) {
  return static_cast<uint32_t>(static_cast<const std::byte*>(shared) - engine->shared.dynamic());
}

void wgmma_fence(Site site) { collective(kFence, 0xffffffffu, nullptr, site); }

void wgmma(float* d, int n, uint64_t a, uint64_t b, bool a_along_k, bool b_along_k, Site site) {
  if (engine->current->bit == 1) {
    void* const pc = __builtin_return_address(0);
    read_tiles(a, 64, a_along_k, pc);
    read_tiles(b, n, b_along_k, pc);
  }
  Operand o{d, a, b, n, a_along_k, b_along_k, site};
  collective(kIssue, 0xffffffffu, &o, site);
}

void wgmma_commit(Site site) { collective(kCommit, 0xffffffffu, nullptr, site); }
void wgmma_wait(int newest, Site site) { collective(kWait, 0xffffffffu, &newest, site); }

void set_registers(int count, bool more, Site site) {
  if (count < 24 || count > 256 || count % 8)
    engine->stop(*engine->current, site, "setmaxnreg.%s takes 24 to 256, a multiple of 8; got %d", more ? "inc" : "dec", count);
  collective(kRegisters, 0xffffffffu, nullptr, site);
}

void Engine::finish_products(const Thread& thread) {
  const ProductQueue& q = hopper.queues[thread.warp->index];
  if (q.count > 0)
    stop(thread, q.products[q.first].site, "the thread has left the kernel with %d wgmma on their way: nothing waited for them", q.count);
}

void Engine::finish_block(const Thread& last) {
  if (hopper.copy_count > 0)
    stop(last, hopper.copies[0].site, "the block has ended with %d boxes on their way: nothing waited for them", hopper.copy_count);
  for (int i = 0; i < warps; ++i)
    if (hopper.queues[i].issued != hopper.queues[i / 4 * 4].issued)
      stop(warp_of[i].threads[0], {}, "the warp has issued %d wgmma, the first of its warpgroup %d", hopper.queues[i].issued,
           hopper.queues[i / 4 * 4].issued);
}

}  // namespace theia::simt
