#define THEIA_ISA avx512
#include "kernels/distill_loss/distill_loss_simd.h"
