#define THEIA_ISA avx2
#include "kernels/core/peak_simd.h"
