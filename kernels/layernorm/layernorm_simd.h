// Compiled once per instruction set: the including file defines THEIA_ISA.
#include "kernels/core/pool.h"
#include "kernels/layernorm/layernorm.h"
#include "kernels/layernorm/run_simd.h"

namespace theia::THEIA_ISA {

void layernorm(const LayernormArgs& a, const Context& context) {
  const int64_t rows = a.x.size[0], width = a.x.size[1];
  const int64_t each = width >= 16384 ? 1 : 16384 / width;  // 64 KB of rows: enough to pay for the hand-out
  const float* gamma = a.gamma.ptr<float>();
  const float* beta = a.beta.ptr<float>();
  float* means = a.mean.present() ? a.mean.ptr<float>() : nullptr;
  float* rstds = means ? a.rstd.ptr<float>() : nullptr;
  context.pool->run((rows + each - 1) / each, [&](int64_t chunk, int) {
    const int64_t end = (chunk + 1) * each < rows ? (chunk + 1) * each : rows;
    for (int64_t r = chunk * each; r < end; ++r) {
      const float* x = a.x.ptr<float>() + r * a.x.stride[0];
      float* y = a.y.ptr<float>() + r * a.y.stride[0];
      const Moments m = moments(x, width);
      const float mean = static_cast<float>(m.mean);
      const float rstd = static_cast<float>(1.0 / __builtin_sqrt(m.squares / static_cast<double>(width) + a.eps));
      int64_t i = 0;
      for (; i + kLanes <= width; i += kLanes) store(y + i, fma((load(x + i) - mean) * rstd, load(gamma + i), load(beta + i)));
      if (const int n = static_cast<int>(width - i); n > 0)
        store_n(y + i, fma((load_n(x + i, n) - mean) * rstd, load_n(gamma + i, n), load_n(beta + i, n)), n);
      if (means) {
        means[r] = mean;
        rstds[r] = rstd;
      }
    }
  });
}

/// One row's share of backward: where it lies, and the numbers of the row.
struct NormRow {
  const float *x, *dy, *add;
  float* dx;
  float mean, rstd, c1, c2;
};

/// c1 = mean(g) and c2 = mean(g · xhat) with g = dy · gamma.
THEIA_INLINE void row_sums(NormRow& row, const float* gamma, int64_t width) {
  vf s[2] = {}, p[2] = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= width; i += 2 * kLanes)
    for (int k = 0; k < 2; ++k) {
      const int64_t at = i + k * kLanes;
      const vf g = load(row.dy + at) * load(gamma + at);
      s[k] += g;
      p[k] = fma(g, (load(row.x + at) - row.mean) * row.rstd, p[k]);
    }
  for (; i < width; i += kLanes) {
    const int n = width - i < kLanes ? static_cast<int>(width - i) : kLanes;
    const vf g = load_some(row.dy + i, n) * load_some(gamma + i, n);
    s[0] += g;
    // The lanes above must not meet an infinite rstd · mean: 0 · inf.
    p[0] = fma(g, keep((load_some(row.x + i, n) - row.mean) * row.rstd, n), p[0]);
  }
  row.c1 = reduce_add(s[0] + s[1]) / static_cast<float>(width);
  row.c2 = reduce_add(p[0] + p[1]) / static_cast<float>(width);
}

/// dx of kRows rows, and their sums into dgamma and dbeta row after row: several rows share one trip of gamma and the sums through L1.
template <int kRows, bool kAdd, bool kSums>
THEIA_INLINE void columns(const NormRow* rows, const float* gamma, float* dgamma, float* dbeta, int64_t i, int n) {
  const vf scale = load_some(gamma + i, n);
  vf sum_gamma = {}, sum_beta = {};
  if (kSums) {
    sum_gamma = load_some(dgamma + i, n);
    sum_beta = load_some(dbeta + i, n);
  }
  for (int r = 0; r < kRows; ++r) {
    const NormRow& row = rows[r];
    const vf dy = load_some(row.dy + i, n);
    const vf xhat = (load_some(row.x + i, n) - row.mean) * row.rstd;
    vf d = fnma(xhat, set1(row.c2), fma(dy, scale, set1(-row.c1))) * row.rstd;
    if (kAdd) d += load_some(row.add + i, n);
    store_some(row.dx + i, d, n);
    if (kSums) {
      sum_gamma = fma(dy, xhat, sum_gamma);
      sum_beta += dy;
    }
  }
  if (kSums) {
    store_some(dgamma + i, sum_gamma, n);
    store_some(dbeta + i, sum_beta, n);
  }
}

