#include "kernels/ops.h"

#include "kernels/core/error.h"
#include "kernels/adamw/adamw.h"
#include "kernels/add/add.h"
#include "kernels/attention/attention.h"
#include "kernels/conv2d/conv2d.h"
#include "kernels/conv_transpose2d/conv_transpose2d.h"
#include "kernels/copy/copy.h"
#include "kernels/distill_loss/distill_loss.h"
#include "kernels/grad_norm/grad_norm.h"
#include "kernels/layernorm/layernorm.h"
#include "kernels/layernorm_map/layernorm_map.h"
#include "kernels/linear/linear.h"
#include "kernels/max_pool2d/max_pool2d.h"
#include "kernels/pack/pack.h"
#include "kernels/patch_embed/patch_embed.h"
#include "kernels/preprocess/preprocess.h"
#include "kernels/reduce/reduce.h"

namespace theia {

namespace {

template <class Args, size_t N>
constexpr OpInfo info(const char* name, const Field (&fields)[N]) {
  static_assert(std::is_trivially_copyable_v<Args> && sizeof(Args) <= kMaxArgsBytes);
  return {name,
          sizeof(Args),
          fields,
          [](const void* a) { check(*static_cast<const Args*>(a)); },
          [](const void* a, int threads) { return workspace(*static_cast<const Args*>(a), threads); },
          [](const void* a) { return flops(*static_cast<const Args*>(a)); },
          [](const void* a) { return bytes(*static_cast<const Args*>(a)); }};
}

const OpInfo kTable[kOps] = {
#define THEIA_OP(name, Args, fields) info<Args>(#name, fields),
#include "kernels/ops.def"
#undef THEIA_OP
};

}  // namespace

const OpInfo& op_info(Op op) { return kTable[static_cast<int>(op)]; }

CpuKernel cpu_kernel(Op op, const void* args, Isa isa) {
  const CpuEntry& entry = kCpuTable[static_cast<int>(op)];
  const OpInfo& info = op_info(op);
  for (const Field& f : info.fields)
    // A field that is float64 in every variant (sums, norms) says nothing about the precision asked for.
    if (f.kind == Kind::tensor && f.dtypes != kF64 && tensor_at(args, f).present() && tensor_at(args, f).dtype == DType::f64) {
      if (!entry.plain_f64) fail("ERR_UNSUPPORTED", "%s has no float64 variant on cpu", info.name);
      return entry.plain_f64;
    }
  if (isa == Isa::avx512 && entry.avx512) return entry.avx512;
  if (isa != Isa::plain && entry.avx2) return entry.avx2;
  if (!entry.plain) fail("ERR_UNSUPPORTED", "%s is not built for cpu", info.name);
  return entry.plain;
}

}  // namespace theia
