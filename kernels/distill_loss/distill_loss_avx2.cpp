#define THEIA_ISA avx2
#include "kernels/distill_loss/distill_loss_simd.h"
