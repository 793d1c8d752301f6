#include <cstring>

#include "kernels/core/pool.h"
#include "kernels/preprocess/preprocess.h"
#include "kernels/preprocess/taps.h"

namespace theia::cpu {

namespace {

uint8_t to_byte(int32_t sum) {
  const int32_t v = sum >> kPrecision;  // arithmetic shift
  return static_cast<uint8_t>(v < 0 ? 0 : v > 255 ? 255 : v);
}

/// One row of `width` pixels to `taps` outputs.
template <int C>
void resize_row(const uint8_t* in, uint8_t* out, const TapsView& taps, int64_t width, int64_t channels) {
  const int64_t c_count = C ? C : channels;
  for (int64_t o = 0; o < width; ++o) {
    const uint8_t* from = in + taps.first(o) * c_count;
    const int32_t* w = taps.weights(o);
    const int32_t n = taps.count(o);
    for (int64_t c = 0; c < c_count; ++c) {
      int32_t sum = 1 << (kPrecision - 1);
      for (int32_t i = 0; i < n; ++i) sum += from[i * c_count + c] * w[i];
      out[o * c_count + c] = to_byte(sum);
    }
  }
}

/// One output row from the rows above and below it; `sums` is as long as the row.
void blend_rows(const uint8_t* in, int64_t row_bytes, uint8_t* out, int32_t first, int32_t count, const int32_t* weights) {
  constexpr int64_t kStrip = 1024;  // sums stay in L1
  int32_t sums[kStrip];
  for (int64_t at = 0; at < row_bytes; at += kStrip) {
    const int64_t n = row_bytes - at < kStrip ? row_bytes - at : kStrip;
    for (int64_t j = 0; j < n; ++j) sums[j] = 1 << (kPrecision - 1);
    for (int32_t i = 0; i < count; ++i) {
      const uint8_t* row = in + (first + i) * row_bytes + at;
      const int32_t w = weights[i];
      for (int64_t j = 0; j < n; ++j) sums[j] += row[j] * w;
    }
    for (int64_t j = 0; j < n; ++j) out[at + j] = to_byte(sums[j]);
  }
}

}  // namespace

void preprocess(const PreprocessArgs& a, const Context& context) {
  const auto filter = static_cast<ResizeFilter>(a.filter);
  const int64_t batch = a.image.size[0], in_h = a.image.size[1], in_w = a.image.size[2], channels = a.image.size[3];
  const int64_t out_h = a.out.size[1], out_w = a.out.size[2];
  const int64_t wide = out_w * channels;
  if (batch == 0 || channels == 0) return;

  auto* memory = reinterpret_cast<int32_t*>(context.workspace);
  const TapsView across = make_taps(memory, taps_across(a), filter);
  memory += (taps_bytes(taps_across(a), filter) + 63) / 64 * 16;
  const TapsView down = make_taps(memory, taps_down(a), filter);
  memory += (taps_bytes(taps_down(a), filter) + 63) / 64 * 16;

  // A pass is skipped where nothing changes. One that only cuts reads with weights of exactly 1, and gives the bytes that it reads.
  const uint8_t* between = a.image.ptr<uint8_t>();
  if (!unchanged(taps_across(a))) {
    auto* rows = reinterpret_cast<uint8_t*>(memory);
    const uint8_t* image = a.image.ptr<uint8_t>();
    constexpr int64_t kRows = 16;
    context.pool->run((batch * in_h + kRows - 1) / kRows, [&](int64_t chunk, int) {
      for (int64_t r = chunk * kRows; r < (chunk + 1) * kRows && r < batch * in_h; ++r) {
        const auto resize = channels == 3 ? resize_row<3> : resize_row<0>;
        resize(image + r * in_w * channels, rows + r * wide, across, out_w, channels);
      }
    });
    between = rows;
  }
  uint8_t* out = a.out.ptr<uint8_t>();
  if (unchanged(taps_down(a))) {
    std::memcpy(out, between, static_cast<size_t>(batch * out_h * wide));
    return;
  }
  constexpr int64_t kRows = 8;
  context.pool->run((batch * out_h + kRows - 1) / kRows, [&](int64_t chunk, int) {
    for (int64_t r = chunk * kRows; r < (chunk + 1) * kRows && r < batch * out_h; ++r) {
      const int64_t b = r / out_h, o = r % out_h;
      blend_rows(between + b * in_h * wide, wide, out + r * wide, down.first(o), down.count(o), down.weights(o));
    }
  });
}

}  // namespace theia::cpu
