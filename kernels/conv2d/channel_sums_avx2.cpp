#define THEIA_ISA avx2
#include "kernels/conv2d/channel_sums_simd.h"
