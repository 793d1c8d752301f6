#define THEIA_ISA avx512
#include "kernels/attention/attention_grad_simd.h"
#include "kernels/attention/attention_simd.h"
