// dbias = sum of dy over all positions. Included by the files per instruction set only.
#include "kernels/conv2d/window.h"
#include "kernels/core/pool.h"
#include "kernels/core/simd.h"

namespace theia::THEIA_ISA {

/// A chunk is 32 channels of all positions. Rows of the map are summed first, then the rows' sums, then the images': long sums keep their
/// low bits.
void channel_sums(const Tensor& dy, const Tensor& mask, const Tensor& dbias, bool accumulate, const Context& context) {
  constexpr int kVectors = 32 / kLanes;
  const float* const data = reinterpret_cast<const float*>(dy.base) + dy.offset;
  const float* const gate = mask.buffer != 0 ? reinterpret_cast<const float*>(mask.base) + mask.offset : nullptr;
  float* const out = reinterpret_cast<float*>(dbias.base) + dbias.offset;
  const int64_t channels = dbias.size[0];
  context.pool->run((channels + 31) / 32, [&](int64_t chunk, int) {
    const int64_t c0 = chunk * 32;
    int lanes[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const int64_t left = channels - c0 - v * kLanes;
      lanes[v] = static_cast<int>(left < 0 ? 0 : left < kLanes ? left : kLanes);
    }
    vf total[kVectors] = {};
    for (int64_t image = 0; image < dy.size[0]; ++image) {
      vf image_sum[kVectors] = {};
      for (int64_t y = 0; y < dy.size[1]; ++y) {
        vf row_sum[kVectors] = {};
        int64_t at = image * dy.stride[0] + y * dy.stride[1] + c0;
        for (int64_t x = 0; x < dy.size[2]; ++x, at += dy.stride[2])
          for (int v = 0; v < kVectors; ++v) {
            if (lanes[v] == 0) break;
            const vf d = load_n(data + at + v * kLanes, lanes[v]);
            row_sum[v] += gate ? (load_n(gate + at + v * kLanes, lanes[v]) > 0.0f ? d : vf{}) : d;
          }
        for (int v = 0; v < kVectors; ++v) image_sum[v] += row_sum[v];
      }
      for (int v = 0; v < kVectors; ++v) total[v] += image_sum[v];
    }
    for (int v = 0; v < kVectors; ++v) {
      if (lanes[v] == 0) break;
      float* o = out + c0 + v * kLanes;
      store_n(o, accumulate ? load_n(o, lanes[v]) + total[v] : total[v], lanes[v]);
    }
  });
}

}  // namespace theia::THEIA_ISA
