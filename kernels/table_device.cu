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
  { #op, nullptr, nullptr }
// No workspace.
#define DIRECT(op, Args) \
  { #op, &call < Args, op>, nullptr }
#define SCRATCH(op, Args) \
  { #op, &call < Args, op>, &count < Args, op##_workspace> }

// clang-format off
constexpr DeviceEntry kTable[kOps] = {
    NONE(add, AddArgs),

    NONE(copy, CopyArgs),

    NONE(reduce, ReduceArgs),

    NONE(reduce_grad, ReduceGradArgs),

    NONE(layernorm, LayernormArgs),

    NONE(layernorm_grad, LayernormGradArgs),

    NONE(layernorm_map, LayernormMapArgs),

    NONE(layernorm_map_grad, LayernormMapGradArgs),

    NONE(attention, AttentionArgs),

    NONE(attention_grad, AttentionGradArgs),

    NONE(preprocess, PreprocessArgs),

    NONE(distill_loss, DistillLossArgs),

    NONE(distill_loss_grad, DistillLossGradArgs),

    NONE(adamw, AdamwArgs),

    NONE(grad_norm, GradNormArgs),

    NONE(conv2d, Conv2dArgs),

    NONE(conv2d_grad, Conv2dGradArgs),

    NONE(conv_transpose2d, ConvTranspose2dArgs),

    NONE(conv_transpose2d_grad, ConvTranspose2dGradArgs),

    NONE(max_pool2d, MaxPool2dArgs),

    NONE(max_pool2d_grad, MaxPool2dGradArgs),

    SCRATCH(linear, LinearArgs),

    SCRATCH(linear_grad, LinearGradArgs),

    NONE(pack, PackArgs),

    SCRATCH(patch_embed, PatchEmbedArgs),

    SCRATCH(patch_embed_grad, PatchEmbedGradArgs),
};
// clang-format on

const DeviceEntry* device_table() { return kTable; }

}  // namespace theia::THEIA_DEVICE
