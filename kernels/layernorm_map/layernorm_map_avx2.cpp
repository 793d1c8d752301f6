#define THEIA_ISA avx2
#include "kernels/layernorm_map/layernorm_map_simd.h"
