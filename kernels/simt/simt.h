// The g++ half of kernels/cuda/runtime.h, which alone includes it: CUDA's keywords and built-in variables for a compiler that has none.
#pragma once
#include "kernels/simt/emulator.h"
#include "kernels/simt/hopper.h"
#include "kernels/simt/intrinsics.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

#define threadIdx (::theia::simt::place->thread)
#define blockIdx (::theia::simt::place->block)
#define blockDim (::theia::simt::place->block_size)
#define gridDim (::theia::simt::place->grid_size)

#define THEIA_SHARED(type, name, dims) \
  static char name##_key;              \
  auto& name = *static_cast<type(*) dims>(::theia::simt::shared_array(&name##_key, sizeof(type dims), alignof(type)))
#define THEIA_DYNAMIC_SHARED(name) std::byte* const name = ::theia::simt::dynamic_shared()
