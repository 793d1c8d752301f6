#define THEIA_ISA avx2
#include "kernels/adamw/adamw_simd.h"
