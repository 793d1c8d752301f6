#include "kernels/gemm/device/boxes.h"

#include <algorithm>

namespace theia::THEIA_DEVICE {

namespace {

bool is_matrix(const DeviceOperand& o) { return o.taps == 1 && !o.bounded && o.lines.gh * o.lines.gw == 1; }

BoxedMap matrix_map(const DeviceOperand& o, int64_t columns, int64_t lines, int box_lines) {
  return {static_cast<const uint16_t*>(o.data) + o.tap_offset[0], 2, {columns, lines}, {o.lines.b}, {kBoxLine, box_lines}};
}

/// As many whole rows, then whole images, as a tile has lines for.
void cut(PatchBoxes& p, int lines) {
  p.box_x = std::min(p.width, lines);
  p.box_y = std::min(p.height, lines / p.box_x);
  p.box_images = p.box_x == p.width && p.box_y == p.height ? std::min(p.images, lines / (p.box_x * p.box_y)) : 1;
  p.across = static_cast<int>(ceil_div(p.width, p.box_x));
  p.down = static_cast<int>(ceil_div(p.height, p.box_y));
}

}  // namespace

bool boxed(const DeviceOperand& a, const DeviceOperand& b, int64_t m, int64_t n, int64_t k, int tile_m, int tile_n, BoxedOperands& out) {
  constexpr int64_t kMost = int64_t{1} << 30;  // coordinates are int
  out = {};
  if (!a.along_k || !b.along_k || a.dtype != DType::bf16 || b.dtype != DType::bf16 || m > kMost || n > kMost || k < 1 || k > kMost)
    return false;
  out.tiles_m = ceil_div(m, tile_m);
  const bool one_line_each = b.lines.gh * b.lines.gw == 1 && !b.bounded;
  if (!one_line_each) return false;
  if (is_matrix(a) && is_matrix(b)) {
    out.a = matrix_map(a, k, m, tile_m);
    out.b = matrix_map(b, k, n, tile_n);
    return a.lines.b >= k && b.lines.b >= k && takes_boxes(out.a) && takes_boxes(out.b);
  }

  // Patches: neighbours of the grid are neighbours in the map, and each tap is a shift of all of it.
  PatchBoxes& p = out.boxes;
  out.patches = true;
  const RowMap& r = a.lines;
  if (!a.bounded || a.step_y != 1 || a.step_x != 1 || a.run % kBoxLine || a.run * a.taps != k || m % (r.gh * r.gw)) return false;
  if (b.taps > 1 && (b.taps != a.taps || b.run != a.run)) return false;
  int64_t most = 0;
  for (int64_t t = 0; t < a.taps; ++t) {
    if (a.tap_offset[t] != a.dy[t] * r.y + a.dx[t] * r.x) return false;
    const int64_t offset = b.taps > 1 ? b.tap_offset[t] : b.tap_offset[0] + t * a.run;
    if (offset < 0 || offset + a.run > kMost) return false;
    most = std::max(most, offset + a.run);
    p.b_offset[t] = static_cast<int>(offset);
    p.dy[t] = a.dy[t], p.dx[t] = a.dx[t];
  }
  p.width = static_cast<int>(r.gw), p.height = static_cast<int>(r.gh), p.images = static_cast<int>(m / (r.gh * r.gw));
  p.run = static_cast<int>(a.run);
  cut(p, tile_m);
  out.tiles_m = ceil_div(p.images, p.box_images) * p.across * p.down;
  out.a = {a.data, 4, {a.run, a.width, a.height, p.images}, {r.x, r.y, r.b}, {kBoxLine, p.box_x, p.box_y, p.box_images}};
  out.b = {b.data, 2, {most, n}, {b.lines.b}, {kBoxLine, tile_n}};
  return r.x >= a.run && b.lines.b >= most && takes_boxes(out.a) && takes_boxes(out.b);
}

}  // namespace theia::THEIA_DEVICE
