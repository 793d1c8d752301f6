#define THEIA_ISA avx512
#include "kernels/linear/linear_simd.h"
