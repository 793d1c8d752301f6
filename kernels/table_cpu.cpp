// Every op's kernels on the CPU, in the order of ops.def.
#include "kernels/add/add.h"
#include "kernels/layernorm/layernorm.h"
#include "kernels/layernorm_map/layernorm_map.h"
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
    BYTES(preprocess, PreprocessArgs),
};

}  // namespace theia
