// What a running block remembers of mbarriers, boxes on their way and unfinished products. Part of the engine.
#pragma once
#include "kernels/simt/hopper.h"

namespace theia::simt {

struct Thread;

struct MBarrier {
  const uint64_t* at;
  unsigned arrivals, pending;
  int64_t bytes;   // that copies still bring in this phase
  unsigned phase;  // parity of the phase that goes on
  bool fenced;     // its initialisation is seen by the copy engine
  int waiting;     // threads
  char token[2];   // by parity
};

struct NamedBarrier {
  int threads, arrived;
  int turn;
  char token[2];
};

struct BoxCopy {
  BoxMap map;
  std::byte* to;
  MBarrier* barrier;
  int at[BoxMap::kMostRank];
  const Thread* by;
  Site site;
};

/// One wgmma as a warp has issued it: its quarter of the rows.
struct Product {
  float* d[32];  // of each lane
  uint64_t a, b;
  int n, group;
  bool a_along_k, b_along_k;
  Site site;
};

struct ProductQueue {
  static constexpr int kMost = 32;
  Product products[kMost];
  int first, count;
  int group;  // of the next product; groups before it are committed
  int issued;
  bool fenced;
};

struct HopperState {
  static constexpr int kBarriers = 64, kNamed = 16, kCopies = 64, kWarps = 32;
  MBarrier barriers[kBarriers];
  int barrier_count;
  NamedBarrier named[kNamed];
  BoxCopy copies[kCopies];
  int copy_count;
  ProductQueue queues[kWarps];
  // What the four warps of a warpgroup must agree on: the last products that one of them was the first to issue.
  struct Issue {
    uint64_t a, b;
    int n;
  };
  Issue issues[kWarps / 4][ProductQueue::kMost];
  void start_block();
};

}  // namespace theia::simt
