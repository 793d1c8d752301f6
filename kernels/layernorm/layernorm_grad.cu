// Backward of LayerNorm in one read of x and dy: dx by row, and the rows' contributions to dgamma and dbeta, which a warp keeps in
// registers over all of its rows. A block leaves its sums in the workspace, one row of [dgamma | dbeta]; sum_rows adds them up in their
// order.
#include "kernels/cuda/four.cuh"
#include "kernels/cuda/sum_rows.cuh"
#include "kernels/cuda/sums.cuh"
#include "kernels/layernorm/layernorm.h"
#include "kernels/layernorm/rows.cuh"

namespace theia::THEIA_DEVICE {

namespace {

struct Backward {
  Stream x, dy, add, dx;  // add.data is null where there is none; dx may be its memory: an element is read by who writes it, before
  int64_t x_row, dy_row, add_row, dx_row;
  const float *gamma, *mean, *rstd;
  float* partial;  // [blocks][2][width]; null: no parameter wants its gradient
  int64_t rows, width;
};

/// dx of a thread's four elements at `column`: rstd · (g - mean(g) - xhat · mean(g · xhat)) with g = dy · gamma, and what is added to it.
template <bool kWide, int kThreads>
__device__ __forceinline__ void write_dx(const Backward& a, int64_t row, int64_t column, int thread, const float (&xhat)[4],
                                         const float (&dy)[4], const float (&gamma)[4], float c1, float c2, float rstd) {
  float d[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) d[k] = rstd * fmaf(-xhat[k], c2, fmaf(dy[k], gamma[k], -c1));
  if (a.add.data) {
    float more[4];
    unpack<kWide>(a.add, fetch<kWide, kThreads>(a.add, row * a.add_row + column, thread, a.width - column), more);
#pragma unroll
    for (int k = 0; k < 4; ++k) d[k] += more[k];
  }
  put<kWide, kThreads>(a.dx, row * a.dx_row + column, thread, a.width - column, d);
}

/// Blocks of 128 threads that a multiprocessor holds: 16, 12 or 8 warps, each with the loads of a row under way.
constexpr int blocks_at_once(int steps) { return steps <= 3 ? 5 : steps <= 6 ? 3 : 2; }

template <int kSteps, bool kWide>
__global__ void __launch_bounds__(kRowThreads, blocks_at_once(kSteps)) layernorm_grad_warp(const __grid_constant__ Backward a) {
  THEIA_SHARED(float, sums, [2 * kSteps * kRowPiece]);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int width = static_cast<int>(a.width);
  float dgamma[kSteps][4] = {}, dbeta[kSteps][4] = {};
  for (int64_t r = int64_t{blockIdx.x} * kRowWarps + warp; r < a.rows; r += int64_t{gridDim.x} * kRowWarps) {
    const float mean = a.mean[r], rstd = a.rstd[r];
    float xhat[kSteps][4], dy[kSteps][4];
    {
      Four raw[kSteps], more[kSteps];
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        raw[s] = fetch<kWide, kWarp>(a.x, r * a.x_row + s * kRowPiece, lane, width - s * kRowPiece);
        more[s] = fetch<kWide, kWarp>(a.dy, r * a.dy_row + s * kRowPiece, lane, width - s * kRowPiece);
      }
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        unpack<kWide>(a.x, raw[s], xhat[s]);
        unpack<kWide>(a.dy, more[s], dy[s]);
      }
    }
    float c1 = 0, c2 = 0;
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      float gamma[4];
      read<kWide, kWarp>(a.gamma, s * kRowPiece, lane, width - s * kRowPiece, gamma);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        // Where there is no column: no contribution, whatever mean and rstd are (0 · inf).
        const bool real = s * kRowPiece + element_at<kWide, kWarp>(lane, k) < width;
        xhat[s][k] = real ? (xhat[s][k] - mean) * rstd : 0.0f;
        const float g = dy[s][k] * gamma[k];
        c1 += g;
        c2 = fmaf(g, xhat[s][k], c2);
        dgamma[s][k] = fmaf(dy[s][k], xhat[s][k], dgamma[s][k]);
        dbeta[s][k] += dy[s][k];
      }
    }
    c1 = warp_sum(c1) / static_cast<float>(width);
    c2 = warp_sum(c2) / static_cast<float>(width);
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      float gamma[4];
      read<kWide, kWarp>(a.gamma, s * kRowPiece, lane, width - s * kRowPiece, gamma);  // L1, rather than 4 registers a step
      write_dx<kWide, kWarp>(a, r, s * kRowPiece, lane, xhat[s], dy[s], gamma, c1, c2, rstd);
    }
  }
  if (!a.partial) return;

  // The warps' sums, one warp after the other.
  for (int turn = 0; turn < kRowWarps; ++turn) {
    if (warp == turn)
#pragma unroll
      for (int s = 0; s < kSteps; ++s)
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          float* at = sums + s * kRowPiece + element_at<kWide, kWarp>(lane, k);
          at[0] = turn == 0 ? dgamma[s][k] : at[0] + dgamma[s][k];
          at[kSteps * kRowPiece] = turn == 0 ? dbeta[s][k] : at[kSteps * kRowPiece] + dbeta[s][k];
        }
    __syncthreads();
  }
  float* to = a.partial + int64_t{blockIdx.x} * 2 * width;
  for (int i = threadIdx.x; i < width; i += kRowThreads) {
    to[i] = sums[i];
    to[width + i] = sums[kSteps * kRowPiece + i];
  }
}

