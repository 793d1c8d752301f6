#include "native/environment.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "kernels/core/error.h"
#include "kernels/core/overlap.h"
#include "kernels/core/pool.h"
#include "kernels/ops.h"
#include "native/call.h"

namespace theia::native {

namespace {
// A handle is generation * 2^24 + slot + 1: 16 million live buffers, and 2^29 uses of a slot before 2^53 is reached.
constexpr uint64_t kSlots = uint64_t{1} << 24;
constexpr uint32_t kGenerations = 1u << 29;

/// Between enter() and leave().
struct Inside {
  explicit Inside(Device& d) : device(d) { device.enter(); }
  ~Inside() { device.leave(); }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  Device& device;
};
}  // namespace

Environment::Environment() {
  acquire_pool();
  devices_.push_back(std::make_unique<DeviceState>(DeviceName{"cpu", 0}));
}

Environment::~Environment() {
  drop_recording();
  for (auto& [number, plan] : plans_) forget(*plan);
  for (Buffer& b : buffers_)
    if (b.block) release_block(b.block);
  while (true) {
    const auto locked = std::find_if(pinned_->begin(), pinned_->end(), [](const auto& p) { return p.second.locked; });
    if (locked == pinned_->end()) break;
    unlock(locked->first);
  }
  devices_.clear();
  release_pool();
}

// ---- devices

int Environment::open(const std::string& name) {
  const DeviceName wanted = parse_device(name);
  const std::string text = wanted.text();
  for (size_t i = 0; i < devices_.size(); ++i)
    if (devices_[i]->name == text) return static_cast<int>(i);
  devices_.push_back(std::make_unique<DeviceState>(wanted));
  return static_cast<int>(devices_.size()) - 1;
}

DeviceState& Environment::device(int number) {
  if (number < 0 || static_cast<size_t>(number) >= devices_.size())
    fail("ERR_ARGS", "expected the number of an open device, got %d", number);
  return *devices_[static_cast<size_t>(number)];
}

// ---- buffers

uint64_t Environment::allocate(int64_t bytes, int on) {
  Allocator& allocator = device(on).allocator;
  Block* block = nullptr;
  if (recorder_) {
    auto& reusable = recorder_->reusable[{on, allocator.rounded(bytes)}];
    if (!reusable.empty()) {
      block = reusable.back();
      reusable.pop_back();
      block->refs += 1;
    } else {
      block = allocator.allocate(bytes);
      recorder_->own.insert(block);
      recorder_->blocks.insert(block);
      block->refs += 1;  // the plan's
    }
  } else {
    block = allocator.allocate(bytes);
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
  b.device = on;
  alive_ += 1;
  const uint64_t handle = b.generation * kSlots + slot + 1;
  if (recorder_ && on != kCpu) recorder_->made.emplace(handle, Made{on, block});
  return handle;
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
  if (recorder_ && recorder_->own.count(block) && block->refs == 2) recorder_->reusable[{b.device, block->bytes}].push_back(block);
  release_block(block);
}

void Environment::release_block(Block* block) {
  if (--block->refs == 0) block->home->release(block);
}

Environment::Memory Environment::memory(int on) {
  const DeviceState& d = device(on);
  const int64_t scratch = d.scratch_bytes();
  int64_t pinned = 0;
  for (const auto& [start, p] : *pinned_)
    if (p.device == on && p.locked) pinned += p.bytes;
  return {d.allocator.live() - scratch,        scratch, d.allocator.peak(), d.allocator.cached(), alive_,
          static_cast<int64_t>(plans_.size()), pinned};
}

void Environment::reset_peak() {
  for (auto& d : devices_) d->allocator.reset_peak();
}

void Environment::trim() {
  for (auto& d : devices_) d->allocator.trim();
}

void Environment::write(const Buffer& to, int64_t offset, const std::byte* host, int64_t bytes) {
  if (bytes == 0) return;
  std::byte* at = to.block->data + offset;
  if (Device* d = device(to.device).device.get())
    d->upload(at, host, bytes);
  else
    std::memcpy(at, host, static_cast<size_t>(bytes));
}

void Environment::read(const Buffer& from, int64_t offset, std::byte* host, int64_t bytes) {
  if (bytes == 0) return;
  const std::byte* at = from.block->data + offset;
  if (Device* d = device(from.device).device.get())
    d->download(host, at, bytes);
  else
    std::memcpy(host, at, static_cast<size_t>(bytes));
}

void Environment::transfer(const Buffer& from, int64_t from_offset, const Buffer& to, int64_t to_offset, int64_t bytes) {
  if (bytes == 0) return;
  if (from.block == to.block) fail("ERR_ARGS", "expected a copy between two buffers, got one inside a buffer");
  Device* const source = device(from.device).device.get();
  if (!source) return write(to, to_offset, from.block->data + from_offset, bytes);
  if (to.device == kCpu) return read(from, from_offset, to.block->data + to_offset, bytes);
  if (from.device == to.device) return source->copy(to.block->data + to_offset, from.block->data + from_offset, bytes);
  // Two devices, perhaps of two kinds: by way of the host, piece by piece.
  std::vector<std::byte> piece(static_cast<size_t>(std::min<int64_t>(bytes, int64_t{16} << 20)));
  for (int64_t done = 0; done < bytes;) {
    const int64_t n = std::min<int64_t>(bytes - done, static_cast<int64_t>(piece.size()));
    read(from, from_offset + done, piece.data(), n);
    write(to, to_offset + done, piece.data(), n);
    done += n;
  }
}

void Environment::clear(const Buffer& to, int64_t offset, int64_t bytes) {
  if (bytes == 0) return;
  std::byte* at = to.block->data + offset;
  if (Device* d = device(to.device).device.get())
    d->fill(at, 0, bytes);
  else
    std::memset(at, 0, static_cast<size_t>(bytes));
}

std::shared_ptr<std::byte> Environment::pinned(int64_t bytes, int on) {
  DeviceState& d = device(on);
  if (bytes < 0 || bytes > (int64_t{1} << 40)) fail("ERR_OOM", "expected 0 to 2^40 bytes, got %lld", static_cast<long long>(bytes));
  if (!d.backend) return {new std::byte[static_cast<size_t>(bytes)], std::default_delete<std::byte[]>()};
  d.device->enter();
  Backend* const backend = d.backend;
  std::byte* const memory = backend->allocate_pinned(std::max<int64_t>(bytes, 1));
  (*pinned_)[memory] = {bytes, on, false};
  return {memory, [backend, known = pinned_](std::byte* m) {
            known->erase(m);
            backend->release_pinned(m);
          }};
}

int64_t Environment::lock(std::byte* host, int64_t bytes, int on) {
  DeviceState& d = device(on);
  if (!d.backend) return 0;
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)), at = reinterpret_cast<uintptr_t>(host);
  const int64_t skipped = static_cast<int64_t>((page - at % page) % page);
  const int64_t whole = (bytes - skipped) / static_cast<int64_t>(page) * static_cast<int64_t>(page);
  if (whole <= 0) fail("ERR_ARGS", "expected memory with a whole page in it, got %lld bytes", static_cast<long long>(bytes));
  if (pinned_->count(host + skipped)) fail("ERR_ARGS", "expected memory that is not locked");
  {
    const Inside inside(*d.device);
    d.backend->lock(host + skipped, whole);
  }
  (*pinned_)[host + skipped] = {whole, on, true};
  return skipped;
}

