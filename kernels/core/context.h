// What a kernel gets beside its arguments.
#pragma once
#include <cstddef>
#include <cstdint>

namespace theia {

class Pool;  // kernels/core/pool.h, included where work is handed out: device code reads this header and needs no threads

struct Context {
  Pool* pool;
  std::byte* workspace;  // 64-byte aligned scratch of at least workspace(args, pool->threads()) bytes; contents undefined
  int64_t workspace_bytes;
};

}  // namespace theia
