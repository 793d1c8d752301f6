// A recorded list of calls over pinned blocks of memory. Replaying it is running the same kernels on the same addresses.
#pragma once
#include <cstdint>
#include <map>
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

struct Plan {
  std::vector<RecordedCall> calls;
  /// Every block a call touches, each held by one reference.
  std::unordered_set<Block*> blocks;
  /// Blocks allocated and freed again during the recording. Later calls of the same recording may take them over, because a replay
  /// runs the calls in the same order: this is what keeps a recorded step as small as an immediate one.
  /// By device and size.
  std::map<std::pair<int, int64_t>, std::vector<Block*>> reusable;
  /// Blocks that were allocated during the recording.
  std::unordered_set<Block*> own;
};

}  // namespace theia::native
