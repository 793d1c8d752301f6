// The devices an environment computes on: the CPU, and those of the backends `cuda` and `simt` once they are asked for.
#pragma once
#include <memory>
#include <string>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"

namespace theia::native {

/// "cuda:1" taken apart. "cuda" is "cuda:0"; the text of a device 0 is the kind alone.
struct DeviceName {
  std::string kind;
  int index;
  std::string text() const { return index == 0 ? kind : kind + ":" + std::to_string(index); }
};
/// Throws ERR_DEVICE for a name that is none.
DeviceName parse_device(const std::string& name);

/// The backend of a kind other than cpu, the same for the whole process. Throws ERR_DEVICE if this build lacks it, which for simt is known
/// only when theia_simt.node is looked for beside the addon.
Backend& backend_of(const std::string& kind);

/// One device of one environment.
class DeviceState {
 public:
  /// Throws ERR_DEVICE, ERR_CUDA.
  explicit DeviceState(const DeviceName& name);
  ~DeviceState();

  const std::string name;
  Backend* const backend;                // null: the CPU
  const std::unique_ptr<Device> device;  // null: the CPU
  Allocator allocator;

  /// Scratch of at least `bytes` that all ops of this device share, one after the other. It only grows; `scratch_moves` counts how often
  /// it moved, so that what remembers its address knows.
  std::byte* reserve_scratch(int64_t bytes);
  int64_t scratch_bytes() const { return scratch_ ? scratch_->bytes : 0; }
  int64_t scratch_moves = 0;

  /// The region for what lives within a replay only, shared by all plans of this device: as large as the largest wants it, there while one
  /// holds it, allocated when one is replayed. `transient_moves` counts how often it moved.
  void hold_transients(int64_t bytes);
  void drop_transients();
  std::byte* transients();
  int64_t transient_moves = 0;

  /// THEIA_SYNC=1: every call is waited for, so that what a kernel does wrong is reported under its op's name.
  const bool synchronous;

 private:
  Block* scratch_ = nullptr;
  Block* transients_ = nullptr;
  int64_t transient_bytes_ = 0;  // what the largest holder so far wants
  int holders_ = 0;
};

}  // namespace theia::native
