#define THEIA_ISA avx2
#include "kernels/copy/copy_simd.h"
