#define THEIA_ISA avx2
#include "kernels/linear/linear_simd.h"
