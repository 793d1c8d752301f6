// What a kernel gets beside its arguments.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/core/pool.h"

namespace theia {

struct Context {
  Pool* pool;
  std::byte* workspace;  // 64-byte aligned scratch of at least workspace(args, pool->threads()) bytes; contents undefined
  int64_t workspace_bytes;
};

}  // namespace theia
