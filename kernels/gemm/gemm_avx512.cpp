#define THEIA_ISA avx512
#include "kernels/gemm/gemm_simd.h"
