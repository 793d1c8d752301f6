#define THEIA_ISA avx512
#include "kernels/grad_norm/grad_norm_simd.h"
