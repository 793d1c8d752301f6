// Every op's kernels on this device, in the order of ops.def. Compiled twice, as every .cu: for cuda and for simt.
#include "kernels/adamw/adamw.h"
#include "kernels/add/add.h"
#include "kernels/attention/attention.h"
#include "kernels/conv2d/conv2d.h"
#include "kernels/conv_transpose2d/conv_transpose2d.h"
#include "kernels/copy/copy.h"
#include "kernels/cuda/runtime.h"
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
#include "kernels/table_device.h"

namespace theia::THEIA_DEVICE {

// What <op>.cu defines: the launcher, and the bytes of workspace it needs on this device.
#define THEIA_OP(name, Args, fields)                         \
  void name(const Args& args, const DeviceContext& context); \
  int64_t name##_workspace(const Args& args, const DeviceInfo& info);
#include "kernels/ops.def"
#undef THEIA_OP

namespace {
template <class Args, void (*kernel)(const Args&, const DeviceContext&)>
void call(const void* args, const DeviceContext& context) {
  kernel(*static_cast<const Args*>(args), context);
}
template <class Args, int64_t (*bytes)(const Args&, const DeviceInfo&)>
int64_t count(const void* args, const DeviceInfo& info) {
  return bytes(*static_cast<const Args*>(args), info);
}
}  // namespace

#define NONE(op, Args) \
  { #op, sizeof(Args), nullptr, nullptr }
// No workspace.
#define DIRECT(op, Args) \
  { #op, sizeof(Args), &call < Args, op>, nullptr }
#define SCRATCH(op, Args) \
  { #op, sizeof(Args), &call < Args, op>, &count < Args, op##_workspace> }

// clang-format off
constexpr DeviceEntry kTable[kOps] = {
    DIRECT(add, AddArgs),
    DIRECT(copy, CopyArgs),
    DIRECT(reduce, ReduceArgs),
    DIRECT(reduce_grad, ReduceGradArgs),
    DIRECT(layernorm, LayernormArgs),
    SCRATCH(layernorm_grad, LayernormGradArgs),
    SCRATCH(layernorm_map, LayernormMapArgs),
    SCRATCH(layernorm_map_grad, LayernormMapGradArgs),
    DIRECT(attention, AttentionArgs),
    SCRATCH(attention_grad, AttentionGradArgs),
    SCRATCH(preprocess, PreprocessArgs),
    SCRATCH(distill_loss, DistillLossArgs),
    DIRECT(distill_loss_grad, DistillLossGradArgs),
    DIRECT(adamw, AdamwArgs),
    SCRATCH(grad_norm, GradNormArgs),
    SCRATCH(conv2d, Conv2dArgs),
    SCRATCH(conv2d_grad, Conv2dGradArgs),
    SCRATCH(conv_transpose2d, ConvTranspose2dArgs),
    SCRATCH(conv_transpose2d_grad, ConvTranspose2dGradArgs),
    DIRECT(max_pool2d, MaxPool2dArgs),
    DIRECT(max_pool2d_grad, MaxPool2dGradArgs),
    SCRATCH(linear, LinearArgs),
    SCRATCH(linear_grad, LinearGradArgs),
    NONE(pack, PackArgs),
    SCRATCH(patch_embed, PatchEmbedArgs),
    SCRATCH(patch_embed_grad, PatchEmbedGradArgs),
};
// clang-format on

const DeviceEntry* device_table() { return kTable; }

}  // namespace theia::THEIA_DEVICE
