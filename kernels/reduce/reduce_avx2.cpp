#define THEIA_ISA avx2
#include "kernels/reduce/reduce_simd.h"