/// Rows of any length: a block a row, which reads it twice. A thread has the same columns of every row and adds to the block's partial sums
/// itself.
template <bool kWide>
__global__ void __launch_bounds__(kLongThreads) layernorm_grad_block(const __grid_constant__ Backward a) {
  THEIA_SHARED(float, scratch, [2 * kLongThreads / kWarp]);
  constexpr int kPiece = 4 * kLongThreads;
  const int thread = threadIdx.x;
  float* dgamma = a.partial ? a.partial + int64_t{blockIdx.x} * 2 * a.width : nullptr;
  for (int64_t r = blockIdx.x; r < a.rows; r += gridDim.x) {
    const float mean = a.mean[r], rstd = a.rstd[r];
    float c1 = 0, c2 = 0, c[2] = {};
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t column = 0; column < a.width; column += kPiece) {
        const int64_t left = a.width - column;
        const Four raw = fetch<kWide, kLongThreads>(a.x, r * a.x_row + column, thread, left);
        const Four more = fetch<kWide, kLongThreads>(a.dy, r * a.dy_row + column, thread, left);
        float xhat[4], dy[4], gamma[4];
        read<kWide, kLongThreads>(a.gamma, column, thread, left, gamma);
        unpack<kWide>(a.x, raw, xhat);
        unpack<kWide>(a.dy, more, dy);
#pragma unroll
        for (int k = 0; k < 4; ++k) xhat[k] = element_at<kWide, kLongThreads>(thread, k) < left ? (xhat[k] - mean) * rstd : 0.0f;
        if (pass == 1) {
          write_dx<kWide, kLongThreads>(a, r, column, thread, xhat, dy, gamma, c[0], c[1], rstd);
          continue;
        }
        float sum_gamma[4] = {}, sum_beta[4] = {};
        if (dgamma && r != blockIdx.x) {
          read<kWide, kLongThreads>(dgamma, column, thread, left, sum_gamma);
          read<kWide, kLongThreads>(dgamma + a.width, column, thread, left, sum_beta);
        }
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const float g = dy[k] * gamma[k];
          c1 += g;
          c2 = fmaf(g, xhat[k], c2);
          sum_gamma[k] = fmaf(dy[k], xhat[k], sum_gamma[k]);
          sum_beta[k] += dy[k];
        }
        if (dgamma) {
          write<kWide, kLongThreads>(dgamma, column, thread, left, sum_gamma);
          write<kWide, kLongThreads>(dgamma + a.width, column, thread, left, sum_beta);
        }
      }
      if (pass == 1) break;
      block_sum<kLongThreads / kWarp>(c1, c2, scratch);
      c[0] = c1 / static_cast<float>(a.width);
      c[1] = c2 / static_cast<float>(a.width);
    }
  }
}

/// Blocks of backward, and so the rows of the partial sums: what the device holds at once, but at least four rows a warp.
int64_t grad_blocks(int64_t rows, int64_t width, const DeviceInfo& info) {
  const int64_t each = width > kRowPiece * kRowSteps ? 4 : 4 * kRowWarps;
  int at_once = 4;
  if (width <= kRowPiece * kRowSteps) with_steps(width, true, [&](auto steps, auto) { at_once = blocks_at_once(steps.value); });
  const int64_t most = int64_t{info.multiprocessors} * at_once, wanted = ceil_div(rows, each);
  return wanted < most ? wanted : most;
}

}  // namespace

int64_t layernorm_grad_workspace(const LayernormGradArgs& a, const DeviceInfo& info) {
  if (!a.dgamma.present()) return 0;
  return grad_blocks(a.x.size[0], a.x.size[1], info) * 2 * a.x.size[1] * static_cast<int64_t>(sizeof(float));
}

void layernorm_grad(const LayernormGradArgs& a, const DeviceContext& context) {
  const int64_t rows = a.x.size[0], width = a.x.size[1];
  float* partial = a.dgamma.present() ? reinterpret_cast<float*>(context.workspace) : nullptr;
  const Backward b{
      stream_of(a.x), stream_of(a.dy),      stream_of(a.add),    stream_of(a.dx),     a.x.stride[0], a.dy.stride[0], a.add.stride[0],
      a.dx.stride[0], a.gamma.ptr<float>(), a.mean.ptr<float>(), a.rstd.ptr<float>(), partial,       rows,           width};
  const bool wide = in_fours(a.x) && in_fours(a.dy) && in_fours(a.add) && in_fours(a.dx) && in_fours(a.gamma);
  const int64_t blocks = grad_blocks(rows, width, *context.info);
  const dim3 grid(static_cast<unsigned>(blocks));
  if (width > kRowPiece * kRowSteps)
    launch("layernorm_grad", wide ? layernorm_grad_block<true> : layernorm_grad_block<false>, grid, dim3(kLongThreads), 0, context, b);
  else
    with_steps(width, wide, [&](auto steps, auto four) {
      launch("layernorm_grad", layernorm_grad_warp<steps.value, four.value>, grid, dim3(kRowThreads), 0, context, b);
    });
  if (a.dgamma.present())
    launch_sum_rows("layernorm_grad", partial, blocks, width, a.dgamma.ptr<float>(), a.dbeta.ptr<float>(), a.accumulate != 0, context);
}

}  // namespace theia::THEIA_DEVICE
