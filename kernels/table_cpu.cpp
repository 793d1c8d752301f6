// Every op's kernels on the CPU, in the order of ops.def.
#include "kernels/adamw/adamw.h"
#include "kernels/add/add.h"
#include "kernels/layernorm/layernorm.h"
#include "kernels/layernorm_map/layernorm_map.h"
#include "kernels/distill_loss/distill_loss.h"
#include "kernels/grad_norm/grad_norm.h"
#include "kernels/attention/attention.h"
#include "kernels/conv2d/conv2d.h"
#include "kernels/conv_transpose2d/conv_transpose2d.h"
#include "kernels/max_pool2d/max_pool2d.h"
#include "kernels/ops.h"
#include "kernels/preprocess/preprocess.h"

namespace theia {

namespace {
template <class Args, void (*kernel)(const Args&, const Context&)>
void call(const void* args, const Context& context) {
  kernel(*static_cast<const Args*>(args), context);
}
}  // namespace

// The plain variant is a template over float and double; the double one is the reference of the tests and of gradcheck.
#define PLAIN(op, Args) &call<Args, cpu::op<float>>, &call<Args, cpu::op<double>>
#if defined(__x86_64__)
#define SIMD(op, Args) {PLAIN(op, Args), &call<Args, avx2::op>, &call<Args, avx512::op>}
#else
#define SIMD(op, Args) {PLAIN(op, Args), nullptr, nullptr}
#endif
#define ONLY_PLAIN(op, Args) {PLAIN(op, Args), nullptr, nullptr}

// Ops on whole numbers: every instruction set gives the same bytes, one source serves all.
#define BYTES(op, Args) {&call<Args, cpu::op>, nullptr, nullptr, nullptr}

constinit const CpuEntry kCpuTable[kOps] = {
    SIMD(add, AddArgs),
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
};

}  // namespace theia
