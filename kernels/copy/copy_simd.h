// Compiled once per instruction set: the including file defines THEIA_ISA. Here are the conversions and sums of packed float32 rows and
// the transposition of four-byte elements; the rest is memcpy or has strides that vectors do not help with, and is plain.
#include "kernels/copy/copy.h"
#include "kernels/core/simd.h"

namespace theia::THEIA_ISA {

template <class S, class D, bool kAdd>
static void copy_packed(const std::byte* from, std::byte* to, int64_t n) {
  const S* src = reinterpret_cast<const S*>(from);
  D* dst = reinterpret_cast<D*>(to);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    vf v = load(src + i);
    if constexpr (kAdd) v += load(dst + i);
    store(dst + i, v);
  }
  if (const int m = static_cast<int>(n - i); m > 0) {
    vf v = load_n(src + i, m);
    if constexpr (kAdd) v += load_n(dst + i, m);
    store_n(dst + i, v, m);
  }
}

/// dst[j][i] = src[i][j] for 8 x 8: pairs, fours, halves. `src_step` lies between the rows of src, `dst_step` between those of dst.
THEIA_INLINE void transpose8(const float* src, int64_t src_step, float* dst, int64_t dst_step) {
  __m256 r[8], t[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(src + i * src_step);
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(dst + i * dst_step, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(dst + (i + 4) * dst_step, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}

/// Four-byte elements, moved: whatever they mean, no arithmetic touches them.
static void move_tile(const std::byte* from, int64_t src_row, int64_t src_column, std::byte* to, int64_t dst_row, int64_t dst_column,
                      int64_t rows, int64_t columns) {
  const CopyKernels plain = plain_copy(DType::f32, DType::f32, false);
  if (src_row != 1 || dst_column != 1) {
    plain.tile(from, src_row, src_column, to, dst_row, dst_column, rows, columns);
    return;
  }
  const float* src = reinterpret_cast<const float*>(from);
  float* dst = reinterpret_cast<float*>(to);
  const int64_t whole_rows = rows & ~int64_t{7}, whole_columns = columns & ~int64_t{7};
  // Blocks of 16 x 16: a line of src is read whole and a line of dst is filled while both are in L1. Lines that are far apart share few
  // sets of the cache, so the side with the longer step finishes eight of its lines before it takes up the next eight.
  const bool by_rows = dst_row > src_column;
  for (int64_t c = 0; c < whole_columns; c += 16)
    for (int64_t r = 0; r < whole_rows; r += 16)
      for (int k = 0; k < 4; ++k) {
        const int64_t rr = r + 8 * (by_rows ? k / 2 : k % 2), cc = c + 8 * (by_rows ? k % 2 : k / 2);
        if (rr < whole_rows && cc < whole_columns) transpose8(src + rr + cc * src_column, src_column, dst + rr * dst_row + cc, dst_row);
      }
  const auto rest = [&](int64_t row, int64_t column, int64_t down, int64_t across) {
    if (down > 0 && across > 0)
      plain.tile(reinterpret_cast<const std::byte*>(src + row + column * src_column), 1, src_column,
                 reinterpret_cast<std::byte*>(dst + row * dst_row + column), dst_row, 1, down, across);
  };
  rest(0, whole_columns, rows, columns - whole_columns);
  rest(whole_rows, 0, rows - whole_rows, whole_columns);
}

void copy(const CopyArgs& a, const Context& context) {
  const bool add = a.accumulate != 0;
  CopyKernels kernels = plain_copy(a.src.dtype, a.dst.dtype, add);
  if (a.dst.dtype == DType::f32) switch (a.src.dtype) {
      case DType::f32:
        if (add) kernels.packed = copy_packed<float, float, true>;
        break;  // else memcpy
      case DType::bf16:
        kernels.packed = add ? copy_packed<bf16, float, true> : copy_packed<bf16, float, false>;
        break;
      case DType::f16:
        kernels.packed = add ? copy_packed<f16, float, true> : copy_packed<f16, float, false>;
        break;
      case DType::u8:
        kernels.packed = add ? copy_packed<uint8_t, float, true> : copy_packed<uint8_t, float, false>;
        break;
      default:
        break;
    }
  if (a.src.dtype == DType::f32 && a.dst.dtype == DType::bf16) kernels.packed = copy_packed<float, bf16, false>;
  if (a.src.dtype == DType::f32 && a.dst.dtype == DType::f16) kernels.packed = copy_packed<float, f16, false>;
  if (a.src.dtype == a.dst.dtype && bytes_of(a.dst.dtype) == 4 && !add) kernels.tile = move_tile;
  walk(a, context, kernels);
}

}  // namespace theia::THEIA_ISA