void Environment::unlock(std::byte* start) noexcept {
  const auto found = pinned_->find(start);
  if (found == pinned_->end() || !found->second.locked) return;
  const DeviceState& d = *devices_[static_cast<size_t>(found->second.device)];
  try {
    d.device->wait();
  } catch (const std::exception&) {
    // It copies nothing any more; whoever works with it gets to know.
  }
  d.backend->unlock(start);
  pinned_->erase(found);
}

/// The device that can copy from or to this host memory by itself; null if it is not pinned.
Device* Environment::later(const Buffer& b, const std::byte* host, int64_t bytes) {
  Device* const d = device(b.device).device.get();
  auto found = pinned_->upper_bound(host);
  if (!d || bytes == 0 || found == pinned_->begin()) return nullptr;
  --found;
  if (found->second.locked && found->second.device != b.device) return nullptr;  // unlock() waits for that device alone
  return host - found->first + bytes <= found->second.bytes ? d : nullptr;
}

uint64_t Environment::write_later(const Buffer& to, int64_t offset, const std::byte* host, int64_t bytes) {
  if (Device* d = later(to, host, bytes)) return d->upload_later(to.block->data + offset, host, bytes);
  write(to, offset, host, bytes);
  return 0;
}

uint64_t Environment::read_later(const Buffer& from, int64_t offset, std::byte* host, int64_t bytes) {
  if (Device* d = later(from, host, bytes)) return d->download_later(host, from.block->data + offset, bytes);
  read(from, offset, host, bytes);
  return 0;
}

void Environment::reach(int on, uint64_t ticket) {
  if (Device* d = device(on).device.get()) d->reach(ticket);
}

