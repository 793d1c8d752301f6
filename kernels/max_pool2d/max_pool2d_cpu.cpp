#include "kernels/core/pool.h"
#include "kernels/max_pool2d/max_pool2d.h"

namespace theia::cpu {

namespace {

template <class T>
T* at(const Tensor& map, int64_t image, int64_t y, int64_t x, int64_t c) {
  return map.ptr<T>() + image * map.stride[0] + y * map.stride[1] + x * map.stride[2] + c;
}

struct Position {
  int64_t y, x;
};

/// Where the maximum of the window from (top, left) on lies: the first one in row-major order, or the last NaN.
template <class T>
Position winner(const Tensor& map, int64_t image, int64_t top, int64_t left, int64_t kernel, int64_t c) {
  Position best{-1, -1};
  for (int64_t y = top < 0 ? 0 : top; y < top + kernel && y < map.size[1]; ++y)
    for (int64_t x = left < 0 ? 0 : left; x < left + kernel && x < map.size[2]; ++x) {
      const T v = *at<T>(map, image, y, x, c);
      if (best.y < 0 || v > *at<T>(map, image, best.y, best.x, c) || v != v) best = {y, x};
    }
  return best;
}

}  // namespace

template <class T>
void max_pool2d(const MaxPool2dArgs& a, const Context& context) {
  const int64_t height = a.y.size[1];
  context.pool->run(a.y.size[0] * height, [&](int64_t chunk, int) {
    const int64_t image = chunk / height, y = chunk % height;
    for (int64_t x = 0; x < a.y.size[2]; ++x)
      for (int64_t c = 0; c < a.y.size[3]; ++c) {
        const Position best = winner<T>(a.x, image, y * a.stride - a.padding, x * a.stride - a.padding, a.kernel, c);
        *at<T>(a.y, image, y, x, c) = *at<T>(a.x, image, best.y, best.x, c);
      }
  });
}

template <class T>
void max_pool2d_grad(const MaxPool2dGradArgs& a, const Context& context) {
  context.pool->run(a.x.size[0] * a.x.size[3], [&](int64_t chunk, int) {
    const int64_t image = chunk / a.x.size[3], c = chunk % a.x.size[3];
    for (int64_t y = 0; y < a.dx.size[1]; ++y)
      for (int64_t x = 0; x < a.dx.size[2]; ++x) *at<T>(a.dx, image, y, x, c) = 0;
    for (int64_t y = 0; y < a.dy.size[1]; ++y)
      for (int64_t x = 0; x < a.dy.size[2]; ++x) {
        const Position best = winner<T>(a.x, image, y * a.stride - a.padding, x * a.stride - a.padding, a.kernel, c);
        *at<T>(a.dx, image, best.y, best.x, c) += *at<T>(a.dy, image, y, x, c);
      }
  });
}

template void max_pool2d<float>(const MaxPool2dArgs&, const Context&);
template void max_pool2d<double>(const MaxPool2dArgs&, const Context&);
template void max_pool2d_grad<float>(const MaxPool2dGradArgs&, const Context&);
template void max_pool2d_grad<double>(const MaxPool2dGradArgs&, const Context&);

}  // namespace theia::cpu
