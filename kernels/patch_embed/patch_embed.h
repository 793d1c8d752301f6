// Tokens straight from bytes: rescale and normalise (a table look-up while patches are packed), patch projection, bias, positions, CLS.
// No float image and no patch matrix exist.
#pragma once
#include "kernels/core/context.h"
#include "kernels/core/field.h"

namespace theia {

/// With w as bfloat16 (devices only) y is bfloat16 or float32, and everything else is float32.
struct PatchEmbedArgs {
  Tensor images;              // [B,H,W,C] uint8, packed; H and W multiples of the patch
  Tensor table;               // [C·256]: what byte v of channel c becomes is table[c·256 + v]
  Tensor w;                   // [D,P,P,C]
  Tensor packed;              // optional: w as panels (use forward)
  Tensor bias;                // [D]
  Tensor positions;           // [1+N,D], N = H/P · W/P; row 0 belongs to CLS and is not read without it
  Tensor cls;                 // [D], optional
  Tensor registers;           // [R,D], optional: tokens behind the patches, with positions of their own
  Tensor register_positions;  // [R,D], with registers or not at all
  Tensor y;                   // [B,T,D], T = (1 with CLS) + N + R, packed
};

inline constexpr Field kPatchEmbedFields[] = {
    THEIA_TENSOR(PatchEmbedArgs, images, in, kU8, 4, 4),
    THEIA_TENSOR(PatchEmbedArgs, table, in, kReal, 1, 1),
    THEIA_TENSOR(PatchEmbedArgs, w, in, kActivation, 4, 4),
    THEIA_OPTIONAL(PatchEmbedArgs, packed, in, kReal, 1, 1),
    THEIA_TENSOR(PatchEmbedArgs, bias, in, kReal, 1, 1),
    THEIA_TENSOR(PatchEmbedArgs, positions, in, kReal, 2, 2),
    THEIA_OPTIONAL(PatchEmbedArgs, cls, in, kReal, 1, 1),
    THEIA_OPTIONAL(PatchEmbedArgs, registers, in, kReal, 2, 2),
    THEIA_OPTIONAL(PatchEmbedArgs, register_positions, in, kReal, 2, 2),
    THEIA_TENSOR(PatchEmbedArgs, y, out, kActivation, 3, 3),
};

struct PatchEmbedGradArgs {
  Tensor images, table;        // as forward had them
  Tensor w;                    // optional: only its type counts, bfloat16 for the weight gradient on tensor cores whatever dy is
  Tensor dy;                   // [B,T,D], packed
  Tensor dw;                   // [D,P,P,C]
  Tensor dbias;                // [D]
  Tensor dpositions;           // [1+N,D]; row 0 is zero without CLS
  Tensor dcls;                 // [D]; given if and only if the model has CLS
  Tensor dregisters;           // [R,D]; given if and only if the model has registers
  Tensor dregister_positions;  // [R,D]
  int64_t accumulate;          // 1: add to all of them
};

inline constexpr Field kPatchEmbedGradFields[] = {
    THEIA_TENSOR(PatchEmbedGradArgs, images, in, kU8, 4, 4),
    THEIA_TENSOR(PatchEmbedGradArgs, table, in, kReal, 1, 1),
    THEIA_OPTIONAL(PatchEmbedGradArgs, w, in, kActivation, 4, 4),
    THEIA_TENSOR(PatchEmbedGradArgs, dy, in, kActivation, 3, 3),
    THEIA_TENSOR(PatchEmbedGradArgs, dw, accumulate, kReal, 4, 4),
    THEIA_TENSOR(PatchEmbedGradArgs, dbias, accumulate, kReal, 1, 1),
    THEIA_TENSOR(PatchEmbedGradArgs, dpositions, accumulate, kReal, 2, 2),
    THEIA_OPTIONAL(PatchEmbedGradArgs, dcls, accumulate, kReal, 1, 1),
    THEIA_OPTIONAL(PatchEmbedGradArgs, dregisters, accumulate, kReal, 2, 2),
    THEIA_OPTIONAL(PatchEmbedGradArgs, dregister_positions, accumulate, kReal, 2, 2),
    THEIA_FLAG(PatchEmbedGradArgs, accumulate),
};

void check(const PatchEmbedArgs& a);
int64_t workspace(const PatchEmbedArgs& a, int threads);
double flops(const PatchEmbedArgs& a);
double bytes(const PatchEmbedArgs& a);
void check(const PatchEmbedGradArgs& a);
int64_t workspace(const PatchEmbedGradArgs& a, int threads);
double flops(const PatchEmbedGradArgs& a);
double bytes(const PatchEmbedGradArgs& a);

namespace cpu {
template <class T>
void patch_embed(const PatchEmbedArgs& a, const Context& context);
template <class T>
void patch_embed_grad(const PatchEmbedGradArgs& a, const Context& context);
}  // namespace cpu
namespace avx2 {
void patch_embed(const PatchEmbedArgs& a, const Context& context);
void patch_embed_grad(const PatchEmbedGradArgs& a, const Context& context);
}  // namespace avx2
namespace avx512 {
void patch_embed(const PatchEmbedArgs& a, const Context& context);
void patch_embed_grad(const PatchEmbedGradArgs& a, const Context& context);
}  // namespace avx512

}  // namespace theia
