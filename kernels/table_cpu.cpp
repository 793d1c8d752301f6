// Every op's kernels on the CPU, in the order of ops.def.
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
#include "kernels/ops.h"

namespace theia {

namespace {
template <class Args, void (*kernel)(const Args&, const Context&)>
void call(const void* args, const Context& context) {
  kernel(*static_cast<const Args*>(args), context);
}
}  // namespace

// The plain variant is a template over float and double; the double one is the reference of the tests and of gradcheck.
#define PLAIN(op, Args) #op, &call < Args, cpu::op < float>>, &call < Args, cpu::op < double>>
#if defined(__x86_64__)
#define SIMD(op, Args) \
  { PLAIN(op, Args), &call<Args, avx2::op>, &call<Args, avx512::op> }
#else
#define SIMD(op, Args) \
  { PLAIN(op, Args), nullptr, nullptr }
#endif

// Ops on whole numbers: every instruction set gives the same bytes, one source serves all.
#define BYTES(op, Args) \
  { #op, &call < Args, cpu::op>, nullptr, nullptr, nullptr }

constexpr CpuEntry kCpuTable[kOps] = {
    SIMD(add, AddArgs),
    SIMD(copy, CopyArgs),
    SIMD(reduce, ReduceArgs),
    SIMD(reduce_grad, ReduceGradArgs),
    SIMD(layernorm, LayernormArgs),
    SIMD(layernorm_grad, LayernormGradArgs),
    SIMD(layernorm_map, LayernormMapArgs),
    SIMD(layernorm_map_grad, LayernormMapGradArgs),
    SIMD(attention, AttentionArgs),
    SIMD(attention_grad, AttentionGradArgs),
    BYTES(preprocess, PreprocessArgs),
    SIMD(distill_loss, DistillLossArgs),
    SIMD(distill_loss_grad, DistillLossGradArgs),
    SIMD(adamw, AdamwArgs),
    SIMD(grad_norm, GradNormArgs),
    SIMD(conv2d, Conv2dArgs),
    SIMD(conv2d_grad, Conv2dGradArgs),
    SIMD(conv_transpose2d, ConvTranspose2dArgs),
    SIMD(conv_transpose2d_grad, ConvTranspose2dGradArgs),
    SIMD(max_pool2d, MaxPool2dArgs),
    SIMD(max_pool2d_grad, MaxPool2dGradArgs),
    SIMD(linear, LinearArgs),
    SIMD(linear_grad, LinearGradArgs),
    SIMD(pack, PackArgs),
    SIMD(patch_embed, PatchEmbedArgs),
    SIMD(patch_embed_grad, PatchEmbedGradArgs),
};

namespace {
constexpr const char* kNames[] = {
#define THEIA_OP(name, Args, fields) #name,
#include "kernels/ops.def"
#undef THEIA_OP
};
constexpr bool in_order() {
  for (int i = 0; i < kOps; ++i)
    for (int c = 0; kNames[i][c] || (kCpuTable[i].op && kCpuTable[i].op[c]); ++c)
      if (!kCpuTable[i].op || kNames[i][c] != kCpuTable[i].op[c]) return false;
  return true;
}
static_assert(in_order(), "table_cpu.cpp must list the ops of ops.def in its order");
}  // namespace

}  // namespace theia
