// Resizes uint8 images as Pillow does, byte for byte: antialiased bilinear or bicubic, one pass per axis, horizontal first, bytes between.
// What is written may be a window of the resized image (a crop): the rest of it is never made.
#pragma once
#include "kernels/core/context.h"
#include "kernels/core/field.h"

namespace theia {

enum class ResizeFilter : int64_t { bilinear, bicubic };

struct PreprocessArgs {
  Tensor image;           // [B,H,W,C] uint8, packed
  Tensor out;             // [B,h,w,C] uint8, packed: the resized images from (top, left) on
  int64_t filter;         // ResizeFilter
  int64_t height, width;  // of the whole resized image
  int64_t top, left;
};

inline constexpr Field kPreprocessFields[] = {
    THEIA_TENSOR(PreprocessArgs, image, in, kU8, 4, 4),
    THEIA_TENSOR(PreprocessArgs, out, out, kU8, 4, 4),
    THEIA_CHOICE(PreprocessArgs, filter, "bilinear|bicubic"),
    THEIA_INT(PreprocessArgs, height),
    THEIA_INT(PreprocessArgs, width),
    THEIA_INT(PreprocessArgs, top),
    THEIA_INT(PreprocessArgs, left),
};

void check(const PreprocessArgs& a);
int64_t workspace(const PreprocessArgs& a, int threads);
double flops(const PreprocessArgs& a);
double bytes(const PreprocessArgs& a);

namespace cpu {
void preprocess(const PreprocessArgs& a, const Context& context);
}

}  // namespace theia
