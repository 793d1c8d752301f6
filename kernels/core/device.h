// What a backend with memory of its own (cuda, simt) is to those above it. A backend's code lies in namespace theia::THEIA_DEVICE; these
// types do not: they are what crosses the border, and look the same from both sides.
#pragma once
#include <cstddef>
#include <cstdint>

namespace theia {

/// What launchers choose tiles by.
struct DeviceInfo {
  char name[96];
  int major, minor;                  // compute capability; simt says 9.0
  int multiprocessors;               // 132 on an H100 or H200
  int64_t shared_per_block;          // bytes of shared memory a block may ask for (opt-in maximum): 227 KB on sm_90, 163 KB on sm_80 and 87
  int64_t shared_per_multiprocessor;
  int64_t registers_per_multiprocessor;
  int64_t l2_bytes;
  int64_t memory_bytes;
};

/// What a device kernel gets beside its arguments. Work goes to `stream` in order; nothing here waits for it.
struct DeviceContext {
  void* stream;          // cudaStream_t; unused by simt, which runs a launch at once
  std::byte* workspace;  // device memory, 256-byte aligned, of at least the op's workspace bytes; contents undefined
  int64_t workspace_bytes;
  const DeviceInfo* info;
};

/// One op on a device. An empty kernel is ERR_UNSUPPORTED naming op and backend.
struct DeviceEntry {
  const char* op;
  void (*kernel)(const void* args, const DeviceContext& context);
  int64_t (*workspace)(const void* args, const DeviceInfo& info);  // null: none
};

}  // namespace theia
