// The register kernel: up to kMr rows of A times a block of one panel of B. Included by the files per instruction set only.
#pragma once
#include "kernels/core/simd.h"
#include "kernels/gemm/plan.h"

namespace theia::THEIA_ISA {

// AVX-512: 8 x 32 takes 16 accumulators, 2 vectors of B and a broadcast of 32 registers. AVX2: 6 x 16 takes 12 + 2 + 1 of 16.
inline constexpr int kMr = kLanes == 16 ? 8 : 6;

struct Micro {
  int64_t k;
  const float* const* rows;  // A by rows: element (i, k) is rows[i][k]
  const float* a;            // A k-major: element (i, k) is a[k·kMr + i]
  const float* b;            // [k][32]
  float* out;
  int64_t ld;
  float alpha;
  bool add;               // out += alpha · sum, else out = alpha · sum
  const float* prefetch;  // k·4 floats from here on are asked for into L2
  // The epilogue that fits into registers: sums start at the bias; behind the last step come what earlier blocks summed, the residual
  // (before or behind the activation) and ReLU. Null or false where there is none.
  const float* bias;     // [32]
  const float* partial;  // [MR][32]
  const float* residual;
  int64_t residual_ld;
  bool residual_first, relu;
};

/// MR rows by NV · 16 columns.
template <int MR, int NV, bool kMajor>
static void micro(const Micro& s) {
  constexpr int V = kLanes == 16 ? NV : 2;
  constexpr int kParts = kLanes == 16 ? 1 : NV;
  for (int part = 0; part < kParts; ++part) {
    const float* b = s.b + part * 16;
    const float* a = s.a;
    const float* prefetch = s.prefetch;
    const float* r[MR];
    if constexpr (!kMajor) {
#pragma GCC unroll 8
      for (int i = 0; i < MR; ++i) r[i] = s.rows[i];
    }
    vf sum[MR][V];
    vf start[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) start[v] = s.bias ? load(s.bias + part * 16 + v * kLanes) : vf{};
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[i][v] = start[v];

    const auto step = [&](int64_t k) __attribute__((always_inline)) {
      vf bv[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) bv[v] = load(b + k * kPanel + v * kLanes);
#pragma GCC unroll 8
      for (int i = 0; i < MR; ++i) {
        const vf av = set1(kMajor ? a[k * kMr + i] : r[i][k]);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sum[i][v] = fma(av, bv[v], sum[i][v]);
      }
    };
      // The tile of C is asked for now, to be written, so that it is there when the sums are.
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) __builtin_prefetch(s.out + i * s.ld + v * 16, 1, 3);
    int64_t k = 0;
    for (; k + 4 <= s.k; k += 4) {
      _mm_prefetch(reinterpret_cast<const char*>(prefetch + k * 4), _MM_HINT_T1);
      step(k);
      step(k + 1);
      step(k + 2);
      step(k + 3);
    }
    for (; k < s.k; ++k) step(k);

    const auto each = [&](auto body) __attribute__((always_inline)) {
#pragma GCC unroll 8
      for (int i = 0; i < MR; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) body(i, v, part * 16 + v * kLanes);
    };
    if (s.partial) each([&](int i, int v, int64_t at) { sum[i][v] += load(s.partial + i * kPanel + at); });
    if (s.residual && s.residual_first) each([&](int i, int v, int64_t at) { sum[i][v] += load(s.residual + i * s.residual_ld + at); });
    if (s.relu) each([&](int i, int v, int64_t) { sum[i][v] = vmax(vf{}, sum[i][v]); });
    if (s.residual && !s.residual_first) each([&](int i, int v, int64_t at) { sum[i][v] += load(s.residual + i * s.residual_ld + at); });
    const vf alpha = set1(s.alpha);
    if (s.add)
      each([&](int i, int v, int64_t at) { store(s.out + i * s.ld + at, fma(alpha, sum[i][v], load(s.out + i * s.ld + at))); });
    else
      each([&](int i, int v, int64_t at) { store(s.out + i * s.ld + at, alpha * sum[i][v]); });
  }
}

using MicroKernel = void (*)(const Micro&);

/// By [k-major][1 or 2 sixteens of columns][rows - 1].
static constexpr MicroKernel kMicro[2][2][8] = {
    {{micro<1, 1, false>, micro<2, 1, false>, micro<3, 1, false>, micro<4, 1, false>, micro<5, 1, false>, micro<6, 1, false>,
      micro<(kMr > 6 ? 7 : 1), 1, false>, micro<(kMr > 6 ? 8 : 1), 1, false>},
     {micro<1, 2, false>, micro<2, 2, false>, micro<3, 2, false>, micro<4, 2, false>, micro<5, 2, false>, micro<6, 2, false>,
      micro<(kMr > 6 ? 7 : 1), 2, false>, micro<(kMr > 6 ? 8 : 1), 2, false>}},
    {{micro<1, 1, true>, micro<2, 1, true>, micro<3, 1, true>, micro<4, 1, true>, micro<5, 1, true>, micro<6, 1, true>,
      micro<(kMr > 6 ? 7 : 1), 1, true>, micro<(kMr > 6 ? 8 : 1), 1, true>},
     {micro<1, 2, true>, micro<2, 2, true>, micro<3, 2, true>, micro<4, 2, true>, micro<5, 2, true>, micro<6, 2, true>,
      micro<(kMr > 6 ? 7 : 1), 2, true>, micro<(kMr > 6 ? 8 : 1), 2, true>}}};

}  // namespace theia::THEIA_ISA
