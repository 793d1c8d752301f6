#define THEIA_ISA avx512
#include "kernels/conv2d/channel_sums_simd.h"
