// Patch embedding as a GEMM: rows are patches, a tap is one row of a patch (P·C contiguous bytes).
#pragma once
#include "kernels/gemm/gemm.h"
#include "kernels/patch_embed/patch_embed.h"

namespace theia {

/// The implicit patch matrix [B·N, P·P·C] of byte images.
Operand byte_patches(const Tensor& images, const Tensor& table, int64_t patch);
/// w [D,P,P,C] as B[k][n].
WeightView patch_weights(const Tensor& w);
/// Tokens of patches inside [B,T,D], behind CLS if there is one.
RowMap token_rows(const Tensor& y, int64_t patches);
Gemm patch_embed_gemm(const PatchEmbedArgs& a);
Gemm patch_embed_grad_gemm(const PatchEmbedGradArgs& a);
/// Workspace in front of the GEMM's: gradients summed over the batch, [1+N+R,D] of the tensors' type.
int64_t position_sums_bytes(const PatchEmbedGradArgs& a);

}  // namespace theia
