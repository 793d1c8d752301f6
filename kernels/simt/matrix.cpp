// ldmatrix and mma of one warp. The lane maps are those of the PTX ISA, as kernels/ptx/ldmatrix.h and mma.h write them down.
#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/core/dtype.h"
#include "kernels/simt/engine.h"

namespace theia::simt {
namespace {

struct LdmatrixOperand {
  uint32_t* r;
  const std::byte* row;
  Site site;
};

/// Wavefronts beyond the one that eight rows of 16 bytes need: rows in the same four banks come one after the other.
int conflicts(void* const* operands, int tile) {
  uintptr_t seen[8][8];
  int count[8] = {}, most = 1;
  for (int i = 0; i < 8; ++i) {
    const uintptr_t row = reinterpret_cast<uintptr_t>(static_cast<LdmatrixOperand*>(operands[8 * tile + i])->row) / 16;
    const int bank = static_cast<int>(row % 8);
    const uintptr_t* const end = seen[bank] + count[bank];
    if (std::find(static_cast<const uintptr_t*>(seen[bank]), end, row) != end) continue;
    seen[bank][count[bank]++] = row;
    most = std::max(most, count[bank]);
  }
  return most - 1;
}

template <int tiles, bool trans>
void run_ldmatrix(void* const* operands, unsigned) {
  Engine& e = *engine;
  for (int i = 0; i < kLanes; ++i) {
    const LdmatrixOperand& o = *static_cast<LdmatrixOperand*>(operands[i]);
    if (reinterpret_cast<uintptr_t>(o.row) % 16)
      e.stop(e.current->warp->threads[i], o.site, "the address of ldmatrix must be a multiple of 16 bytes; it is %d past one",
             static_cast<int>(reinterpret_cast<uintptr_t>(o.row) % 16));
    if (!e.shared.holds(o.row, 16))
      e.stop(e.current->warp->threads[i], o.site, "ldmatrix reads outside of shared memory: %td bytes from the start of its dynamic part",
             o.row - e.shared.dynamic());
  }
  for (int tile = 0; tile < tiles; ++tile) {
    uint16_t m[8][8];
    for (int i = 0; i < 8; ++i) std::memcpy(m[i], static_cast<LdmatrixOperand*>(operands[8 * tile + i])->row, 16);
    e.statistics.bank_conflicts += conflicts(operands, tile);
    for (int l = 0; l < kLanes; ++l) {
      const int g = l / 4, t = l % 4;
      const uint32_t low = trans ? m[2 * t][g] : m[g][2 * t], high = trans ? m[2 * t + 1][g] : m[g][2 * t + 1];
      static_cast<LdmatrixOperand*>(operands[l])->r[tile] = low | high << 16;
    }
  }
  e.statistics.ldmatrix += 1;
}

constexpr WarpOp kLdmatrix[3][2] = {{{"ldmatrix.x1", run_ldmatrix<1, false>, false}, {"ldmatrix.x1.trans", run_ldmatrix<1, true>, false}},
                                    {{"ldmatrix.x2", run_ldmatrix<2, false>, false}, {"ldmatrix.x2.trans", run_ldmatrix<2, true>, false}},
                                    {{"ldmatrix.x4", run_ldmatrix<4, false>, false}, {"ldmatrix.x4.trans", run_ldmatrix<4, true>, false}}};

struct MmaOperand {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};

typedef float Row __attribute__((vector_size(32)));  // 8 columns

/// D += A·B, term after term. Products of these types are exact in float32, so it does not matter whether the compiler fuses them.
template <int depth>
void product(float (&d)[16][8], const float (&a)[16][depth], const float (&b)[depth][8]) {
  for (int i = 0; i < 16; ++i) {
    Row sum, row;
    std::memcpy(&sum, d[i], sizeof sum);
    for (int k = 0; k < depth; ++k) {
      std::memcpy(&row, b[k], sizeof row);
      sum += a[i][k] * row;
    }
    std::memcpy(d[i], &sum, sizeof sum);
  }
}

float low(MatrixType type, uint32_t packed) {
  const uint16_t bits = static_cast<uint16_t>(packed);
  return type == MatrixType::bf16 ? to_float(bf16{bits}) : to_float(f16{bits});
}

const MmaOperand& operand(void* const* operands, int l) { return *static_cast<const MmaOperand*>(operands[l]); }

template <class F>
void accumulators(void* const* operands, F move) {
  for (int l = 0; l < kLanes; ++l) {
    const int g = l / 4, t = l % 4;
    for (int i = 0; i < 4; ++i) move(operand(operands, l).d[i], g + (i / 2) * 8, 2 * t + i % 2);
  }
}

template <MatrixType type>
void run_mma16(void* const* operands, unsigned) {
  float a[16][16], b[16][8], d[16][8];
  for (int l = 0; l < kLanes; ++l) {
    const int g = l / 4, t = l % 4;
    const MmaOperand& o = operand(operands, l);
    for (int i = 0; i < 4; ++i)
      for (int h = 0; h < 2; ++h) a[g + i % 2 * 8][2 * t + i / 2 * 8 + h] = low(type, o.a[i] >> 16 * h);
    for (int i = 0; i < 2; ++i)
      for (int h = 0; h < 2; ++h) b[2 * t + i * 8 + h][g] = low(type, o.b[i] >> 16 * h);
  }
  accumulators(operands, [&](float x, int i, int j) { d[i][j] = x; });
  product(d, a, b);
  accumulators(operands, [&](float& x, int i, int j) { x = d[i][j]; });
  engine->statistics.mma += 1;
}

/// The tensor core reads the upper 19 bits.
float tf32(uint32_t bits) { return std::bit_cast<float>(bits & 0xffffe000u); }

void run_mma8(void* const* operands, unsigned) {
  float a[16][8], b[8][8], d[16][8];
  for (int l = 0; l < kLanes; ++l) {
    const int g = l / 4, t = l % 4;
    const MmaOperand& o = operand(operands, l);
    for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][t + i / 2 * 4] = tf32(o.a[i]);
    for (int i = 0; i < 2; ++i) b[t + i * 4][g] = tf32(o.b[i]);
  }
  accumulators(operands, [&](float x, int i, int j) { d[i][j] = x; });
  product(d, a, b);
  accumulators(operands, [&](float& x, int i, int j) { x = d[i][j]; });
  engine->statistics.mma += 1;
}

constexpr WarpOp kMma[] = {{"mma.m16n8k16.bf16", run_mma16<MatrixType::bf16>, false},
                           {"mma.m16n8k16.f16", run_mma16<MatrixType::f16>, false}};
constexpr WarpOp kMmaTf32{"mma.m16n8k8.tf32", run_mma8, false};

}  // namespace

void ldmatrix(uint32_t* r, const void* row, int tiles, bool trans, Site site) {
  // Without .sync ordering of memory: what other lanes wrote needs a __syncwarp or a barrier in between.
  if (std::countr_zero(engine->current->bit) < 8 * tiles) reads(row, 16, __builtin_return_address(0));
  LdmatrixOperand o{r, static_cast<const std::byte*>(row), site};
  collective(kLdmatrix[tiles / 2][trans], 0xffffffffu, &o, site);
}

void mma_m16n8k16(MatrixType type, float* d, const uint32_t* a, const uint32_t* b, Site site) {
  MmaOperand o{d, a, b};
  collective(kMma[static_cast<int>(type)], 0xffffffffu, &o, site);
}

void mma_m16n8k8_tf32(float* d, const uint32_t* a, const uint32_t* b, Site site) {
  MmaOperand o{d, a, b};
  collective(kMmaTf32, 0xffffffffu, &o, site);
}

}  // namespace theia::simt
