// What comes before the products of a backward pass: the gradient before the activation, in the products' type, and its column sums (the
// bias's gradient), in one pass over dy.
#pragma once
#include "kernels/gemm/device/gemm.h"

namespace theia::THEIA_DEVICE {

struct DevicePregrad {
  int64_t rows, columns;
  DevicePlane dy;
  Multiply multiply;  // by factor: the derivative that forward saved, or the output of a ReLU as a mask
  DevicePlane factor;
  DevicePlane dpre;  // dy · factor, rounded to its type; data null: not stored
  float* dbias;      // [columns] or null: sums of the unrounded dy · factor, rows in a fixed order
  bool accumulate;   // adds to dbias
};

/// Nothing to store and nothing to sum: pregrad() starts no kernel.
bool pregrad_needed(const DevicePregrad& p);
int64_t pregrad_workspace(const DevicePregrad& p, const DeviceInfo& info);
void pregrad(const char* name, const DevicePregrad& p, const DeviceContext& context);

/// out[j] = (out[j] +) sum over rows of data[i·stride + j], float32, rows in a fixed order. For few rows: each block sums all of them.
void add_up_rows(const char* name, const float* data, int64_t rows, int64_t columns, int64_t stride, float* out, bool accumulate,
                 const DeviceContext& context);

}  // namespace theia::THEIA_DEVICE
