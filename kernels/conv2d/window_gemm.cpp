// Convolutions as products of the GEMM core. Nothing is copied into a buffer of patches: a Gemm describes where patches lie.
//
// Reading the big map (down): one product; row = position of the small map, k = (tap, channel of the big map).
// Reading the small map (up): one product for each residue (ry, rx) of output positions modulo the stride. Of the taps along an axis those
// with
//   ky ≡ ry + padding (mod stride) reach it, from small position jy + (ry + padding − ky) / stride: a convolution without stride that
//   writes every stride-th row and column. Stride 1 has one residue and all taps.
#include "kernels/conv2d/window.h"

namespace theia {

namespace {

/// Taps ky0 + j·step, kx0 + j·step: a rectangle of the window, or every stride-th row and column of one.
struct TapGrid {
  int64_t ky0, kx0, step, ny, nx;
  int64_t count() const { return ny * nx; }
  int64_t ky(int64_t j) const { return ky0 + j / nx * step; }
  int64_t kx(int64_t j) const { return kx0 + j % nx * step; }
};

/// Cuts a grid of taps into rectangles of at most `most` taps, rows of the grid whole where they fit, and calls use(part, first, last).
template <class F>
void for_tap_parts(const TapGrid& all, int64_t most, F&& use) {
  if (all.count() <= most) return use(all, true, true);
  const int64_t rows = all.nx <= most ? most / all.nx : 1, columns = all.nx <= most ? all.nx : most;
  for (int64_t y = 0; y < all.ny; y += rows)
    for (int64_t x = 0; x < all.nx; x += columns) {
      const int64_t ny = all.ny - y < rows ? all.ny - y : rows, nx = all.nx - x < columns ? all.nx - x : columns;
      use(TapGrid{all.ky0 + y * all.step, all.kx0 + x * all.step, all.step, ny, nx}, y == 0 && x == 0,
          y + ny == all.ny && x + nx == all.nx);
    }
}

/// Positions y·step + y0, x·step + x0 of a map as rows; a packed map is a plain matrix, which the GEMM core reads and writes fastest.
RowMap rows_of(const Tensor& map, int64_t height, int64_t width, int64_t step) {
  const RowMap r{height, width, map.stride[0], map.stride[1] * step, map.stride[2] * step};
  const int64_t next = width > 1 ? r.x : height > 1 ? r.y : r.b;
  const bool packed_image = width == 1 || height == 1 || r.y == width * r.x;
  const bool packed_images = map.size[0] == 1 || r.b == height * width * next;
  return packed_image && packed_images ? plain_rows(next) : r;
}

float* data_of(const Tensor& t) { return t.present() ? t.ptr<float>() : nullptr; }

/// Patches of a map: row (image, y, x) of a grid height x width, taps at map position y·step − padding + ky, x·step − padding + kx. The
/// taps of a row of the window are one stretch of memory where the map's positions are packed.
Operand patches_of(const Tensor& map, const float* mask, int64_t height, int64_t width, const Window& window, const TapGrid& taps) {
  Operand o{};
  o.source = Source::patches;
  o.data = data_of(map);
  o.mask = mask;
  o.rows = {height, width, map.stride[0], map.stride[1], map.stride[2]};
  o.height = map.size[1], o.width = map.size[2];
  o.step_y = o.step_x = window.stride;
  const int64_t together = map.stride[2] == map.size[3] ? taps.nx : 1;
  o.stretch = together > 1;
  o.taps = taps.count() / together, o.run = together * map.size[3];
  for (int64_t j = 0; j < o.taps; ++j) {
    o.dy[j] = static_cast<int16_t>(taps.ky(j * together) - window.padding);
    o.dx[j] = static_cast<int16_t>(taps.kx(j * together) - window.padding);
  }
  return o;
}

/// The same for one residue of the positions of a big map read from the small one: exact divisions, as the taps are those whose distance is
/// a multiple of the stride.
Operand residue_patches_of(const Tensor& map, const float* mask, int64_t height, int64_t width, int64_t ry, int64_t rx,
                           const Window& window, const TapGrid& taps) {
  Operand o = patches_of(map, mask, height, width, {1, 1, 1, 0}, {0, 0, 1, 1, 1});
  o.taps = taps.count();
  for (int64_t j = 0; j < o.taps; ++j) {
    o.dy[j] = static_cast<int16_t>((ry + window.padding - taps.ky(j)) / window.stride);
    o.dx[j] = static_cast<int16_t>((rx + window.padding - taps.kx(j)) / window.stride);
  }
  return o;
}

/// A single tap that never leaves the map is a matrix, which may be read in place.
void simplify(Operand& o, const Tensor& map) {
  const int64_t dy = o.dy[0], dx = o.dx[0], last_y = (o.rows.gh - 1) * o.step_y + dy;
  const int64_t last_x = (o.rows.gw - 1) * o.step_x + dx + o.run / map.size[3] - 1;
  if (o.taps != 1 || dy < 0 || dx < 0 || last_y >= o.height || last_x >= o.width) return;
  const int64_t shift = dy * map.stride[1] + dx * map.stride[2];
  o.source = Source::matrix;
  o.data = static_cast<const float*>(o.data) + shift;
  if (o.mask) o.mask = static_cast<const float*>(o.mask) + shift;
  o.rows = rows_of(map, o.rows.gh, o.rows.gw, o.step_y);
}

/// The weights of some taps as B[(tap, channel of `in`)][channel of `out`].
Operand weights_of(const Gather& a, const Window& window, const TapGrid& taps) {
  const int64_t i_size = a.w.size[3], row = window.taps() * i_size, run = a.in.size[3];
  const int64_t first = taps.ky0 * window.kw + taps.kx0;
  if (a.panels.present()) {
    Operand o = packed(data_of(a.panels), window.taps() * run);
    o.taps = taps.count(), o.run = run;
    for (int64_t j = 0; j < o.taps; ++j) o.tap_row[j] = (taps.ky(j) * window.kw + taps.kx(j)) * run;
    return o;
  }
  const float* w = data_of(a.w) + first * i_size;
  if (!a.backward) return matrix(w, row, true);  // for_products() has seen to it that these taps follow each other in w
  Operand o = matrix(w, 0);
  const int64_t across = taps.step * i_size, down = window.kw * across;
  o.rows = {taps.nx, run, down, across, row};
  if (taps.ny == 1) o.rows = {1, run, across, 0, row};
  return o;
}

const float kZero = 0;

template <class F>
void for_products(const Gather& a, const Window& window, F&& use) {
  const int64_t step = a.up ? window.stride : 1;  // between outputs of one product
  const int64_t height = a.out.size[1], width = a.out.size[2], n = a.out.size[3], run = a.in.size[3];
  const float* mask = data_of(a.mask);
  for (int64_t ry = 0; ry < step && ry < height; ++ry)
    for (int64_t rx = 0; rx < step && rx < width; ++rx) {
      const int64_t gh = (height - 1 - ry) / step + 1, gw = (width - 1 - rx) / step + 1, m = a.out.size[0] * gh * gw;
      TapGrid all{0, 0, step, window.kh, window.kw};
      if (a.up) {
        all.ky0 = (ry + window.padding) % step, all.kx0 = (rx + window.padding) % step;
        all.ny = all.ky0 < window.kh ? (window.kh - 1 - all.ky0) / step + 1 : 0;
        all.nx = all.kx0 < window.kw ? (window.kw - 1 - all.kx0) / step + 1 : 0;
      }
      // With several products for the same outputs the first leaves its sums and the residual there, the last finishes them.
      const auto emit = [&](Gemm& g, bool first, bool last) {
        const int64_t shift = ry * a.out.stride[1] + rx * a.out.stride[2];
        g.c = data_of(a.out) + shift;
        g.c_rows = rows_of(a.out, gh, gw, step);
        if (last) {
          g.bias = data_of(a.bias);
          g.activation = a.relu ? Activation::relu : Activation::none;
        }
        if (!first) {
          g.residual = g.c;
          g.residual_rows = g.c_rows;
        } else if (a.residual.present()) {
          g.residual = data_of(a.residual) + ry * a.residual.stride[1] + rx * a.residual.stride[2];
          g.residual_rows = rows_of(a.residual, gh, gw, step);
        }
        g.residual_first = g.residual != nullptr;
        use(g);
      };
      if (all.count() == 0) {  // outputs that no tap reaches: a product with one zero, for the epilogue's sake
        Gemm g = make_gemm(m, n, 1, nullptr, 0);
        g.a = matrix(&kZero, 0);
        g.b = matrix(&kZero, 0, true);
        emit(g, true, true);
        continue;
      }
      const bool adjacent = a.panels.present() || a.backward || step == 1;
      for_tap_parts(all, adjacent ? kMaxTaps : 1, [&](const TapGrid& taps, bool first, bool last) {
        Gemm g = make_gemm(m, n, taps.count() * run, nullptr, 0);
        g.a = a.up ? residue_patches_of(a.in, mask, gh, gw, ry, rx, window, taps) : patches_of(a.in, mask, gh, gw, window, taps);
        simplify(g.a, a.in);
        g.b = weights_of(a, window, taps);
        emit(g, first, last);
      });
    }
}

template <class F>
void for_products(const WeightGrad& a, const Window& window, F&& use) {
  const Tensor& small = a.up ? a.x : a.dy;
  const int64_t o_size = a.dy.size[3], i_size = a.x.size[3], row = window.taps() * i_size;
  const int64_t height = small.size[1], width = small.size[2], positions = small.size[0] * height * width;
  const float* mask = data_of(a.mask);
  for_tap_parts({0, 0, 1, window.kh, window.kw}, kMaxTaps, [&](const TapGrid& taps, bool, bool) {
    const int64_t first = taps.ky0 * window.kw + taps.kx0, count = taps.count();
    float* dw = data_of(a.dw) + first * i_size;
    const Operand patches = patches_of(a.up ? a.dy : a.x, a.up ? mask : nullptr, height, width, window, taps);
    Operand plain = matrix(data_of(small), 0);
    plain.rows = rows_of(small, height, width, 1);
    Gemm g;
    if (a.up) {  // rows (tap, o), columns i
      g = make_gemm(count * o_size, i_size, positions, dw, 0);
      g.c_rows = {1, o_size, i_size, 0, row};
      g.a = patches;
      g.b = plain;
    } else {  // rows o, columns (tap, i)
      g = make_gemm(o_size, count * i_size, positions, dw, row);
      g.groups = patches.taps;
      for (int64_t j = 0; j < g.groups; ++j) g.group_offset[j] = j * patches.run;
      plain.mask = mask;
      g.a = plain;
      g.b = patches;
    }
    g.a.transposed = true;
    g.accumulate = a.accumulate;
    use(g);
  });
}

template <class Product>
int64_t workspace_of(const Product& a, const Window& window, int threads) {
  int64_t most = 0;
  for_products(a, window, [&](const Gemm& g) {
    const int64_t bytes = gemm_workspace(g, threads);
    most = bytes > most ? bytes : most;
  });
  return most;
}

}  // namespace

void gather_by_gemm(const Gather& a, const Window& window, GemmKernel gemm, const Context& context) {
  for_products(a, window, [&](const Gemm& g) { gemm(g, context); });
}

int64_t gather_workspace(const Gather& a, const Window& window, int threads) { return workspace_of(a, window, threads); }

void weight_grad_by_gemm(const WeightGrad& a, const Window& window, GemmKernel gemm, const Context& context) {
  for_products(a, window, [&](const Gemm& g) { gemm(g, context); });
}

int64_t weight_grad_workspace(const WeightGrad& a, const Window& window, int threads) { return workspace_of(a, window, threads); }

}  // namespace theia
