#include "kernels/patch_embed/patch_embed.h"

namespace theia::cpu {

template <class T>
void patch_embed(const PatchEmbedArgs& a, const Context&) {
  const int64_t batch = a.images.size[0], width = a.images.size[2], channels = a.images.size[3], patch = a.w.size[1], d_count = a.w.size[0];
  const int64_t across = width / patch, patches = a.images.size[1] / patch * across, first = a.cls.present() ? 1 : 0;
  const T* table = a.table.ptr<T>();
  const T* w = a.w.ptr<T>();
  const T* positions = a.positions.ptr<T>();
  for (int64_t b = 0; b < batch; ++b) {
    const uint8_t* image = a.images.ptr<uint8_t>() + b * a.images.size[1] * width * channels;
    T* tokens = a.y.ptr<T>() + b * a.y.size[1] * d_count;
    if (a.cls.present())
      for (int64_t d = 0; d < d_count; ++d) tokens[d] = a.cls.ptr<T>()[d] + positions[d];
    for (int64_t r = 0; a.registers.present() && r < a.registers.numel(); ++r)
      tokens[(first + patches) * d_count + r] = a.registers.ptr<T>()[r] + a.register_positions.ptr<T>()[r];
    for (int64_t i = 0; i < patches; ++i)
      for (int64_t d = 0; d < d_count; ++d) {
        T sum = 0;
        for (int64_t y = 0; y < patch; ++y)
          for (int64_t x = 0; x < patch; ++x)
            for (int64_t c = 0; c < channels; ++c) {
              const uint8_t byte = image[((i / across * patch + y) * width + i % across * patch + x) * channels + c];
              sum += table[c * 256 + byte] * w[((d * patch + y) * patch + x) * channels + c];
            }
        tokens[(first + i) * d_count + d] = sum + a.bias.ptr<T>()[d] + positions[(1 + i) * d_count + d];
      }
  }
}

template <class T>
void patch_embed_grad(const PatchEmbedGradArgs& a, const Context&) {
  const int64_t batch = a.images.size[0], width = a.images.size[2], channels = a.images.size[3], patch = a.dw.size[1],
                d_count = a.dw.size[0];
  const int64_t across = width / patch, patches = a.images.size[1] / patch * across, first = a.dcls.present() ? 1 : 0;
  const T* table = a.table.ptr<T>();
  const bool add = a.accumulate != 0;
  const auto put = [add](T& to, T value) { to = add ? to + value : value; };
  const auto dy = [&](int64_t b, int64_t token, int64_t d) { return a.dy.ptr<T>()[(b * a.dy.size[1] + token) * d_count + d]; };
  for (int64_t d = 0; d < d_count; ++d) {
    T bias = 0, cls = 0;
    for (int64_t i = 0; i < patches; ++i) {
      T sum = 0;
      for (int64_t b = 0; b < batch; ++b) sum += dy(b, first + i, d);
      put(a.dpositions.ptr<T>()[(1 + i) * d_count + d], sum);
      bias += sum;
    }
    for (int64_t b = 0; first && b < batch; ++b) cls += dy(b, 0, d);
    put(a.dpositions.ptr<T>()[d], cls);
    if (first) put(a.dcls.ptr<T>()[d], cls);
    put(a.dbias.ptr<T>()[d], bias);
    for (int64_t r = 0; a.dregisters.present() && r < a.dregisters.size[0]; ++r) {
      T sum = 0;
      for (int64_t b = 0; b < batch; ++b) sum += dy(b, first + patches + r, d);
      put(a.dregisters.ptr<T>()[r * d_count + d], sum);
      put(a.dregister_positions.ptr<T>()[r * d_count + d], sum);
    }
    for (int64_t y = 0; y < patch; ++y)
      for (int64_t x = 0; x < patch; ++x)
        for (int64_t c = 0; c < channels; ++c) {
          T sum = 0;
          for (int64_t b = 0; b < batch; ++b)
            for (int64_t i = 0; i < patches; ++i) {
              const int64_t row = (b * a.images.size[1] + i / across * patch + y) * width + i % across * patch + x;
              sum += dy(b, first + i, d) * table[c * 256 + a.images.ptr<uint8_t>()[row * channels + c]];
            }
          put(a.dw.ptr<T>()[((d * patch + y) * patch + x) * channels + c], sum);
        }
  }
}

template void patch_embed<float>(const PatchEmbedArgs&, const Context&);
template void patch_embed<double>(const PatchEmbedArgs&, const Context&);
template void patch_embed_grad<float>(const PatchEmbedGradArgs&, const Context&);
template void patch_embed_grad<double>(const PatchEmbedGradArgs&, const Context&);

}  // namespace theia::cpu
