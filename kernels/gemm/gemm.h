// The one matrix product under linear layers, patch embedding, convolutions, transposed convolutions and all their gradients:
//   C[m,n] = epilogue( sum over k of A[m,k] · B[k,n] )
// What differs between those uses is only where elements lie, and that is data: an operand is a matrix, or patches of a channel-last map
// that are read where they are (implicit im2col, no buffer of patches), or weights packed into panels. A Gemm is plain data without an
// instruction set; all pointers are to float (or T in cpu::gemm<T>) except for uint8 patches.
#pragma once
#include "kernels/core/context.h"

namespace theia {

enum class Activation : int64_t { none, relu, gelu };  // gelu is the exact erf form

inline constexpr int kMaxTaps = 49;  // 7x7
inline constexpr int kPanel = 32;    // columns of a panel of packed weights

/// Where rows lie: row i is position (image, y, x) of a grid gh x gw and starts image·b + y·y_stride + x·x_stride elements into the
/// data. A plain matrix is a grid of one: row i starts at i·b.
struct RowMap {
  int64_t gh, gw;
  int64_t b, y, x;
};
constexpr RowMap plain_rows(int64_t row_stride) { return {1, 1, row_stride, 0, 0}; }
constexpr int64_t row_offset(const RowMap& r, int64_t i) { return i / (r.gh * r.gw) * r.b + i / r.gw % r.gh * r.y + i % r.gw * r.x; }

enum class Source : int64_t {
  matrix,   // row i, column j: data[rows(i) + j]
  patches,  // row i = output position (image, y, x) of the grid in `rows`, column j = (tap t, c), c < run:
            // data[image·rows.b + (y·step_y + dy[t])·rows.y + (x·step_x + dx[t])·rows.x + c], or 0 outside height x width
  packed,   // B only: panels as pack() lays them out
};

struct Operand {
  Source source;
  bool transposed;  // the operand is the transpose of what `source` describes: A's rows run over k, B's rows over n
  const void* data;
  RowMap rows;
  const void* mask;  // A only, laid out like `data`: elements count only where it is positive (the gradient behind a ReLU). Or null
  // patches
  int64_t height, width;   // of the map
  int64_t step_y, step_x;  // map positions between neighbours of the grid
  int64_t taps;            // also packed with selected taps
  int64_t run;             // contiguous elements a tap reads
  int16_t dy[kMaxTaps], dx[kMaxTaps];
  bool stretch;  // floats: a run covers several positions, which lie packed in a row of the map; those outside are 0
  // patches of bytes: element = table[channel · 256 + byte], channel = c % channels. Null: the data are floats. A run of more than one
  // position is a horizontal stretch of the map that must lie inside it.
  const void* table;
  int64_t channels;
  // packed: row k = (t, c) of panel p is at data + (p·panel_rows + tap_row[t] + c)·32. taps = 0: row k is simply row k
  int64_t panel_rows;
  int64_t tap_row[kMaxTaps];
};

enum class Multiply : int64_t {
  none,
  value,      // by multiplier[m,n]: the derivative a producer saved
  relu_mask,  // by 1 where multiplier[m,n] > 0, else 0: the output of a ReLU
};

struct Gemm {
  int64_t m, n, k;
  Operand a, b;
  void* c;
  RowMap c_rows;
  // Columns come in `groups` of n / groups: column (t, j) is element group_offset[t] + j of its row of C. One group at offset 0 is a
  // plain matrix. B as patches needs a group per tap.
  int64_t groups;
  int64_t group_offset[kMaxTaps];
  // Epilogue, in this order: + bias[n], activation, · multiplier, + residual, + what C held. Row maps address [m,n] tensors by column n.
  // residual_first moves the residual before the activation.
  const void* bias;
  Activation activation;
  void* slope;  // GELU: its derivative is stored here
  RowMap slope_rows;
  Multiply multiply;
  const void* multiplier;
  RowMap multiplier_rows;
  const void* residual;  // may be C itself
  RowMap residual_rows;
  bool residual_first;
  bool accumulate;
};

/// A Gemm with every member zero, sizes and plain C set; fill in the operands.
Gemm make_gemm(int64_t m, int64_t n, int64_t k, void* c, int64_t row_stride);
/// data[i·row_stride + j]
Operand matrix(const void* data, int64_t row_stride, bool transposed = false);
/// Panels made by pack() with all their taps in order.
Operand packed(const void* data, int64_t panel_rows);

/// Weights as B[k = (t, c)][n] = data[n·n_stride + tap_offset[t] + c·c_stride], c < run.
struct WeightView {
  const void* data;
  int64_t n, taps, run;
  int64_t n_stride, c_stride;
  int64_t tap_offset[kMaxTaps];
};
/// B[k][n] = w[n][k] of w [N,K]: forward of a linear layer, and of a convolution with w [O, taps·I].
WeightView forward_view(const void* w, int64_t n, int64_t k);
/// B[(t,o)][i] = w[o][t][i] of w [O,taps,I]: the input gradient (taps = 1: of a linear layer).
WeightView backward_view(const void* w, int64_t o, int64_t taps, int64_t i);
/// Panels of 32 columns, [panel][t][c][32], zero beyond n: each tap of a panel is one slab of run·32 elements.
int64_t packed_elements(const WeightView& w);

/// Bytes of workspace that gemm needs, whatever the instruction set: at most 256 KB a thread.
int64_t gemm_workspace(const Gemm& g, int threads);

/// A product that one thread computes in its own cache: C[m,n] = alpha · sum A[m,k]·B[k,n] (+ C), all of it float32 and row-strided.
/// B is packed first (once for many calls): b_transposed means stored [n][k]. Written for m, n, k up to about 272.
struct SmallGemm {
  int64_t m, n, k;
  const float* a;
  int64_t lda;
  bool a_transposed;  // stored [k][m]
  const float* packed_b;
  float* c;
  int64_t ldc;
  float alpha;
  bool accumulate;
  float* scratch;  // small_scratch() floats; used only if a_transposed
};
constexpr int64_t small_packed(int64_t n, int64_t k) { return (n + kPanel - 1) / kPanel * kPanel * k; }
constexpr int64_t small_scratch(int64_t k) { return 8 * k; }

namespace cpu {
template <class T>
void gemm(const Gemm& g, const Context& context);
template <class T>
void pack(const WeightView& w, T* out, const Context& context);
}  // namespace cpu
namespace avx2 {
void gemm(const Gemm& g, const Context& context);
void pack(const WeightView& w, float* out, const Context& context);
void small_pack(const float* b, int64_t ldb, bool b_transposed, int64_t n, int64_t k, float* packed);
void small_gemm(const SmallGemm& g);
}  // namespace avx2
namespace avx512 {
void gemm(const Gemm& g, const Context& context);
void pack(const WeightView& w, float* out, const Context& context);
void small_pack(const float* b, int64_t ldb, bool b_transposed, int64_t n, int64_t k, float* packed);
void small_gemm(const SmallGemm& g);
}  // namespace avx512

}  // namespace theia
