#define THEIA_ISA avx512
#include "kernels/layernorm/layernorm_simd.h"
