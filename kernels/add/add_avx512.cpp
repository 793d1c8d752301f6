#define THEIA_ISA avx512
#include "kernels/add/add_simd.h"
