// Copies on a device. What only moves does so in the widest unit that fits, 16 bytes down to one, whatever the elements mean; what converts
// or adds goes four elements at a time, or one by one. A thread has four units under way.
#include "kernels/copy/copy.h"

#include "kernels/copy/plan.cuh"
#include "kernels/copy/transpose.cuh"
#include "kernels/ptx/convert.h"

namespace theia::THEIA_DEVICE {

namespace {

constexpr int kThreads = 256, kUnits = 4;

template <class U>
struct Move {
  const U* src;
  U* dst;
  uint32_t count;
  Walk walk;
};

template <class U>
__global__ void __launch_bounds__(kThreads) move_units(const __grid_constant__ Move<U> a) {
  const uint32_t first = blockIdx.x * (kThreads * kUnits) + threadIdx.x;
  U unit[kUnits];
  int64_t to[kUnits];
#pragma unroll
  for (int u = 0; u < kUnits; ++u)
    if (first + u * kThreads < a.count) {
      const Position p = position_of(a.walk, first + u * kThreads);
      unit[u] = a.src[p.src];
      to[u] = p.dst;
    }
#pragma unroll
  for (int u = 0; u < kUnits; ++u)
    if (first + u * kThreads < a.count) a.dst[to[u]] = unit[u];
}

template <class U>
void move(const Loops& l, const std::byte* src, std::byte* dst, const DeviceContext& context) {
  const int64_t count = l.total();
  launch("copy", move_units<U>, dim3(static_cast<unsigned>(ceil_div(count, kThreads * kUnits))), dim3(kThreads), 0, context,
         Move<U>{reinterpret_cast<const U*>(src), reinterpret_cast<U*>(dst), static_cast<uint32_t>(count), walk_of(l, l.count)});
}

struct Convert {
  const std::byte* src;
  std::byte* dst;
  DType from, to;
  bool add;  // dst float32
  uint32_t count;
  Walk walk;
};

/// f16 from float32, NaN as the CPU has it: the sign and the upper bits of the payload stay. bf16 alike.
__device__ __forceinline__ uint32_t half_of(float x, DType to) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), sign = bits >> 16 & 0x8000u;
  if (to == DType::bf16) return x != x ? bits >> 16 | 0x40u : ptx::pack_bf16(x, 0) & 0xffffu;
  return x != x ? sign | 0x7e00u | (bits >> 13 & 0x3ffu) : ptx::pack_f16(x, 0) & 0xffffu;
}
__device__ __forceinline__ float of_half(uint32_t bits, DType from) {
  return from == DType::bf16 ? ptx::low_bf16(bits) : ptx::unpack_f16(bits & 0xffffu);
}

/// Elements as they lie in memory: kWide of them, which is 1 or 4, packed.
template <int kWide>
__device__ __forceinline__ uint4 load_raw(const std::byte* p, DType type) {
  uint4 r = make_uint4(0, 0, 0, 0);
  if (type == DType::f32) {
    if constexpr (kWide == 4)
      r = *reinterpret_cast<const uint4*>(p);
    else
      r.x = *reinterpret_cast<const uint32_t*>(p);
  } else if (type == DType::u8) {
    if constexpr (kWide == 4)
      r.x = *reinterpret_cast<const uint32_t*>(p);
    else
      r.x = *reinterpret_cast<const uint8_t*>(p);
  } else {
    if constexpr (kWide == 4) {
      const uint2 v = *reinterpret_cast<const uint2*>(p);
      r.x = v.x;
      r.y = v.y;
    } else {
      r.x = *reinterpret_cast<const uint16_t*>(p);
    }
  }
  return r;
}

template <int kWide>
__device__ __forceinline__ void value_of(const uint4& r, DType type, float (&v)[kWide]) {
  const uint32_t word[4] = {r.x, r.y, r.z, r.w};
#pragma unroll
  for (int k = 0; k < kWide; ++k)
    v[k] = type == DType::f32  ? std::bit_cast<float>(word[k])
           : type == DType::u8 ? static_cast<float>(r.x >> 8 * k & 255u)
                               : of_half(word[k / 2] >> 16 * (k % 2), type);
}

