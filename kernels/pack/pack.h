// Weights as panels, the form in which the matrix product reads them fastest. Packed weights are a cache, never state: whoever changes
// the weights packs again.
//
// Elements of `packed`, with up(x) = x rounded up to a multiple of 32:
//   w [N,K]        forward: up(N) · K              backward: up(K) · N
//   w [O,kh,kw,I]  forward: up(O) · kh · kw · I    backward: up(I) · kh · kw · O
// Layout: [panel of 32 columns][tap][channel][32], zeros beyond the last column. Forward's columns are N (O), its channels K (I); backward
// swaps the two. Taps keep their order, and a tap of a panel is one slab, so that a convolution can pick the taps it needs.
#pragma once
#include "kernels/core/context.h"
#include "kernels/core/field.h"

namespace theia {

enum class PackUse : int64_t { forward, backward };

struct PackArgs {
  Tensor w;       // [N,K] or [O,kh,kw,I], packed row-major
  Tensor packed;  // [elements as above]
  int64_t use;
};

inline constexpr Field kPackFields[] = {
    THEIA_TENSOR(PackArgs, w, in, kReal, 2, 4),
    THEIA_TENSOR(PackArgs, packed, out, kReal, 1, 1),
    THEIA_CHOICE(PackArgs, use, "forward|backward"),
};

/// Elements of the panels for weights [n, taps, c]: the formula above.
int64_t packed_elements(int64_t n, int64_t taps, int64_t c, PackUse use);

void check(const PackArgs& a);
int64_t workspace(const PackArgs& a, int threads);
double flops(const PackArgs& a);
double bytes(const PackArgs& a);

namespace cpu {
template <class T>
void pack(const PackArgs& a, const Context& context);
}  // namespace cpu
namespace avx2 {
void pack(const PackArgs& a, const Context& context);
}  // namespace avx2
namespace avx512 {
void pack(const PackArgs& a, const Context& context);
}  // namespace avx512

}  // namespace theia
