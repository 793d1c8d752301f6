// How a product is cut into tasks: by shape and register tile only, so that results do not depend on the number of threads.
#pragma once
#include "kernels/gemm/gemm.h"

namespace theia {

inline constexpr int64_t kBlockK = 256;        // B packed on the way: a panel's 256 x 32 floats are 32 KB and stay in L1 while strips pass
inline constexpr int64_t kCopiedBlockK = 384;  // B packed before, A copied
inline constexpr int64_t kLongBlockK = 768;    // nothing to copy: panels stream from L2, C is passed over least often
inline constexpr int64_t kTaskRows = 208;      // rows a task takes at most: one image of tokens
inline constexpr int64_t kCopiedRows = 96;     // the same where a copy of A shares the workspace with tiles of C
inline constexpr int64_t kThreadFloats = 65536;  // 256 KB a thread

struct GemmPlan {
  int64_t strips, panels;  // of the whole product: strips of mr rows, panels of 32 columns
  int64_t group_columns, group_panels;
  int64_t row_tasks, column_tasks;
  bool by_rows;      // neighbouring tasks share their rows of A, else their panels of B
  bool plain;        // nothing but C = or C +=: partial sums may live in C
  bool direct_a;     // A's rows are read where they are
  bool many_blocks;  // more than one block of k
  // a thread's workspace, in floats
  int64_t a_at, b_at, tiles_at, thread_floats;
};

GemmPlan plan_gemm(const Gemm& g, int mr);

/// End of the block of k that begins at k0. Blocks are equal shares of what lies contiguous in B.
int64_t block_end(const Gemm& g, int64_t k0);

}  // namespace theia
