// Where the lines of an operand start: once for all of them, or one after the other without a division.
#pragma once
#include "kernels/gemm/device/gemm.h"
#include "kernels/gemm/device/tile.cuh"

namespace theia::THEIA_DEVICE {

/// Line i's place: elements from the start of the data, and the map position its taps are counted from.
struct Line {
  int64_t offset;
  int y, x;
};

/// A map position that no tap can bring inside.
inline constexpr int kOutside = -(1 << 30);

struct GridPosition {
  int64_t image;
  int y, x;
};
__device__ __forceinline__ GridPosition position_of(const RowMap& r, int64_t i) {
  const int gw = static_cast<int>(r.gw), gh = static_cast<int>(r.gh);
  if (i >> 31 == 0) {  // a 64-bit division costs some 80 instructions
    const unsigned row = static_cast<unsigned>(i) / gw, image = row / gh;
    return {image, static_cast<int>(row - image * gh), static_cast<int>(static_cast<unsigned>(i) - row * gw)};
  }
  const int64_t row = i / gw, image = row / gh;
  return {image, static_cast<int>(row - image * gh), static_cast<int>(i - row * gw)};
}
__device__ __forceinline__ int64_t offset_of(const RowMap& r, const GridPosition& p) { return p.image * r.b + p.y * r.y + p.x * r.x; }
__device__ __forceinline__ int64_t line_offset(const RowMap& r, int64_t i) {
  return r.gh * r.gw == 1 ? i * r.b : offset_of(r, position_of(r, i));
}

__device__ __forceinline__ Line line_of(const DeviceOperand& o, int64_t i) {
  const GridPosition p = position_of(o.lines, i);
  return {offset_of(o.lines, p), static_cast<int>(p.y * o.step_y), static_cast<int>(p.x * o.step_x)};
}

/// The tap's position counts: inside the map, or nothing is bounded.
__device__ __forceinline__ bool inside(const DeviceOperand& o, int y, int x, int tap) {
  return !o.bounded || (static_cast<unsigned>(y + o.dy[tap]) < static_cast<unsigned>(o.height) &&
                        static_cast<unsigned>(x + o.dx[tap]) < static_cast<unsigned>(o.width));
}

/// A line that goes on by the same number of lines each time.
class WalkingLine {
 public:
  __device__ __forceinline__ WalkingLine(const DeviceOperand& o, int64_t first, int step) {
    const RowMap& r = o.lines;
    const GridPosition p = position_of(r, first), d = position_of(r, step);
    offset_ = offset_of(r, p);
    y_ = p.y, x_ = p.x;
    step_ = offset_of(r, d);
    step_y_ = d.y, step_x_ = d.x;
  }
  __device__ __forceinline__ void next(const DeviceOperand& o) {
    const RowMap& r = o.lines;
    offset_ += step_;
    x_ += step_x_;
    y_ += step_y_;
    if (x_ >= r.gw) x_ -= static_cast<int>(r.gw), y_ += 1, offset_ += r.y - r.gw * r.x;
    if (y_ >= r.gh) y_ -= static_cast<int>(r.gh), offset_ += r.b - r.gh * r.y;
  }
  __device__ __forceinline__ Line line(const DeviceOperand& o) const {
    return {offset_, static_cast<int>(y_ * o.step_y), static_cast<int>(x_ * o.step_x)};
  }

 private:
  int64_t offset_, step_;
  int y_, x_, step_y_, step_x_;
};

/// Lines that stay the same for the whole sum (along_k): a table in shared memory, filled by all threads, of use after a barrier.
template <class Slab>
__device__ __forceinline__ void fill_lines(const DeviceOperand& o, const Part& part, Line* lines) {
  for (int i = static_cast<int>(threadIdx.x); i < Slab::kOuter; i += Slab::kThreads)
    lines[i] = part.outer + i < part.outer_end ? line_of(o, part.outer + i) : Line{0, kOutside, kOutside};
}

/// Of a chunk's `count` elements those before the end, as bytes for cp.async.
__device__ __forceinline__ int bytes_left(int64_t elements, int element_bytes, int most) {
  return elements <= 0 ? 0 : elements * element_bytes >= most ? most : static_cast<int>(elements) * element_bytes;
}

}  // namespace theia::THEIA_DEVICE
