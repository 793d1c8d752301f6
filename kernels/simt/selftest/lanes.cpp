// What lands in which lane: ldmatrix, mma, shuffles and votes against the formulas of the PTX ISA, written down element by element.
#include "kernels/core/dtype.h"
#include "kernels/ptx/convert.h"
#include "kernels/ptx/ldmatrix.h"
#include "kernels/ptx/mma.h"
#include "kernels/simt/selftest/selftest.h"

namespace theia::simt::selftest {
namespace {

// ---- ldmatrix: tile j is 8 x 8, element (r, c) has the value 64 j + 8 r + c ----------------------------------------------------------
template <int tiles, bool trans>
__global__ void ldmatrix_kernel(uint32_t* out) {
  THEIA_DYNAMIC_SHARED(smem);
  uint16_t* const tile = reinterpret_cast<uint16_t*>(smem);
  // Rows of 24 elements, so that a row's neighbour is no part of the tile.
  for (int i = static_cast<int>(threadIdx.x); i < tiles * 64; i += 32) tile[i / 8 * 24 + i % 8] = static_cast<uint16_t>(i);
  __syncwarp();
  uint32_t r[tiles];
  const void* const row = tile + static_cast<int>(threadIdx.x) % (8 * tiles) * 24;
  if constexpr (tiles == 1) trans ? ptx::ldmatrix_x1_trans(r, row) : ptx::ldmatrix_x1(r, row);
  if constexpr (tiles == 2) trans ? ptx::ldmatrix_x2_trans(r, row) : ptx::ldmatrix_x2(r, row);
  if constexpr (tiles == 4) trans ? ptx::ldmatrix_x4_trans(r, row) : ptx::ldmatrix_x4(r, row);
  for (int j = 0; j < tiles; ++j) out[threadIdx.x * tiles + j] = r[j];
}

template <int tiles, bool trans>
void check_ldmatrix() {
  std::vector<uint32_t> out(32 * tiles);
  launch("selftest_ldmatrix", ldmatrix_kernel<tiles, trans>, dim3(1), dim3(32), tiles * 8 * 24 * 2, kContext, out.data());
  for (int lane = 0; lane < 32; ++lane)
    for (int j = 0; j < tiles; ++j)
      for (int e = 0; e < 2; ++e) {
        const int row = trans ? lane % 4 * 2 + e : lane / 4, column = trans ? lane / 4 : lane % 4 * 2 + e;
        expect_equal("register", (lane * tiles + j) * 2 + e, out[static_cast<size_t>(lane * tiles + j)] >> 16 * e & 0xffff,
                     64 * j + 8 * row + column);
      }
}

// ---- mma: fragments filled by the ISA's formulas, the product against three loops ----------------------------------------------------
struct MmaArgs {
  const uint32_t *a, *b;  // [lane][register]
  float* d;               // [lane][4], in and out
};

template <class T>
__global__ void mma_kernel(MmaArgs m) {
  uint32_t a[4], b[2];
  float d[4];
  for (int i = 0; i < 4; ++i) a[i] = m.a[threadIdx.x * 4 + i], d[i] = m.d[threadIdx.x * 4 + i];
  for (int i = 0; i < 2; ++i) b[i] = m.b[threadIdx.x * 2 + i];
  if constexpr (std::is_same_v<T, float>)
    ptx::mma_m16n8k8_tf32(d, a, b);
  else
    ptx::mma_m16n8k16<T>(d, a, b);
  for (int i = 0; i < 4; ++i) m.d[threadIdx.x * 4 + i] = d[i];
}

template <class T>
uint32_t bits_of(float x) {
  if constexpr (std::is_same_v<T, float>) return __float_as_uint(x) | 0x1fffu;  // the tensor core does not read these
  if constexpr (std::is_same_v<T, bf16>) return ptx::pack_bf16(x, 0.f);
  return ptx::pack_f16(x, 0.f);
}

template <class T>
void check_mma() {
  constexpr bool tf32 = std::is_same_v<T, float>;
  constexpr int depth = tf32 ? 8 : 16;
  Numbers numbers(3);
  float A[16][depth], B[depth][8], C[16][8];
  for (auto& row : A)
    for (float& x : row) x = numbers.small();
  for (auto& row : B)
    for (float& x : row) x = numbers.small();
  for (auto& row : C)
    for (float& x : row) x = numbers.small();
  std::vector<uint32_t> a(32 * 4), b(32 * 2);
  std::vector<float> d(32 * 4);
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, in_group = lane % 4;
    // "row = groupID for ai where 0 <= i < 2 || 4 <= i < 6, groupID + 8 otherwise; col = (threadID_in_group * 2) + (i & 1) for i < 4,
    // + 8 for i >= 4": element i is half i & 1 of register i >> 1.
    for (int i = 0; i < (tf32 ? 4 : 8); ++i) {
      const int row = tf32 ? group + (i == 0 || i == 2 ? 0 : 8) : group + (i < 2 || (i >= 4 && i < 6) ? 0 : 8);
      const int column = tf32 ? in_group + (i < 2 ? 0 : 4) : in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
      a[static_cast<size_t>(lane * 4 + (tf32 ? i : i >> 1))] |= bits_of<T>(A[row][column]) << (tf32 ? 0 : 16 * (i & 1));
    }
    // "row = (threadID_in_group * 2) + (i & 1), + 8 for i >= 2; col = groupID"
    for (int i = 0; i < (tf32 ? 2 : 4); ++i) {
      const int row = tf32 ? in_group + 4 * i : in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);
      b[static_cast<size_t>(lane * 2 + (tf32 ? i : i >> 1))] |= bits_of<T>(B[row][group]) << (tf32 ? 0 : 16 * (i & 1));
    }
    for (int i = 0; i < 4; ++i) d[static_cast<size_t>(lane * 4 + i)] = C[group + (i < 2 ? 0 : 8)][in_group * 2 + (i & 1)];
  }
  launch("selftest_mma", mma_kernel<T>, dim3(1), dim3(32), 0, kContext, MmaArgs{a.data(), b.data(), d.data()});
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const int row = (lane >> 2) + (i < 2 ? 0 : 8), column = lane % 4 * 2 + (i & 1);
      double sum = C[row][column];
      for (int k = 0; k < depth; ++k) sum += static_cast<double>(A[row][k]) * B[k][column];
      expect_near("D", row * 8 + column, d[static_cast<size_t>(lane * 4 + i)], sum, 0);
    }
}

