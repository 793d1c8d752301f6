// Descriptions of maps for the copy engine of sm_90 (kernels/ptx/tma.h), made on the host and handed to kernels as __grid_constant__
// parameters.
#pragma once
#include "kernels/cuda/runtime.h"

namespace theia::THEIA_DEVICE {

#ifdef __CUDACC__
/// The driver's CUtensorMap.
struct alignas(128) TensorMap {
  uint64_t opaque[16];
};
#else
using TensorMap = simt::BoxMap;
#endif

inline constexpr int kMostRank = 5;
/// Elements of a line of a box: 128 bytes.
inline constexpr int kBoxLine = 64;

/// A map of bf16 of which kernels read boxes: dimension 0 is packed and in boxes of kBoxLine, the others are strides[i - 1] elements apart.
struct BoxedMap {
  const void* data;  // at a multiple of 16 bytes
  int rank;
  int64_t size[kMostRank];
  int64_t stride[kMostRank - 1];  // multiples of 8
  int box[kMostRank];             // 1 to 256
};

/// The copy engine can read it.
bool takes_boxes(const BoxedMap& m);
/// ERR_CUDA if it cannot, or the driver knows no tensor maps. `name` appears in errors.
TensorMap tensor_map(const char* name, const BoxedMap& m);

}  // namespace theia::THEIA_DEVICE
