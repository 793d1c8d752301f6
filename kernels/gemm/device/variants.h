// The kernels of the product: one function a family and order of operands, which starts the one with the tile asked for. Several to
// a file, mma_<family>.cu: half of a small file's compile time is reading headers, the rest the epilogue.
#pragma once
#include "kernels/gemm/device/epilogue.cuh"
#include "kernels/gemm/device/gemm.h"

namespace theia::THEIA_DEVICE {

struct Start {
  const char* name;
  DeviceOperand a, b;    // taps and runs filled in
  int a_width, b_width;  // what load_any.cuh and load_bytes.cuh take beside the operand
  Epilogue epilogue;
  TileGrid grid;
  int splits;
  const DeviceContext* context;
};

void start_plain_nt(int tile, const Start& s);
void start_plain_nn(int tile, const Start& s);
void start_plain_tn(int tile, const Start& s);
void start_wgmma(int tile, const Start& s);
void start_mapped_nt(int tile, const Start& s);
void start_mapped_nn(int tile, const Start& s);
void start_mapped_tn(int tile, const Start& s);
void start_bytes_nt(int tile, const Start& s);
void start_bytes_tn(int tile, const Start& s);
void start_any_nt(int tile, const Start& s);
void start_any_nn(int tile, const Start& s);
void start_any_tn(int tile, const Start& s);
void start_exact_nt(int tile, const Start& s);
void start_exact_nn(int tile, const Start& s);
void start_exact_tn(int tile, const Start& s);

}  // namespace theia::THEIA_DEVICE
