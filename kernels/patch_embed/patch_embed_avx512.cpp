#define THEIA_ISA avx512
#include "kernels/patch_embed/patch_embed_simd.h"
