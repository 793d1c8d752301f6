#define THEIA_ISA avx512
#include "kernels/core/peak_simd.h"
