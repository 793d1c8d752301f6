// The patches of byte images as an operand of the device's product.
#pragma once
#include "kernels/gemm/device/gemm.h"
#include "kernels/patch_embed/patch_embed.h"

namespace theia::THEIA_DEVICE {

/// Patches in an image.
int64_t patches_of(const Tensor& images, int64_t patch);
/// Lines are the patches of all images; a tap is one row of a patch, P·C bytes. `along_k`: forward; else the weight gradient's right side.
DeviceOperand byte_patches(const Tensor& images, const Tensor& table, int64_t patch, bool along_k);

}  // namespace theia::THEIA_DEVICE
