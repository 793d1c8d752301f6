// A recorded list of calls over pinned blocks of memory. Replaying it is running the same kernels on the same addresses.
//
// On a device with memory of its own, what lives within the recording only (activations, gradients) is moved when the recording ends: it is
// placed by its lifetime into one region that all plans of that device share, since one of them runs at a time. The addresses in the
// recorded calls follow, also when the region grows for a larger plan. On devices that can, the calls are then captured as a graph at the
// first replay, and again when an address changed.
#pragma once
#include <cstdint>
#include <map>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "kernels/core/allocator.h"

namespace theia::native {

struct RecordedCall {
  int op;
  std::vector<std::byte> args;  // the op's plain struct; base pointers resolved, valid while the plan pins its blocks
  int device = 0;
  int threads = 0;  // how many threads `workspace` was computed for
  int64_t workspace = 0;
};

/// A buffer made during a recording.
struct Made {
  int device;
  Block* block;
};

/// A base address inside the region that plans share.
struct Transient {
  size_t call;
  uint32_t field;  // offset of the tensor in the args struct
  int64_t offset;  // in the region, bytes
};

/// What a plan has in one device's shared region.
struct TransientUse {
  int64_t bytes = 0;
  bool held = false;
  int64_t moves = -1;  // the region's count when the addresses were last set
  std::vector<Transient> tensors;
};

struct Plan {
  std::vector<RecordedCall> calls;
  /// Every block a call touches, each held by one reference.
  std::unordered_set<Block*> blocks;
  /// Blocks allocated and freed again during the recording, by device and size. Later calls of the same recording may take them over,
  /// because a replay runs the calls in the same order: this is what keeps a recorded step as small as an immediate one.
  std::map<std::pair<int, int64_t>, std::vector<Block*>> reusable;
  /// Blocks that were allocated during the recording.
  std::unordered_set<Block*> own;
  /// Buffers made during the recording on devices other than the CPU, by handle.
  std::unordered_map<uint64_t, Made> made;

  std::map<int, TransientUse> transients;  // by device
  int captured_on = 0;                     // the device that all calls run on, if it can capture; else 0
  void* graph = nullptr;
  int64_t scratch_moves = -1;  // the scratch's count at the capture
};

/// A buffer of a recording: the calls that use it first and last, and its size.
struct Lifetime {
  int64_t first, last, bytes;
  int64_t offset = 0;  // out
};

/// Places buffers so that no two that live at the same time overlap, the largest first, each at the lowest offset that is free. Offsets are
/// multiples of 256. Returns the bytes of the region.
int64_t place(std::vector<Lifetime>& buffers);

}  // namespace theia::native