// ---- shuffles: every kind, width and distance ---------------------------------------------------------------------------------------
__global__ void shuffle_kernel(int* out, int kind, int argument, int width) {
  const int v = 100 + static_cast<int>(threadIdx.x);
  int r = 0;
  if (kind == 0) r = __shfl_sync(kFullMask, v, argument, width);
  if (kind == 1) r = __shfl_up_sync(kFullMask, v, static_cast<unsigned>(argument), width);
  if (kind == 2) r = __shfl_down_sync(kFullMask, v, static_cast<unsigned>(argument), width);
  if (kind == 3) r = __shfl_xor_sync(kFullMask, v, argument, width);
  out[threadIdx.x] = r;
}

/// "pval = ..." of the ISA's shfl.sync, with bval = argument, segmask from the width and cval its clamp.
int shuffle_source(int kind, int lane, int bval, int width) {
  const int segmask = (32 - width) & 31, cval = kind == 1 ? 0 : 31;
  const int max_lane = (lane & segmask) | (cval & ~segmask & 31), min_lane = lane & segmask;
  if (kind == 0) return min_lane | (bval & ~segmask & 31);
  const int j = kind == 1 ? lane - bval : kind == 2 ? lane + bval : lane ^ bval;
  return (kind == 1 ? j >= max_lane : j <= max_lane) ? j : lane;
}

void check_shuffles() {
  std::vector<int> out(32);
  for (int kind = 0; kind < 4; ++kind)
    for (int width = 1; width <= 32; width *= 2)
      for (int argument : {0, 1, 2, 3, 5, 8, 15, 16, 31}) {
        launch("selftest_shuffle", shuffle_kernel, dim3(1), dim3(32), 0, kContext, out.data(), kind, argument, width);
        for (int lane = 0; lane < 32; ++lane)
          expect_equal("lane", ((kind * 64 + width) * 32 + argument) * 32 + lane, out[static_cast<size_t>(lane)],
                       100 + shuffle_source(kind, lane, argument, width));
      }
}

/// 8-byte values, partial masks side by side in one warp, a mask for a branch, votes.
__global__ void votes_kernel(double* wide, unsigned* votes, int* halves) {
  const int lane = static_cast<int>(threadIdx.x);
  wide[lane] = __shfl_xor_sync(kFullMask, 0.1 * lane, 7);
  votes[lane] = __ballot_sync(kFullMask, lane % 3 == 0);
  votes[32 + lane] = static_cast<unsigned>(__any_sync(kFullMask, lane == 17) + 2 * __any_sync(kFullMask, lane == 40) +
                                           4 * __all_sync(kFullMask, lane < 32) + 8 * __all_sync(kFullMask, lane != 5));
  if (lane < 16) {
    halves[lane] = __shfl_down_sync(0xffffu, lane, 1, 16);
  } else {
    halves[lane] = 1000;
    __syncwarp(0xffff0000u);
    for (int i = 0; i < 3; ++i) halves[lane] += __shfl_xor_sync(0xffff0000u, lane, 1 << i, 16);
  }
  __syncwarp();
  if (lane % 2 == 1) halves[lane] += __shfl_sync(0xaaaaaaaau, lane, 31) * 10000;
}

void check_votes() {
  std::vector<double> wide(32);
  std::vector<unsigned> votes(64);
  std::vector<int> halves(32);
  launch("selftest_votes", votes_kernel, dim3(1), dim3(32), 0, kContext, wide.data(), votes.data(), halves.data());
  for (int lane = 0; lane < 32; ++lane) {
    const size_t l = static_cast<size_t>(lane);
    expect_near("wide", lane, wide[l], 0.1 * (lane ^ 7), 0);
    expect_equal("ballot", lane, votes[l], 0x49249249);
    expect_equal("votes", lane, votes[32 + l], 1 + 4);
    int want = lane < 15 ? lane + 1 : 15;
    if (lane >= 16) want = 1000 + (lane ^ 1) + (lane ^ 2) + (lane ^ 4);
    expect_equal("halves", lane, halves[l], want + (lane % 2 ? 310000 : 0));
  }
}

constexpr Case kCases[] = {
    {"ldmatrix_x1", check_ldmatrix<1, false>},
    {"ldmatrix_x2", check_ldmatrix<2, false>},
    {"ldmatrix_x4", check_ldmatrix<4, false>},
    {"ldmatrix_x1_trans", check_ldmatrix<1, true>},
    {"ldmatrix_x2_trans", check_ldmatrix<2, true>},
    {"ldmatrix_x4_trans", check_ldmatrix<4, true>},
    {"mma_bf16", check_mma<bf16>},
    {"mma_f16", check_mma<f16>},
    {"mma_tf32", check_mma<float>},
    {"shuffles", check_shuffles},
    {"votes", check_votes},
};

}  // namespace

std::span<const Case> lane_cases() { return kCases; }

}  // namespace theia::simt::selftest
