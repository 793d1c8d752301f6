#define THEIA_ISA avx2
#include "kernels/patch_embed/patch_embed_simd.h"
