#include "native/plan.h"

#include <algorithm>
#include <cstring>

#include "kernels/core/error.h"
#include "kernels/ops.h"
#include "native/environment.h"

namespace theia::native {

int64_t place(std::vector<Lifetime>& buffers) {
  std::vector<Lifetime*> order;
  for (Lifetime& b : buffers) order.push_back(&b);
  std::stable_sort(order.begin(), order.end(), [](const Lifetime* a, const Lifetime* b) { return a->bytes > b->bytes; });
  std::vector<const Lifetime*> placed, meeting;
  int64_t region = 0;
  for (Lifetime* b : order) {
    meeting.clear();
    for (const Lifetime* p : placed)
      if (p->first <= b->last && b->first <= p->last) meeting.push_back(p);
    std::sort(meeting.begin(), meeting.end(), [](const Lifetime* x, const Lifetime* y) { return x->offset < y->offset; });
    int64_t offset = 0;
    for (const Lifetime* p : meeting) {
      if (p->offset - offset >= b->bytes) break;
      offset = std::max(offset, (p->offset + p->bytes + 255) / 256 * 256);
    }
    b->offset = offset;
    region = std::max(region, offset + b->bytes);
    placed.push_back(b);
  }
  return region;
}

// ---- recording

void Environment::begin_recording() {
  if (recorder_) fail("ERR_PLAN", "a recording is already under way");
  recorder_ = std::make_unique<Plan>();
}

void Environment::record(int op, const void* args, int on, int threads, int64_t scratch) {
  const OpInfo& info = op_info(static_cast<Op>(op));
  for (const Field& f : info.fields) {
    if (f.kind != Kind::tensor || !tensor_at(args, f).present()) continue;
    Block* block = buffer(tensor_at(args, f).buffer).block;
    if (recorder_->blocks.insert(block).second) block->refs += 1;
  }
  const std::byte* bytes = static_cast<const std::byte*>(args);
  recorder_->calls.push_back({op, {bytes, bytes + info.args_bytes}, on, threads, scratch});
}

uint32_t Environment::end_recording() {
  if (!recorder_) fail("ERR_PLAN", "no recording is under way");
  const std::unique_ptr<Plan> ended = std::move(recorder_);
  Plan& p = *ended;
  p.reusable.clear();  // the plan's own reference keeps these blocks
  const int on = p.calls.empty() ? kCpu : p.calls.front().device;
  const bool one = std::all_of(p.calls.begin(), p.calls.end(), [&](const RecordedCall& c) { return c.device == on; });
  // A graph's kernels cannot be waited for one by one.
  if (one && on != kCpu && device(on).device->captures() && !device(on).synchronous) p.captured_on = on;
  try {
    place_transients(p);
  } catch (...) {
    forget(p);
    throw;
  }
  const uint32_t number = next_plan_++;
  plans_.emplace(number, std::make_unique<Plan>(std::move(p)));
  return number;
}

void Environment::drop_recording() {
  if (!recorder_) return;
  const std::unique_ptr<Plan> dropped = std::move(recorder_);
  forget(*dropped);
}

/// Moves what nobody but the plan holds into the region that the plans of a device share.
void Environment::place_transients(Plan& p) {
  std::map<int, std::unordered_map<uint64_t, size_t>> known;  // device -> handle -> index of its lifetime
  std::map<int, std::vector<Lifetime>> lifetimes;
  const auto each = [&](auto&& body) {
    for (size_t c = 0; c < p.calls.size(); ++c)
      for (const Field& f : op_info(static_cast<Op>(p.calls[c].op)).fields) {
        if (f.kind != Kind::tensor || !tensor_at(p.calls[c].args.data(), f).present()) continue;
        const auto made = p.made.find(tensor_at(p.calls[c].args.data(), f).buffer);
        if (made != p.made.end() && made->second.block->refs == 1) body(c, f, made->first, made->second);
      }
  };
  each([&](size_t c, const Field&, uint64_t handle, const Made& made) {
    const int64_t call = static_cast<int64_t>(c);
    auto& list = lifetimes[made.device];
    const auto [at, fresh] = known[made.device].emplace(handle, list.size());
    if (fresh) list.push_back({call, call, made.block->bytes});
    list[at->second].last = call;
  });
  for (auto& [on, list] : lifetimes) p.transients[on].bytes = place(list);
  each([&](size_t c, const Field& f, uint64_t handle, const Made& made) {
    p.transients[made.device].tensors.push_back({c, f.offset, lifetimes[made.device][known[made.device][handle]].offset});
  });
  // From here on their first memory is not the plan's any more; a handle that was made and never used in a call has none.
  std::unordered_set<Block*> moved;
  for (const auto& [handle, made] : p.made)
    if (made.block->refs == 1 && p.blocks.count(made.block)) moved.insert(made.block);
  for (Block* b : moved) {
    p.blocks.erase(b);
    release_block(b);
  }
  p.made.clear();
  p.own.clear();
  for (auto& [on, use] : p.transients) {
    device(on).hold_transients(use.bytes);
    use.held = true;
  }
}

// ---- replay

Plan& Environment::plan(uint32_t number) {
  const auto found = plans_.find(number);
  if (found == plans_.end()) fail("ERR_DISPOSED", "expected a live plan, got one that was disposed of");
  return *found->second;
}

/// Brings the addresses of the calls up to date and makes room for their scratch. A graph that knows other addresses goes.
void Environment::settle(Plan& p) {
  bool moved = false;
  for (auto& [on, use] : p.transients) {
    DeviceState& d = device(on);
    std::byte* const region = d.transients();
    if (use.moves == d.transient_moves) continue;
    for (const Transient& t : use.tensors) {
      std::byte* const base = region + t.offset;
      std::memcpy(p.calls[t.call].args.data() + t.field + offsetof(Tensor, base), &base, sizeof base);
    }
    use.moves = d.transient_moves;
    moved = true;
  }
  if (p.captured_on == kCpu) return;
  DeviceState& d = device(p.captured_on);
  int64_t scratch = 0;
  for (const RecordedCall& c : p.calls) scratch = std::max(scratch, c.workspace);
  if (scratch > 0) d.reserve_scratch(scratch);
  moved |= p.scratch_moves != d.scratch_moves;
  p.scratch_moves = d.scratch_moves;
  if (!moved || !p.graph) return;
  d.device->drop_graph(p.graph);
  p.graph = nullptr;
}

void Environment::capture(Plan& p) {
  p.graph = device(p.captured_on).device->capture([this, &p] {
    const std::shared_ptr<Pool> workers = pool();
    for (const RecordedCall& c : p.calls) run(c.op, c.args.data(), c.device, *workers, c.workspace, false);
  });
}

void Environment::replay(uint32_t number) {
  if (recorder_) fail("ERR_PLAN", "a plan cannot be replayed while another is recorded");
  Plan& p = plan(number);
  const std::shared_ptr<Pool> workers = pool();
  settle(p);
  if (p.captured_on != kCpu && !p.calls.empty()) {
    if (!p.graph) capture(p);
    device(p.captured_on).device->launch_graph(p.graph);
    return;
  }
  for (RecordedCall& call : p.calls) {
    if (call.device == kCpu && call.threads != workers->threads()) {
      call.threads = workers->threads();
      call.workspace = workspace_of(call.op, call.args.data(), kCpu, call.threads);
    }
    run(call.op, call.args.data(), call.device, *workers, call.workspace, true);
  }
}

int64_t Environment::plan_calls(uint32_t number) { return static_cast<int64_t>(plan(number).calls.size()); }

/// Lets go of all that a plan or a recording holds.
void Environment::forget(Plan& p) {
  if (p.graph) device(p.captured_on).device->drop_graph(p.graph);
  p.graph = nullptr;
  for (const auto& [on, use] : p.transients)
    if (use.held) device(on).drop_transients();
  p.transients.clear();
  for (Block* b : p.blocks) release_block(b);
  p.blocks.clear();
}

void Environment::release_plan(uint32_t number) {
  forget(plan(number));
  plans_.erase(number);
}

}  // namespace theia::native
