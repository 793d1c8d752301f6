#include "kernels/gemm/device/boxes.h"

#include <algorithm>

namespace theia::THEIA_DEVICE {

namespace {

/// Elements between the lines of a matrix; 0 if the operand is none.
int64_t line_stride(const DeviceOperand& o, int64_t lines) {
  if (o.taps != 1 || o.bounded) return 0;
  if (o.lines.gh * o.lines.gw == 1) return o.lines.b;
  return o.lines.gh == 1 && o.lines.gw == lines ? o.lines.x : 0;  // one row of a grid
}

/// `outer`: m or n of the product, `tile` of its tile.
bool matrix_map(const DeviceOperand& o, int64_t outer, int64_t k, int tile, BoxedMap& map) {
  const int64_t lines = o.along_k ? outer : k, columns = o.along_k ? k : outer, stride = line_stride(o, lines);
  map = {static_cast<const uint16_t*>(o.data) + o.tap_offset[0], 2, {columns, lines}, {stride}, {kBoxLine, o.along_k ? tile : kBoxLine}};
  return stride >= columns && takes_boxes(map);
}

/// The weights of patches: along k, a matrix whose columns are found tap by tap; else [tap row, tap column, k of a tap, n].
bool weight_map(const DeviceOperand& a, const DeviceOperand& b, int64_t n, int tile_n, PatchBoxes& p, BoxedMap& map) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const RowMap& r = b.lines;
  if (b.bounded) return false;
  if (!b.along_k) {
    if (b.taps != 1 || b.tap_offset[0] != 0 || r.gw != a.run || a.taps % r.gh) return false;
    p.b_across = static_cast<int>(r.gh);
    map = {b.data, 4, {n, r.gw, r.gh, a.taps / r.gh}, {r.x, r.y, r.b}, {kBoxLine, kBoxLine, 1, 1}};
    return takes_boxes(map);
  }
  if (r.gh * r.gw != 1 || (b.taps > 1 && (b.taps != a.taps || b.run != a.run))) return false;
  int64_t most = 0;
  for (int64_t t = 0; t < a.taps; ++t) {
    const int64_t offset = b.taps > 1 ? b.tap_offset[t] : b.tap_offset[0] + t * a.run;
    if (offset < 0 || offset + a.run > kMost) return false;
    most = std::max(most, offset + a.run);
    p.b_offset[t] = static_cast<int>(offset);
  }
  map = {b.data, 2, {most, n}, {r.b}, {kBoxLine, tile_n}};
  return r.b >= most && takes_boxes(map);
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
  if (a.dtype != DType::bf16 || b.dtype != DType::bf16 || m > kMost || n > kMost || k < 1 || k > kMost) return false;
  out.tiles_m = ceil_div(m, tile_m);
  out.a_along_k = a.along_k, out.b_along_k = b.along_k;
  if (matrix_map(a, m, k, tile_m, out.a)) return matrix_map(b, n, k, tile_n, out.b);

  // Patches: neighbours of the grid are neighbours in the map, and each tap is a shift of all of it.
  PatchBoxes& p = out.boxes;
  out.patches = true;
  const RowMap& r = a.lines;
  if (!a.along_k || !a.bounded || a.step_y != 1 || a.step_x != 1 || a.run % kBoxLine || a.run * a.taps != k || m % (r.gh * r.gw))
    return false;
  for (int64_t t = 0; t < a.taps; ++t) {
    if (a.tap_offset[t] != a.dy[t] * r.y + a.dx[t] * r.x) return false;
    p.dy[t] = a.dy[t], p.dx[t] = a.dx[t];
  }
  p.width = static_cast<int>(r.gw), p.height = static_cast<int>(r.gh), p.images = static_cast<int>(m / (r.gh * r.gw));
  p.run = static_cast<int>(a.run);
  cut(p, tile_m);
  out.tiles_m = ceil_div(p.images, p.box_images) * p.across * p.down;
  out.a = {a.data, 4, {a.run, a.width, a.height, p.images}, {r.x, r.y, r.b}, {kBoxLine, p.box_x, p.box_y, p.box_images}};
  return r.x >= a.run && takes_boxes(out.a) && weight_map(a, b, n, tile_n, p, out.b);
}

}  // namespace theia::THEIA_DEVICE
