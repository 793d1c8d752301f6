#define THEIA_ISA avx2
#include "kernels/add/add_simd.h"
