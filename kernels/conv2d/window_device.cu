// Convolutions as products of the matrix product in kernels/gemm/device. Patches are never copied: an operand describes where they lie.
//
// Reading the big map (down): one product; row = position of the small map, k = (tap, channel of the big map).
// Reading the small map (up): one product for each residue (ry, rx) of output positions modulo the stride. Of the taps along an axis those
// with ky ≡ ry + padding (mod stride) reach it, from small position jy + (ry + padding − ky) / stride: a convolution without stride that
// writes every stride-th row and column. Stride 1 has one residue and all taps; 3x3 at stride 2 has four, of 4, 2, 2 and 1 taps.
//
// The residues are launches of their own, not blocks of one grid: their tap tables are different, and as they differ in k by up to four
// times a tile shape and a split of k that suits one does not suit another.
#include "kernels/conv2d/window_device.h"
#include "kernels/cuda/runtime.h"
#include "kernels/gemm/device/gemm.h"
#include "kernels/gemm/device/pregrad.h"

namespace theia::THEIA_DEVICE {

namespace {

/// Taps ky0 + j·step, kx0 + j·step: a rectangle of the window, or every stride-th row and column of one.
struct TapGrid {
  int64_t ky0, kx0, step, ny, nx;
};
int64_t count(const TapGrid& t) { return t.ny * t.nx; }
int64_t ky(const TapGrid& t, int64_t j) { return t.ky0 + j / t.nx * t.step; }
int64_t kx(const TapGrid& t, int64_t j) { return t.kx0 + j % t.nx * t.step; }

/// Cuts a grid of taps into rectangles of at most kMaxTaps, rows of the grid whole where they fit, and calls use(part, first, last).
template <class F>
void for_tap_parts(const TapGrid& all, F&& use) {
  if (count(all) <= kMaxTaps) return use(all, true, true);
  const int64_t rows = all.nx <= kMaxTaps ? kMaxTaps / all.nx : 1, columns = all.nx <= kMaxTaps ? all.nx : kMaxTaps;
  for (int64_t y = 0; y < all.ny; y += rows)
    for (int64_t x = 0; x < all.nx; x += columns) {
      const int64_t ny = all.ny - y < rows ? all.ny - y : rows, nx = all.nx - x < columns ? all.nx - x : columns;
      use(TapGrid{all.ky0 + y * all.step, all.kx0 + x * all.step, all.step, ny, nx}, y == 0 && x == 0,
          y + ny == all.ny && x + nx == all.nx);
    }
}

/// The address of an element of a tensor, counted from its first; null if the tensor is absent.
std::byte* address(const Tensor& t, int64_t element = 0) {
  return t.present() ? t.base + (t.offset + element) * bytes_of(t.dtype) : nullptr;
}

/// Positions y·step, x·step of a map as rows; a packed map is a plain matrix, which needs no divisions.
RowMap rows_of(const Tensor& map, int64_t height, int64_t width, int64_t step) {
  const RowMap r{height, width, map.stride[0], map.stride[1] * step, map.stride[2] * step};
  const int64_t next = width > 1 ? r.x : height > 1 ? r.y : r.b;
  const bool packed_image = width == 1 || height == 1 || r.y == width * r.x;
  const bool packed_images = map.size[0] == 1 || r.b == height * width * next;
  return packed_image && packed_images ? device_rows(next) : r;
}

/// Patches of a map: line (image, y, x) of a grid height x width, tap j at map position (y·step + dy(j), x·step + dx(j)). `adjacent`: the
/// taps of a row of the grid are neighbours in the map.
template <class Dy, class Dx>
DeviceOperand patches_of(const Tensor& map, int64_t height, int64_t width, int64_t step, const TapGrid& taps, bool adjacent, Dy&& dy,
                         Dx&& dx) {
  const int64_t channels = map.size[3];
  DeviceOperand o = device_matrix(address(map), map.dtype, 0, true);
  o.lines = {height, width, map.stride[0], map.stride[1] * step, map.stride[2] * step};
  o.height = map.size[1], o.width = map.size[2];
  o.step_y = o.step_x = step;
  for (int64_t j = 0; j < count(taps); ++j) {
    const int64_t y = dy(j), x = dx(j);
    if (y < 0 || x < 0 || (height - 1) * step + y >= o.height || (width - 1) * step + x >= o.width) o.bounded = true;
  }
  // Taps that never leave the map and are one stretch of memory are one run: longer copies, and fewer taps.
  const int64_t together = adjacent && !o.bounded && (map.stride[2] == channels || map.size[2] == 1) ? taps.nx : 1;
  o.taps = count(taps) / together, o.run = together * channels;
  for (int64_t j = 0; j < o.taps; ++j) {
    const int64_t y = dy(j * together), x = dx(j * together);
    o.dy[j] = static_cast<int16_t>(y), o.dx[j] = static_cast<int16_t>(x);
    o.tap_offset[j] = y * map.stride[1] + x * map.stride[2];
  }
  if (o.taps == 1 && !o.bounded) {  // a matrix
    o.data = address(map, o.tap_offset[0]);
    o.lines = rows_of(map, height, width, step);
    o.run = o.tap_offset[0] = 0;
  }
  return o;
}

/// The big map seen from the small one.
DeviceOperand down_patches(const Tensor& map, int64_t height, int64_t width, const Window& window, const TapGrid& taps) {
  return patches_of(
      map, height, width, window.stride, taps, true, [&](int64_t j) { return ky(taps, j) - window.padding; },
      [&](int64_t j) { return kx(taps, j) - window.padding; });
}

/// The small map seen from one residue of the positions of the big one: exact divisions, as the taps are those whose distance is a multiple
/// of the stride.
DeviceOperand up_patches(const Tensor& map, int64_t height, int64_t width, int64_t ry, int64_t rx, const Window& window,
                         const TapGrid& taps) {
  return patches_of(
      map, height, width, 1, taps, false, [&](int64_t j) { return (ry + window.padding - ky(taps, j)) / window.stride; },
      [&](int64_t j) { return (rx + window.padding - kx(taps, j)) / window.stride; });
}

/// The weights of some taps as B[(tap, channel of `in`)][channel of `out`].
DeviceOperand weights_of(const Gather& a, const Window& window, const TapGrid& taps) {
  const int64_t i_size = a.w.size[3], row = window.kh * window.kw * i_size;
  const void* first = address(a.w, (taps.ky0 * window.kw + taps.kx0) * i_size);
  const int64_t across = taps.step * i_size, down = window.kw * across;
  if (a.backward) {  // lines (tap row, tap column, o) of I columns
    DeviceOperand o = device_matrix(first, a.w.dtype, 0, false);
    o.lines = {taps.nx, a.in.size[3], down, across, row};
    return o;
  }
  DeviceOperand o = device_matrix(first, a.w.dtype, row, true);
  if (taps.step == 1 && (taps.ny == 1 || taps.nx == window.kw)) return o;  // they follow each other in w
  o.taps = count(taps), o.run = i_size;
  for (int64_t j = 0; j < o.taps; ++j) o.tap_offset[j] = j / taps.nx * down + j % taps.nx * across;
  return o;
}

/// Bytes of the float32 sums that the parts of a window of more than kMaxTaps taps hand on; they lie at the start of the workspace.
int64_t handed_on(const DeviceGemm& g) { return round_up(g.m * g.n * 4, 256); }

/// Calls use(product, parts) for every product of a Gather; `parts`: it is one of several for the same outputs. `sums` is where they leave
/// their sums for the next.
template <class F>
void for_products(const Gather& a, const Window& window, void* sums, F&& use) {
  const int64_t step = a.up ? window.stride : 1;  // between outputs of one product
  const int64_t height = a.out.size[1], width = a.out.size[2], n = a.out.size[3], run = a.in.size[3];
  for (int64_t ry = 0; ry < step && ry < height; ++ry)
    for (int64_t rx = 0; rx < step && rx < width; ++rx) {
      const int64_t gh = (height - 1 - ry) / step + 1, gw = (width - 1 - rx) / step + 1, m = a.out.size[0] * gh * gw;
      TapGrid all{0, 0, step, window.kh, window.kw};
      if (a.up) {
        all.ky0 = (ry + window.padding) % step, all.kx0 = (rx + window.padding) % step;
        all.ny = all.ky0 < window.kh ? (window.kh - 1 - all.ky0) / step + 1 : 0;
        all.nx = all.kx0 < window.kw ? (window.kw - 1 - all.kx0) / step + 1 : 0;
      }
      for_tap_parts(all, [&](const TapGrid& taps, bool first, bool last) {
        DeviceGemm g = make_device_gemm(m, n, count(taps) * run, a.in.dtype == DType::bf16, sums, DType::f32, n);
        g.a = g.b = device_matrix(nullptr, a.in.dtype, 0, true);  // outputs that no tap reaches: the epilogue of zero
        if (count(taps) > 0) {
          g.a = a.up ? up_patches(a.in, gh, gw, ry, rx, window, taps) : down_patches(a.in, gh, gw, window, taps);
          g.b = weights_of(a, window, taps);
        }
        if (!first)
          g.residual = g.c;
        else if (a.residual.present())
          g.residual = {address(a.residual, ry * a.residual.stride[1] + rx * a.residual.stride[2]), a.residual.dtype,
                        rows_of(a.residual, gh, gw, step)};
        g.residual_first = g.residual.data != nullptr;
        if (last) {
          g.c = {address(a.out, ry * a.out.stride[1] + rx * a.out.stride[2]), a.out.dtype, rows_of(a.out, gh, gw, step)};
          g.bias = reinterpret_cast<const float*>(address(a.bias));
          g.activation = a.relu ? Activation::relu : Activation::none;
        }
        use(g, !(first && last));
      });
    }
}

template <class F>
void for_products(const WeightGrad& a, const Window& window, F&& use) {
  const Tensor& small = a.up ? a.x : a.dy;
  const int64_t o_size = a.dy.size[3], i_size = a.x.size[3], row = window.kh * window.kw * i_size;
  const int64_t height = small.size[1], width = small.size[2], positions = small.size[0] * height * width;
  DeviceOperand plain = device_matrix(address(small), small.dtype, 0, false);
  plain.lines = rows_of(small, height, width, 1);
  for_tap_parts({0, 0, 1, window.kh, window.kw}, [&](const TapGrid& taps, bool, bool) {
    DeviceOperand patches = down_patches(a.up ? a.dy : a.x, height, width, window, taps);
    patches.along_k = false;
    void* dw = address(a.dw, (taps.ky0 * window.kw + taps.kx0) * i_size);
    const bool tensor_cores = a.x.dtype == DType::bf16;
    DeviceGemm g;
    if (a.up) {  // rows (tap, o), columns i
      g = make_device_gemm(count(taps) * o_size, i_size, positions, tensor_cores, dw, DType::f32, 0);
      g.c.rows = {count(taps), o_size, 0, i_size, row};
      g.a = patches, g.b = plain;
    } else {  // rows o, columns (tap, i)
      g = make_device_gemm(o_size, count(taps) * i_size, positions, tensor_cores, dw, DType::f32, row);
      g.a = plain, g.b = patches;
    }
    g.accumulate = a.accumulate;
    use(g);
  });
}

int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/// The same context without the first bytes of its workspace.
DeviceContext behind(const DeviceContext& context, int64_t bytes) {
  return {context.stream, context.workspace + bytes, context.workspace_bytes - bytes, context.info};
}

Gather input_product_of(const WindowGrad& a, const Tensor& dy) {
  Gather g{};
  g.in = dy, g.out = a.dx, g.w = a.w;
  g.up = !a.up, g.backward = true;
  return g;
}

WeightGrad weight_product_of(const WindowGrad& a, const Tensor& dy) {
  WeightGrad g{};
  g.x = a.x, g.dy = dy, g.dw = a.dw;
  g.up = a.up, g.accumulate = a.accumulate;
  return g;
}

/// A packed map of dy's shape and type at this address.
Tensor packed_like(const Tensor& dy, std::byte* data) {
  Tensor t = dy;
  t.base = data, t.offset = 0;
  for (int64_t i = 3, stride = 1; i >= 0; stride *= t.size[i], --i) t.stride[i] = stride;
  return t;
}

bool has_masked_copy(const WindowGrad& a) { return a.relu && (a.dx.present() || a.dw.present()); }
int64_t masked_bytes(const WindowGrad& a) { return has_masked_copy(a) ? round_up(a.dy.numel() * bytes_of(a.dy.dtype), 256) : 0; }

/// dy behind its ReLU into `masked`, and dbias, in one pass.
///
/// A masked copy rather than a mask on the way into the products: they read dy nine times and more, the pass masks it once, and
/// asynchronous copies cannot look at what they carry.
DevicePregrad pregrad_of(const WindowGrad& a, std::byte* masked) {
  const int64_t height = a.dy.size[1], width = a.dy.size[2], channels = a.dy.size[3];
  DevicePregrad p{};
  p.rows = a.dy.size[0] * height * width, p.columns = channels;
  p.dy = {address(a.dy), a.dy.dtype, rows_of(a.dy, height, width, 1)};
  if (a.relu) {
    p.multiply = Multiply::relu_mask;
    p.factor = {address(a.y), a.y.dtype, rows_of(a.y, height, width, 1)};
  }
  if (has_masked_copy(a)) p.dpre = {masked, a.dy.dtype, device_rows(channels)};
  p.dbias = reinterpret_cast<float*>(address(a.dbias));
  p.accumulate = a.accumulate;
  return p;
}

}  // namespace

void gather(const char* name, const Gather& a, const Window& window, const DeviceContext& context) {
  for_products(a, window, context.workspace,
               [&](const DeviceGemm& g, bool parts) { gemm(name, g, parts ? behind(context, handed_on(g)) : context); });
}

int64_t gather_workspace(const Gather& a, const Window& window, const DeviceInfo& info) {
  int64_t most = 0;
  for_products(a, window, nullptr,
               [&](const DeviceGemm& g, bool parts) { most = larger(most, (parts ? handed_on(g) : 0) + gemm_workspace(g, info)); });
  return most;
}

void weight_grad(const char* name, const WeightGrad& a, const Window& window, const DeviceContext& context) {
  for_products(a, window, [&](const DeviceGemm& g) { gemm(name, g, context); });
}

int64_t weight_grad_workspace(const WeightGrad& a, const Window& window, const DeviceInfo& info) {
  int64_t most = 0;
  for_products(a, window, [&](const DeviceGemm& g) { most = larger(most, gemm_workspace(g, info)); });
  return most;
}

void window_grad(const WindowGrad& a, const Window& window, const DeviceContext& context) {
  const DeviceContext rest = behind(context, masked_bytes(a));
  pregrad(a.name, pregrad_of(a, context.workspace), rest);
  const Tensor dy = has_masked_copy(a) ? packed_like(a.dy, context.workspace) : a.dy;
  if (a.dx.present()) gather(a.name, input_product_of(a, dy), window, rest);
  if (a.dw.present()) weight_grad(a.name, weight_product_of(a, dy), window, rest);
}

int64_t window_grad_workspace(const WindowGrad& a, const Window& window, const DeviceInfo& info) {
  const Tensor dy = has_masked_copy(a) ? packed_like(a.dy, nullptr) : a.dy;
  int64_t most = pregrad_workspace(pregrad_of(a, nullptr), info);
  if (a.dx.present()) most = larger(most, gather_workspace(input_product_of(a, dy), window, info));
  if (a.dw.present()) most = larger(most, weight_grad_workspace(weight_product_of(a, dy), window, info));
  return masked_bytes(a) + most;
}

}  // namespace theia::THEIA_DEVICE