// ---- calls

int Environment::read_call(int op, std::span<const double> area, void* args) {
  if (op < 0 || op >= kOps) fail("ERR_ARGS", "expected an op number below %d, got %d", kOps, op);
  const OpInfo& info = op_info(static_cast<Op>(op));
  read_args(info.name, info.fields, area, args);
  const Field* first = nullptr;  // the field that says where the call runs
  int on = kCpu;
  for (const Field& f : info.fields) {
    if (f.kind != Kind::tensor) continue;
    Tensor& t = tensor_at(args, f);
    if (!t.present()) continue;
    if (!alive(t.buffer)) fail("ERR_DISPOSED", "%s: '%s' was disposed of", info.name, f.name);
    const Buffer& b = buffer(t.buffer);
    check_inside(info.name, f.name, t, b.bytes);
    if (!first) {
      first = &f;
      on = b.device;
    } else if (b.device != on) {
      fail("ERR_DEVICE", "%s: expected all tensors on one device, got '%s' on %s and '%s' on %s", info.name, first->name,
           device(on).name.c_str(), f.name, device(b.device).name.c_str());
    }
    t.base = b.block->data;
  }
  check_fields(info.name, info.fields, args, on != kCpu);
  info.check(args);
  check_overlap(info.name, info.fields, args);
  return on;
}

namespace {

/// The entry of an op on a device. ERR_UNSUPPORTED if it has none, or for float64, which only the CPU computes in.
const DeviceEntry& device_entry(Backend& backend, const OpInfo& info, int op, const void* args) {
  const DeviceEntry& entry = backend.table()[op];
  if (!entry.kernel) fail("ERR_UNSUPPORTED", "%s is not built for %s", info.name, backend.name());
  for (const Field& f : info.fields) {
    // A field that is float64 in every variant (sums, norms) says nothing about the precision asked for.
    if (f.kind != Kind::tensor || f.dtypes == kF64 || !tensor_at(args, f).present() || tensor_at(args, f).dtype != DType::f64) continue;
    fail("ERR_UNSUPPORTED", "%s: '%s' is float64, which runs on cpu only; this is %s", info.name, f.name, backend.name());
  }
  return entry;
}

}  // namespace

int64_t Environment::workspace_of(int op, const void* args, int on, int threads) {
  const OpInfo& info = op_info(static_cast<Op>(op));
  const DeviceState& d = device(on);
  int64_t bytes = 0;
  if (!d.backend) {
    bytes = info.workspace(args, threads);
  } else if (const DeviceEntry& entry = device_entry(*d.backend, info, op, args); entry.workspace) {
    bytes = entry.workspace(args, d.device->info());
  }
  if (bytes < 0) fail("ERR_INTERNAL", "%s: the size of its workspace overflows", info.name);
  return bytes;
}

void Environment::run(int op, const void* args, int on, Pool& workers, int64_t scratch, bool may_wait) {
  DeviceState& d = device(on);
  if (!d.backend) {
    const CpuKernel kernel = cpu_kernel(static_cast<Op>(op), args, isa);
    kernel(args, Context{&workers, scratch > 0 ? d.reserve_scratch(scratch) : nullptr, scratch});
    return;
  }
  const DeviceEntry& entry = d.backend->table()[op];  // device_entry() was asked when the call was made
  std::byte* const workspace = scratch > 0 ? d.reserve_scratch(scratch) : nullptr;
  {
    const Inside inside(*d.device);
    entry.kernel(args, DeviceContext{d.device->stream(), workspace, scratch, &d.device->info()});
  }
  if (!d.synchronous || !may_wait) return;
  try {
    d.device->wait();
  } catch (const Error& e) {
    fail(e.code(), "%s: %s", entry.op, e.what());
  }
}

void Environment::dispatch(int op, std::span<const double> area) {
  alignas(64) std::byte args[kMaxArgsBytes];
  const int on = read_call(op, area, args);
  const std::shared_ptr<Pool> workers = pool();
  const int64_t scratch = workspace_of(op, args, on, workers->threads());
  run(op, args, on, *workers, scratch, true);
  if (recorder_) record(op, args, on, workers->threads(), scratch);
}

Environment::Cost Environment::cost(int op, std::span<const double> area) {
  alignas(64) std::byte args[kMaxArgsBytes];
  const int on = read_call(op, area, args);
  const OpInfo& info = op_info(static_cast<Op>(op));
  return {info.flops(args), info.bytes(args), workspace_of(op, args, on, pool()->threads())};
}

}  // namespace theia::native
