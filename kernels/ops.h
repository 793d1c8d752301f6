// The table of ops: what each one is called, what its arguments are, how they are checked and what they cost.
// Adding an op: a folder with its contract, a line in ops.def, its header in ops.cpp, a line per backend in table_<backend>.cpp.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/core/context.h"
#include "kernels/core/cpu.h"
#include "kernels/core/field.h"

namespace theia {

enum class Op : int32_t {
#define THEIA_OP(name, Args, fields) name,
#include "kernels/ops.def"
#undef THEIA_OP
  count
};
inline constexpr int kOps = static_cast<int>(Op::count);

struct OpInfo {
  const char* name;
  size_t args_bytes;
  std::span<const Field> fields;
  void (*check)(const void* args);                      // what the field list cannot say; throws ERR_SHAPE, ERR_DTYPE, ERR_ARGS
  int64_t (*workspace)(const void* args, int threads);  // bytes of scratch
  double (*flops)(const void* args);
  double (*bytes)(const void* args);
};

const OpInfo& op_info(Op op);

/// One op on the CPU: a function per instruction set and the double-precision reference. An empty entry is ERR_UNSUPPORTED.
using CpuKernel = void (*)(const void* args, const Context& context);
struct CpuEntry {
  const char* op;
  CpuKernel plain, plain_f64, avx2, avx512;
};
extern const CpuEntry kCpuTable[kOps];  // table_cpu.cpp

/// The kernel for these arguments: float64 tensors (in fields that allow other types too) go to the plain double variant, everything else
/// to the widest variant that the op has up to `isa`.
CpuKernel cpu_kernel(Op op, const void* args, Isa isa);

/// The largest args struct, so that dispatchers can keep one on the stack.
inline constexpr size_t kMaxArgsBytes = 8192;

}  // namespace theia