template <int kWide>
__device__ __forceinline__ void store(std::byte* p, DType type, const float (&v)[kWide]) {
  if (type == DType::f32) {
    if constexpr (kWide == 4)
      *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
    else
      *reinterpret_cast<float*>(p) = v[0];
  } else {
    if constexpr (kWide == 4)
      *reinterpret_cast<uint2*>(p) =
          make_uint2(half_of(v[0], type) | half_of(v[1], type) << 16, half_of(v[2], type) | half_of(v[3], type) << 16);
    else
      *reinterpret_cast<uint16_t*>(p) = static_cast<uint16_t>(half_of(v[0], type));
  }
}

template <int kWide>
__global__ void __launch_bounds__(kThreads) convert_units(const __grid_constant__ Convert a) {
  const uint32_t first = blockIdx.x * (kThreads * kUnits) + threadIdx.x;
  const int from_bytes = a.from == DType::f32 ? 4 : a.from == DType::u8 ? 1 : 2, to_bytes = a.to == DType::f32 ? 4 : 2;
  uint4 raw[kUnits], before[kUnits];
  std::byte* to[kUnits];
#pragma unroll
  for (int u = 0; u < kUnits; ++u)
    if (first + u * kThreads < a.count) {
      const Position p = position_of(a.walk, first + u * kThreads);
      raw[u] = load_raw<kWide>(a.src + p.src * (kWide * from_bytes), a.from);
      to[u] = a.dst + p.dst * (kWide * to_bytes);
      if (a.add) before[u] = load_raw<kWide>(to[u], DType::f32);
    }
#pragma unroll
  for (int u = 0; u < kUnits; ++u)
    if (first + u * kThreads < a.count) {
      float v[kWide];
      value_of<kWide>(raw[u], a.from, v);
      if (a.add) {
        float there[kWide];
        value_of<kWide>(before[u], DType::f32, there);
#pragma unroll
        for (int k = 0; k < kWide; ++k) v[k] += there[k];
      }
      store<kWide>(to[u], a.to, v);
    }
}

/// A part of fewer than 2^31 elements that only moves.
void move_part(Loops l, const std::byte* src, std::byte* dst, int bytes, const DeviceContext& context) {
  if (transpose(l, src, dst, bytes, context)) return;
  // What is packed on both sides goes in larger units.
  int unit = bytes;
  for (int by = 16 / bytes; by > 1; by /= 2)
    if (widen(l, by, src, dst, bytes, bytes)) {
      unit = bytes * by;
      break;
    }
  switch (unit) {
    case 1:
      return move<uint8_t>(l, src, dst, context);
    case 2:
      return move<uint16_t>(l, src, dst, context);
    case 4:
      return move<uint32_t>(l, src, dst, context);
    case 8:
      return move<uint2>(l, src, dst, context);
    default:
      return move<uint4>(l, src, dst, context);
  }
}

void convert_part(Loops l, const std::byte* src, std::byte* dst, const CopyArgs& a, const DeviceContext& context) {
  const bool four = widen(l, 4, src, dst, bytes_of(a.src.dtype), bytes_of(a.dst.dtype));
  const int64_t count = l.total();
  launch("copy", four ? convert_units<4> : convert_units<1>, dim3(static_cast<unsigned>(ceil_div(count, kThreads * kUnits))),
         dim3(kThreads), 0, context,
         Convert{src, dst, a.src.dtype, a.dst.dtype, a.accumulate != 0, static_cast<uint32_t>(count), walk_of(l, l.count)});
}

}  // namespace

void copy(const CopyArgs& a, const DeviceContext& context) {
  const bool moves = a.src.dtype == a.dst.dtype && !a.accumulate;
  if (!moves && (a.src.dtype == DType::f64 || a.dst.dtype == DType::f64))
    fail("ERR_UNSUPPORTED", "copy: float64 is not converted on this device, got %s to %s", name(a.src.dtype), name(a.dst.dtype));
  if (a.dst.numel() == 0) return;
  const int64_t src_bytes = bytes_of(a.src.dtype), dst_bytes = bytes_of(a.dst.dtype);
  const auto part = [&](const Loops& l, int64_t src_at, int64_t dst_at) {
    const std::byte* src = a.src.base + (a.src.offset + src_at) * src_bytes;
    std::byte* dst = a.dst.base + (a.dst.offset + dst_at) * dst_bytes;
    if (moves)
      move_part(l, src, dst, static_cast<int>(dst_bytes), context);
    else
      convert_part(l, src, dst, a, context);
  };
  in_parts(loops_of(a), 0, 0, part);
}

}  // namespace theia::THEIA_DEVICE
