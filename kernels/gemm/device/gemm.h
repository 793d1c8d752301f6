// The one matrix product of the device backends, C[m,n] = epilogue(sum over k of A[m,k] · B[k,n]), and how its operands are described.
// Linear layers, patch embedding, convolutions, transposed convolutions and all their gradients are this product; what differs is where
// elements lie, and that is data. Nothing is ever copied into a buffer of patches.
//
// An operand is LINES of COLUMNS; the columns of a line lie next to each other in memory.
//   along_k       a line is one m (A) or one n (B) and its columns run over k. Linear forward: x [M,K] as A, w [N,K] as B.
//   not along_k   a line is one k, its columns run over m or n. dx = dy · w: w [N,K] as B. dw = dyᵀ · x: dy as A, x as B.
// Element (line i, column j) is, with i = position (image, y, x) of the grid lines.gh x lines.gw and j = (tap t, c), c < run,
//   data[image·lines.b + y·lines.y + x·lines.x + tap_offset[t] + c]
// and, where `bounded`, 0 unless map position (y·step_y + dy[t], x·step_x + dx[t]) lies inside height x width.
// How the uses are said (builders below):
//   matrix            one tap; a grid of 1 x 1, so that line i starts at i·b
//   patches           rows of A = output positions, k = (tap, channel): patches(map, ...) with along_k = true; tap_offset[t] =
//                     dy[t]·(stride of y) + dx[t]·(stride of x), lines.y = step_y·(stride of y)
//   patches for dw    k runs over positions, columns = (tap, channel): the same with along_k = false, as B (conv) or A (transposed conv)
//   some of the taps  of a convolution's weights w [O,taps,I], for one parity of a transposed convolution, as B:
//                     forward, k = (t,i):  along_k, line o at o·taps·I, tap_offset[t] = (where tap t lies in w)
//                     backward, k = (t,o): not along_k, one tap of I columns; lines are the grid (ty, tx, o): gh = taps across, gw = O,
//                     b = y-tap stride, y = x-tap stride, x = taps·I
//   parity            the positions of C that a product writes are every second row and column of a map: c.rows
// A or B that is 0 outside its map needs `bounded`; weights do not. Bytes (uint8) become table[(c % channels)·256 + byte].
#pragma once
#include "kernels/core/device.h"
#include "kernels/core/tensor.h"
#include "kernels/gemm/gemm.h"

namespace theia::THEIA_DEVICE {

struct DeviceOperand {
  const void* data;
  DType dtype;  // that of the arithmetic, or u8; or f32 under bf16 arithmetic (rounded while it is loaded)
  bool along_k;
  RowMap lines;
  int64_t taps, run;  // taps = 1 with run = 0: all columns are one run
  int64_t tap_offset[kMaxTaps];
  bool bounded;
  int64_t height, width, step_y, step_x;
  int16_t dy[kMaxTaps], dx[kMaxTaps];
  const float* table;  // u8 only: [channels·256] in device memory. A run starts at channel 0
  int64_t channels;
};

/// Element [m,n] of a tensor beside or behind the product: data[position of row m + n]. data null: absent.
struct DevicePlane {
  void* data;
  DType dtype;  // f32 or bf16
  RowMap rows;
};

struct DeviceGemm {
  int64_t m, n, k;    // each may be 0; k = 0 is the epilogue of zero
  bool tensor_cores;  // bf16 operands, float32 sums; else exact float32: fmaf in the order of k (within a split)
  DeviceOperand a, b;
  // Epilogue, in this order: + bias[n], activation, · multiplier, + residual, + what C held, rounded to C's type.
  DevicePlane c;
  const float* bias;  // or null
  Activation activation;
  DevicePlane slope;  // gelu: its derivative is stored here
  Multiply multiply;
  DevicePlane multiplier;
  DevicePlane residual;  // may be C itself
  bool residual_first;   // the residual is added before the activation
  bool accumulate;
};

/// Lines one behind the other, `stride` elements apart.
RowMap device_rows(int64_t stride);
/// data[line·stride + column].
DeviceOperand device_matrix(const void* data, DType dtype, int64_t stride, bool along_k);
/// A product with plain C, nothing in its epilogue, and no operands yet.
DeviceGemm make_device_gemm(int64_t m, int64_t n, int64_t k, bool tensor_cores, void* c, DType c_type, int64_t row_stride);

/// The plane's rows can be read and written four columns at a time, from columns that are multiples of four. True of an absent one.
bool takes_vectors(const DevicePlane& p);

/// Bytes of workspace `gemm` needs on this device (for partial sums; 0 where k is not split).
int64_t gemm_workspace(const DeviceGemm& g, const DeviceInfo& info);
/// Starts the product. Not offered, as nobody needs it: A not along k with B along k. Grids and maps have fewer than 2^31 positions.
/// `name` appears in errors. Where operands are not 16-byte aligned (pointer, strides, runs), narrower copies are taken.
void gemm(const char* name, const DeviceGemm& g, const DeviceContext& context);

}  // namespace theia::THEIA_DEVICE
