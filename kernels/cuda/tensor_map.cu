#include "kernels/cuda/tensor_map.h"

#ifdef __CUDACC__
#include <cuda.h>

#include <cstring>
#endif

namespace theia::THEIA_DEVICE {

namespace {

constexpr int64_t kMostSize = int64_t{1} << 32, kMostStrideBytes = int64_t{1} << 40;
constexpr int64_t kElement = 2;

#ifdef __CUDACC__

/// The driver's function, found when it is first needed: the addon links no driver.
decltype(&cuTensorMapEncodeTiled) encoder(const char* name) {
  static void* function = nullptr;  // the same for every thread
  if (!function) {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    throw_if_failed(name, cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result));
    if (result != cudaDriverEntryPointSuccess || !found) fail("ERR_CUDA", "%s: the driver is too old for tensor maps (12.0)", name);
    function = found;
  }
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

#endif

}  // namespace

bool takes_boxes(const BoxedMap& m) {
  if (reinterpret_cast<uintptr_t>(m.data) % 16 || m.rank < 2 || m.rank > kMostRank || m.box[0] != kBoxLine) return false;
  for (int i = 0; i < m.rank; ++i)
    if (m.size[i] < 1 || m.size[i] > kMostSize || m.box[i] < 1 || m.box[i] > 256) return false;
  for (int i = 0; i + 1 < m.rank; ++i)
    if (m.stride[i] < 1 || m.stride[i] * kElement % 16 || m.stride[i] * kElement >= kMostStrideBytes) return false;
  return true;
}

TensorMap tensor_map(const char* name, const BoxedMap& m) {
  if (!takes_boxes(m)) fail("ERR_CUDA", "%s: the copy engine cannot read this map", name);
  TensorMap map{};
#ifdef __CUDACC__
  CUtensorMap encoded;
  static_assert(sizeof map == sizeof encoded && alignof(TensorMap) >= alignof(CUtensorMap));
  cuuint64_t size[kMostRank], stride[kMostRank];
  cuuint32_t box[kMostRank], step[kMostRank];
  for (int i = 0; i < m.rank; ++i) {
    size[i] = static_cast<cuuint64_t>(m.size[i]);
    box[i] = static_cast<cuuint32_t>(m.box[i]);
    step[i] = 1;
    if (i + 1 < m.rank) stride[i] = static_cast<cuuint64_t>(m.stride[i] * kElement);
  }
  const CUresult result = encoder(name)(&encoded, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<cuuint32_t>(m.rank),
                                        const_cast<void*>(m.data), size, stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                        CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) fail("ERR_CUDA", "%s: cuTensorMapEncodeTiled: error %d", name, static_cast<int>(result));
  std::memcpy(&map, &encoded, sizeof map);
#else
  map.data = static_cast<const std::byte*>(m.data);
  map.magic = TensorMap::kMagic;
  map.rank = static_cast<uint32_t>(m.rank);
  for (int i = 0; i < m.rank; ++i) {
    map.size[i] = static_cast<uint32_t>(m.size[i] - (m.size[i] == kMostSize));
    map.box[i] = static_cast<uint16_t>(m.box[i]);
    if (i + 1 < m.rank) map.stride[i] = m.stride[i] * kElement;
  }
#endif
  return map;
}

}  // namespace theia::THEIA_DEVICE