template <int kRows, bool kAdd, bool kSums>
static void grad_rows(NormRow* rows, const float* gamma, float* dgamma, float* dbeta, int64_t width) {
  for (int r = 0; r < kRows; ++r) row_sums(rows[r], gamma, width);
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) columns<kRows, kAdd, kSums>(rows, gamma, dgamma, dbeta, i, kLanes);
  if (i < width) columns<kRows, kAdd, kSums>(rows, gamma, dgamma, dbeta, i, static_cast<int>(width - i));
}

using GradRows = void (*)(NormRow*, const float*, float*, float*, int64_t);

void layernorm_grad(const LayernormGradArgs& a, const Context& context) {
  constexpr int kTogether = 4;
  static constexpr GradRows kOne[4] = {grad_rows<1, false, false>, grad_rows<1, false, true>, grad_rows<1, true, false>,
                                       grad_rows<1, true, true>};
  static constexpr GradRows kFour[4] = {grad_rows<kTogether, false, false>, grad_rows<kTogether, false, true>,
                                        grad_rows<kTogether, true, false>, grad_rows<kTogether, true, true>};
  const bool add = a.add.present(), sums = a.dgamma.present();
  const GradRows one = kOne[2 * add + sums], four = kFour[2 * add + sums];
  const int64_t rows = a.x.size[0], width = a.x.size[1];
  const NormBlocks blocks = norm_blocks(rows);
  const float* gamma = a.gamma.ptr<float>();
  float* partial = reinterpret_cast<float*>(context.workspace);  // [blocks][dgamma, dbeta][width]

  context.pool->run(blocks.count, [&](int64_t block, int) {
    float* dgamma = sums ? partial + block * 2 * width : nullptr;
    float* dbeta = sums ? dgamma + width : nullptr;
    for (int64_t i = 0; sums && i < 2 * width; ++i) dgamma[i] = 0;
    const int64_t end = (block + 1) * blocks.rows < rows ? (block + 1) * blocks.rows : rows;
    NormRow group[kTogether];
    for (int64_t r = block * blocks.rows; r < end;) {
      const int count = end - r >= kTogether ? kTogether : 1;
      for (int k = 0; k < count; ++k, ++r)
        group[k] = {a.x.ptr<float>() + r * a.x.stride[0],
                    a.dy.ptr<float>() + r * a.dy.stride[0],
                    add ? a.add.ptr<float>() + r * a.add.stride[0] : nullptr,
                    a.dx.ptr<float>() + r * a.dx.stride[0],
                    a.mean.ptr<float>()[r],
                    a.rstd.ptr<float>()[r],
                    0,
                    0};
      (count == 1 ? one : four)(group, gamma, dgamma, dbeta, width);
    }
  });
  if (!sums) return;

  // The blocks' sums, always in the order of the blocks.
  constexpr int64_t kColumns = 256;
  float* dgamma = a.dgamma.ptr<float>();
  float* dbeta = a.dbeta.ptr<float>();
  context.pool->run((width + kColumns - 1) / kColumns, [&](int64_t chunk, int) {
    const int64_t end = (chunk + 1) * kColumns < width ? (chunk + 1) * kColumns : width;
    for (int64_t i = chunk * kColumns; i < end; i += kLanes) {
      const int n = end - i < kLanes ? static_cast<int>(end - i) : kLanes;
      vf g = {}, b = {};
      for (int64_t block = 0; block < blocks.count; ++block) {
        g += load_some(partial + block * 2 * width + i, n);
        b += load_some(partial + (block * 2 + 1) * width + i, n);
      }
      store_some(dgamma + i, a.accumulate ? g + load_some(dgamma + i, n) : g, n);
      store_some(dbeta + i, a.accumulate ? b + load_some(dbeta + i, n) : b, n);
    }
  });
}

}  // namespace theia::THEIA_ISA
