// The products of window.h as direct loops over float or double: the reference that the fast variants are tested against.
#pragma once
#include "kernels/conv2d/window.h"
#include "kernels/core/pool.h"

namespace theia::cpu {

/// Start of the channels at a position of a map.
template <class T>
T* at(const Tensor& map, int64_t image, int64_t y, int64_t x) {
  return map.ptr<T>() + image * map.stride[0] + y * map.stride[1] + x * map.stride[2];
}

/// Where position p of the output map meets the input through tap t, along one axis; −1 if nowhere.
inline int64_t source(const Window& window, bool up, int64_t p, int64_t t, int64_t size) {
  int64_t s = p * window.stride - window.padding + t;
  if (up) {
    s = p + window.padding - t;
    if (s < 0 || s % window.stride != 0) return -1;
    s /= window.stride;
  }
  return s < 0 || s >= size ? -1 : s;
}

template <class T>
void gather(const Gather& a, const Window& window, const Context& context) {
  const int64_t height = a.out.size[1], width = a.out.size[2], channels = a.out.size[3], run = a.in.size[3];
  const int64_t i_size = a.w.size[3], row = window.taps() * i_size;  // elements of w per output channel of the forward pass
  const int64_t n_stride = a.backward ? 1 : row, c_stride = a.backward ? row : 1;
  const int64_t mask_ahead = a.mask.present() ? a.mask.ptr<T>() - a.in.ptr<T>() : 0;
  context.pool->run(a.out.size[0] * height, [&](int64_t chunk, int) {
    const int64_t image = chunk / height, y = chunk % height;
    for (int64_t x = 0; x < width; ++x) {
      T* out = at<T>(a.out, image, y, x);
      for (int64_t n = 0; n < channels; ++n) {
        T sum = 0;
        for (int64_t ky = 0; ky < window.kh; ++ky) {
          const int64_t sy = source(window, a.up, y, ky, a.in.size[1]);
          for (int64_t kx = 0; sy >= 0 && kx < window.kw; ++kx) {
            const int64_t sx = source(window, a.up, x, kx, a.in.size[2]);
            if (sx < 0) continue;
            const T* in = at<T>(a.in, image, sy, sx);
            const T* w = a.w.ptr<T>() + n * n_stride + (ky * window.kw + kx) * i_size;
            for (int64_t c = 0; c < run; ++c)
              if (!a.mask.present() || in[mask_ahead + c] > 0) sum += in[c] * w[c * c_stride];
          }
        }
        if (a.bias.present()) sum += a.bias.ptr<T>()[n];
        if (a.residual.present()) sum += at<T>(a.residual, image, y, x)[n];
        out[n] = a.relu && sum < 0 ? 0 : sum;  // NaN stays
      }
    }
  });
}

template <class T>
void weight_grad(const WeightGrad& a, const Window& window, const Context& context) {
  const Tensor& small = a.up ? a.x : a.dy;
  const Tensor& big = a.up ? a.dy : a.x;
  const int64_t i_size = a.x.size[3], taps = window.taps();
  context.pool->run(a.dy.size[3] * taps, [&](int64_t chunk, int) {
    const int64_t o = chunk / taps, ky = chunk % taps / window.kw, kx = chunk % window.kw;
    T* dw = a.dw.ptr<T>() + chunk * i_size;
    constexpr int64_t kBlock = 32;
    for (int64_t i0 = 0; i0 < i_size; i0 += kBlock) {
      const int64_t count = i_size - i0 < kBlock ? i_size - i0 : kBlock;
      T sum[kBlock] = {};
      for (int64_t image = 0; image < small.size[0]; ++image)
        for (int64_t y = 0; y < small.size[1]; ++y) {
          const int64_t by = source(window, false, y, ky, big.size[1]);
          for (int64_t x = 0; by >= 0 && x < small.size[2]; ++x) {
            const int64_t bx = source(window, false, x, kx, big.size[2]);
            if (bx < 0) continue;
            const int64_t dy_y = a.up ? by : y, dy_x = a.up ? bx : x;
            if (a.mask.present() && !(at<T>(a.mask, image, dy_y, dy_x)[o] > 0)) continue;
            const T d = at<T>(a.dy, image, dy_y, dy_x)[o];
            const T* in = at<T>(a.x, image, a.up ? y : by, a.up ? x : bx) + i0;
            for (int64_t i = 0; i < count; ++i) sum[i] += d * in[i];
          }
        }
      for (int64_t i = 0; i < count; ++i) dw[i0 + i] = a.accumulate ? dw[i0 + i] + sum[i] : sum[i];
    }
  });
}

/// dbias[c] = sum of dy over all positions: rows of the map first, then the rows' sums, so that long sums keep their low bits.
template <class T>
void channel_sums(const Tensor& dy, const Tensor& mask, const Tensor& dbias, bool accumulate, const Context& context) {
  context.pool->run(dbias.size[0], [&](int64_t c, int) {
    T total = 0;
    for (int64_t image = 0; image < dy.size[0]; ++image) {
      T image_sum = 0;
      for (int64_t y = 0; y < dy.size[1]; ++y) {
        T row_sum = 0;
        for (int64_t x = 0; x < dy.size[2]; ++x)
          if (!mask.present() || at<T>(mask, image, y, x)[c] > 0) row_sum += at<T>(dy, image, y, x)[c];
        image_sum += row_sum;
      }
      total += image_sum;
    }
    T& out = dbias.ptr<T>()[c];
    out = accumulate ? out + total : total;
  });
}

}  // namespace theia::cpu
