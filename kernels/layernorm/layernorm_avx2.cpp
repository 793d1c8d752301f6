#define THEIA_ISA avx2
#include "kernels/layernorm/layernorm_simd.h"
