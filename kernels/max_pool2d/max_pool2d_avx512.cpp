#define THEIA_ISA avx512
#include "kernels/max_pool2d/max_pool2d_simd.h"
