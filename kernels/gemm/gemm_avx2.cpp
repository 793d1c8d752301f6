#define THEIA_ISA avx2
#include "kernels/gemm/gemm_simd.h"
