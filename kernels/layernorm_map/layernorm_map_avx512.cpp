#define THEIA_ISA avx512
#include "kernels/layernorm_map/layernorm_map_simd.h"
