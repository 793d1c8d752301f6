// From sums to C: four neighbouring columns of a row at a time, read and written as one vector where addresses allow.
#pragma once
#include "kernels/gemm/device/lines.cuh"
#include "kernels/ptx/convert.h"

namespace theia::THEIA_DEVICE {

/// Tiles of C in the order in which blocks take them: kBand tiles down, then one to the right, so that blocks that run together share both
/// operands in L2. Each split of k takes k_part.
struct TileGrid {
  int64_t k, k_part;
  int tiles_m, tiles_n;
};

struct Epilogue {
  int64_t m, n;
  DevicePlane c, slope, multiplier, residual;
  const float* bias;
  float* partial;  // [splits,m,n]: bare sums go there and nothing else happens; or null
  Activation activation;
  Multiply multiply;
  bool residual_first, accumulate;
  bool vector;  // every plane, bias and partial takes vectors of four at columns that are multiples of four
};

__device__ __forceinline__ void load4(const DevicePlane& p, int64_t at, int count, bool vector, float (&v)[4]) {
  if (p.dtype == DType::f32) {
    const float* from = static_cast<const float*>(p.data) + at;
    if (vector) {
      const float4 f = *reinterpret_cast<const float4*>(from);
      v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) v[i] = i < count ? from[i] : 0.0f;
    }
  } else {
    const uint16_t* from = static_cast<const uint16_t*>(p.data) + at;
    if (vector) {
      const uint2 f = *reinterpret_cast<const uint2*>(from);
      v[0] = ptx::low_bf16(f.x), v[1] = ptx::high_bf16(f.x), v[2] = ptx::low_bf16(f.y), v[3] = ptx::high_bf16(f.y);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) v[i] = i < count ? ptx::low_bf16(from[i]) : 0.0f;
    }
  }
}

__device__ __forceinline__ void save4(const DevicePlane& p, int64_t at, int count, bool vector, const float (&v)[4]) {
  if (p.dtype == DType::f32) {
    float* to = static_cast<float*>(p.data) + at;
    if (vector) {
      *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (i < count) to[i] = v[i];
    }
  } else {
    const uint32_t low = ptx::pack_bf16(v[0], v[1]), high = ptx::pack_bf16(v[2], v[3]);
    uint16_t* to = static_cast<uint16_t*>(p.data) + at;
    if (vector) {
      *reinterpret_cast<uint2*>(to) = make_uint2(low, high);
    } else {
      const uint16_t half[4] = {static_cast<uint16_t>(low), static_cast<uint16_t>(low >> 16), static_cast<uint16_t>(high),
                                static_cast<uint16_t>(high >> 16)};
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (i < count) to[i] = half[i];
    }
  }
}

/// Exact GELU x·Φ(x) and its derivative Φ(x) + x·φ(x).
__device__ __forceinline__ float gelu(float x, float& slope) {
  const float phi = 0.5f * erff(x * 0.70710678118654752f) + 0.5f;
  slope = fmaf(x * 0.39894228040143268f, expf(-0.5f * x * x), phi);
  return x * phi;
}

/// C[row, column..column+3] from the sums v. column is a multiple of 4; the row exists, columns from n on do not. `ahead`: where the four
/// of the residual exist, they were brought to `kept`.
__device__ __forceinline__ void finish4(const Epilogue& e, int64_t row, int64_t column, int split, float (&v)[4], bool ahead = false,
                                        const std::byte* kept = nullptr) {
  if (column >= e.n) return;
  const int count = e.n - column < 4 ? static_cast<int>(e.n - column) : 4;
  const bool vector = e.vector && count == 4;
  if (e.partial) {
    save4({e.partial, DType::f32, {}}, (split * e.m + row) * e.n + column, count, vector, v);
    return;
  }
  float other[4];
  if (e.bias) {
    load4({const_cast<float*>(e.bias), DType::f32, {}}, column, count, vector, other);
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] += other[i];
  }
  if (e.residual.data) {
    if (ahead && vector)
      load4({const_cast<std::byte*>(kept), e.residual.dtype, {}}, 0, count, true, other);
    else
      load4(e.residual, line_offset(e.residual.rows, row) + column, count, vector, other);
  }
  if (e.residual.data && e.residual_first) {
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] += other[i];
  }
  if (e.activation == Activation::relu) {
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = v[i] < 0.0f ? 0.0f : v[i];  // NaN stays
  } else if (e.activation == Activation::gelu) {
    float slope[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = gelu(v[i], slope[i]);
    if (e.slope.data) save4(e.slope, line_offset(e.slope.rows, row) + column, count, vector, slope);
  }
  if (e.multiply != Multiply::none) {
    float factor[4];
    load4(e.multiplier, line_offset(e.multiplier.rows, row) + column, count, vector, factor);
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = e.multiply == Multiply::value ? v[i] * factor[i] : factor[i] > 0.0f ? v[i] : 0.0f;
  }
  if (e.residual.data && !e.residual_first) {
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] += other[i];
  }
  const int64_t at = line_offset(e.c.rows, row) + column;
  if (e.accumulate) {
    load4(e.c, at, count, vector, other);
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] += other[i];
  }
  save4(e.c, at, count, vector, v);
}

}  // namespace theia::THEIA_DEVICE
