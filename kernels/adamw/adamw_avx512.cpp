#define THEIA_ISA avx512
#include "kernels/adamw/adamw_simd.h"
