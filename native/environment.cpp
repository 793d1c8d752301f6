#include "native/environment.h"

#include <cstring>

#include "kernels/core/error.h"
#include "kernels/core/overlap.h"
#include "kernels/ops.h"
#include "native/call.h"

namespace theia::native {

namespace {
// A handle is generation * 2^24 + slot + 1: 16 million live buffers, and 2^29 uses of a slot before 2^53 is reached.
constexpr uint64_t kSlots = uint64_t{1} << 24;
constexpr uint32_t kGenerations = 1u << 29;
}  // namespace

Environment::Environment() { acquire_pool(); }

Environment::~Environment() {
  drop_recording();
  for (auto& [number, plan] : plans_)
    for (Block* b : plan->blocks) release_block(b);
  for (Buffer& b : buffers_)
    if (b.block) release_block(b.block);
  if (scratch_) release_block(scratch_);
  release_pool();
}

// ---- buffers

uint64_t Environment::allocate(int64_t bytes) {
  Block* block = nullptr;
  if (recorder_) {
    auto& reusable = recorder_->reusable[Allocator::rounded(bytes)];
    if (!reusable.empty()) {
      block = reusable.back();
      reusable.pop_back();
      block->refs += 1;
    } else {
      block = allocator_.allocate(bytes);
      recorder_->own.insert(block);
      recorder_->blocks.insert(block);
      block->refs += 1;  // the plan's
    }
  } else {
    block = allocator_.allocate(bytes);
  }
  uint32_t slot;
  if (free_slots_.empty()) {
    if (buffers_.size() >= kSlots - 1) {
      release_block(block);
      fail("ERR_OOM", "more than %llu live buffers: tensors are not disposed of", static_cast<unsigned long long>(kSlots - 2));
    }
    slot = static_cast<uint32_t>(buffers_.size());
    buffers_.emplace_back();
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  Buffer& b = buffers_[slot];
  b.block = block;
  b.bytes = bytes;
  alive_ += 1;
  return b.generation * kSlots + slot + 1;
}

bool Environment::alive(uint64_t handle) const {
  const uint64_t slot = (handle & (kSlots - 1)) - 1, generation = handle / kSlots;
  return handle != 0 && slot < buffers_.size() && buffers_[slot].block && buffers_[slot].generation == generation;
}

Buffer& Environment::buffer(uint64_t handle) {
  if (!alive(handle)) fail("ERR_DISPOSED", "expected a live tensor, got one that was disposed of");
  return buffers_[(handle & (kSlots - 1)) - 1];
}

void Environment::release(uint64_t handle) {
  Buffer& b = buffer(handle);
  Block* block = b.block;
  b.block = nullptr;
  b.generation = (b.generation + 1) % kGenerations;
  // A slot whose generations are used up is not used again: a handle kept since its first could come back to life.
  if (b.generation > 0) free_slots_.push_back(static_cast<uint32_t>(&b - buffers_.data()));
  alive_ -= 1;
  if (recorder_ && recorder_->own.count(block) && block->refs == 2) recorder_->reusable[block->bytes].push_back(block);
  release_block(block);
}

void Environment::release_block(Block* block) {
  if (--block->refs == 0) allocator_.release(block);
}

Environment::Memory Environment::memory() const {
  const int64_t scratch = scratch_ ? scratch_->bytes : 0;
  return {allocator_.live() - scratch, scratch, allocator_.peak(), allocator_.cached(), alive_, static_cast<int64_t>(plans_.size())};
}

// ---- calls

void Environment::read_call(int op, std::span<const double> area, void* args) {
  if (op < 0 || op >= kOps) fail("ERR_ARGS", "expected an op number below %d, got %d", kOps, op);
  const OpInfo& info = op_info(static_cast<Op>(op));
  read_args(info.name, info.fields, area, args);
  for (const Field& f : info.fields) {
    if (f.kind != Kind::tensor) continue;
    Tensor& t = tensor_at(args, f);
    if (!t.present()) continue;
    if (!alive(t.buffer)) fail("ERR_DISPOSED", "%s: '%s' was disposed of", info.name, f.name);
    const Buffer& b = buffer(t.buffer);
    check_inside(info.name, f.name, t, b.bytes);
    t.base = b.block->data;
  }
  check_fields(info.name, info.fields, args, false);
  info.check(args);
  check_overlap(info.name, info.fields, args);
}

void Environment::reserve_scratch(int64_t bytes) {
  if (scratch_ && scratch_->bytes >= bytes) return;
  if (scratch_) release_block(scratch_);
  scratch_ = nullptr;
  scratch_ = allocator_.allocate(bytes);
}

void Environment::run(int op, const void* args, Pool& workers, int64_t scratch) {
  const CpuKernel kernel = cpu_kernel(static_cast<Op>(op), args, isa);
  if (scratch < 0) fail("ERR_INTERNAL", "%s: the size of its workspace overflows", op_info(static_cast<Op>(op)).name);
  if (scratch > 0) reserve_scratch(scratch);
  kernel(args, Context{&workers, scratch_ ? scratch_->data : nullptr, scratch});
}

void Environment::dispatch(int op, std::span<const double> area) {
  alignas(64) std::byte args[kMaxArgsBytes];
  read_call(op, area, args);
  const OpInfo& info = op_info(static_cast<Op>(op));
  const std::shared_ptr<Pool> workers = pool();
  const int64_t scratch = info.workspace(args, workers->threads());
  run(op, args, *workers, scratch);
  if (!recorder_) return;
  for (const Field& f : info.fields) {
    if (f.kind != Kind::tensor || !tensor_at(args, f).present()) continue;
    Block* block = buffer(tensor_at(args, f).buffer).block;
    if (recorder_->blocks.insert(block).second) block->refs += 1;
  }
  recorder_->calls.push_back({op, {args, args + info.args_bytes}, workers->threads(), scratch});
}

Environment::Cost Environment::cost(int op, std::span<const double> area) {
  alignas(64) std::byte args[kMaxArgsBytes];
  read_call(op, area, args);
  const OpInfo& info = op_info(static_cast<Op>(op));
  return {info.flops(args), info.bytes(args), info.workspace(args, pool()->threads())};
}

// ---- plans

void Environment::begin_recording() {
  if (recorder_) fail("ERR_PLAN", "a recording is already under way");
  recorder_ = std::make_unique<Plan>();
}

uint32_t Environment::end_recording() {
  if (!recorder_) fail("ERR_PLAN", "no recording is under way");
  recorder_->reusable.clear();  // the plan's own reference keeps these blocks
  const uint32_t number = next_plan_++;
  plans_.emplace(number, std::move(recorder_));
  return number;
}

void Environment::drop_recording() {
  if (!recorder_) return;
  const std::unique_ptr<Plan> dropped = std::move(recorder_);
  for (Block* b : dropped->blocks) release_block(b);
}

Plan& Environment::plan(uint32_t number) {
  const auto found = plans_.find(number);
  if (found == plans_.end()) fail("ERR_DISPOSED", "expected a live plan, got one that was disposed of");
  return *found->second;
}

void Environment::replay(uint32_t number) {
  if (recorder_) fail("ERR_PLAN", "a plan cannot be replayed while another is recorded");
  const std::shared_ptr<Pool> workers = pool();
  for (RecordedCall& call : plan(number).calls) {
    if (call.threads != workers->threads()) {
      call.threads = workers->threads();
      call.workspace = op_info(static_cast<Op>(call.op)).workspace(call.args.data(), call.threads);
    }
    run(call.op, call.args.data(), *workers, call.workspace);
  }
}

int64_t Environment::plan_calls(uint32_t number) { return static_cast<int64_t>(plan(number).calls.size()); }

void Environment::release_plan(uint32_t number) {
  Plan& p = plan(number);
  for (Block* b : p.blocks) release_block(b);
  plans_.erase(number);
}

}  // namespace theia::native
