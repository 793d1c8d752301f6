// Conversions and the other functions that need no lanes.
#include <cmath>
#include <limits>

#include "kernels/core/dtype.h"
#include "kernels/ptx/convert.h"
#include "kernels/simt/selftest/selftest.h"

namespace theia::simt::selftest {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// Every half goes to float32 and back; halfway between two of them the even one wins, beside it the nearer.
void check_f16() {
  for (uint32_t h = 0; h < 0x7c00; ++h) {
    const float x = ptx::unpack_f16(h);
    const double exact = h < 1024 ? h * 0x1p-24 : std::ldexp(1.0 + (h & 1023) / 1024.0, static_cast<int>(h >> 10) - 15);
    expect_near("unpacked", h, x, exact, 0);
    expect_equal("packed", h, ptx::pack_f16(x, -x), h | (h | 0x8000) << 16);
    const double next = h == 0x7bff ? 65536.0 : static_cast<double>(ptx::unpack_f16(h + 1));
    const float middle = static_cast<float>((exact + next) / 2);  // exact: one bit more
    expect_equal("tie", h, ptx::pack_f16(middle, 0), h + (h & 1));
    expect_equal("below a tie", h, ptx::pack_f16(std::nextafter(middle, 0.f), 0), h);
    expect_equal("above a tie", h, ptx::pack_f16(std::nextafter(middle, kInfinity), 0), h + 1);
  }
  expect_equal("infinity", 0, ptx::pack_f16(kInfinity, -kInfinity), 0xfc007c00);
  expect_equal("too large", 0, ptx::pack_f16(65520.f, 65519.f), 0x7bff7c00);
  expect_equal("NaN", 0, ptx::pack_f16(kNaN, 0x1p-26f), 0x7fff);
}

void check_bf16() {
  for (uint32_t h = 1; h < 0x7f80; ++h) {
    const float x = ptx::low_bf16(h);
    expect_equal("packed", h, ptx::pack_bf16(x, -x), h | (h | 0x8000) << 16);
    expect_equal("tie", h, ptx::pack_bf16(__uint_as_float(h << 16 | 0x8000), 0), h + (h & 1));
    expect_equal("above a tie", h, ptx::pack_bf16(__uint_as_float(h << 16 | 0x8001), 0), h + 1);
  }
  expect_equal("high", 0, __float_as_uint(ptx::high_bf16(0x3f801234)), 0x3f800000);
  expect_equal("NaN", 0, ptx::pack_bf16(kNaN, kInfinity), 0x7f807fff);
}

void check_tf32() {
  expect_equal("tie goes away from zero", 0, ptx::to_tf32(__uint_as_float(0x3f801000)), 0x3f802000);
  expect_equal("tie goes away from zero", 1, ptx::to_tf32(__uint_as_float(0xbf801000)), 0xbf802000);
  expect_equal("below a tie", 0, ptx::to_tf32(__uint_as_float(0x3f800fff)), 0x3f800000);
  expect_equal("infinity", 0, ptx::to_tf32(kInfinity), 0x7f800000);
  expect_equal("NaN", 0, ptx::to_tf32(kNaN), 0x7fffffff);
}

void check_exp2() {
  for (int i = -1400; i <= 1400; ++i) {
    const float x = static_cast<float>(i) / 10.f;
    const double exact = std::exp2(static_cast<double>(x));
    const float y = ptx::exp2_approx(x);
    if (x < -126.f)
      expect_near("subnormal", i, y, 0, 0);
    else if (x >= 128.f)
      expect_equal("large", i, std::isinf(y), 1);
    else
      expect_near("exp2", i, y / exact, 1, 0x1p-22);
  }
}

void check_functions() {
  expect_equal("byte_perm", 0, __byte_perm(0x33221100, 0x77665544, 0x7520), 0x77552200);
  expect_equal("clz, ffs, popc", 0, __clz(1) * 10000 + __ffs(8) * 100 + __popc(0xf0f0), 310408);
  expect_equal("brev", 0, __brev(0x80000001), 0x80000001);
  expect_near("max of NaN", 0, max(kNaN, 2.f) + max(3.f, kNaN) + min(kNaN, 4.f) + min(5.f, kNaN), 14, 0);
  expect_equal("min of mixed types", 0, min(3, static_cast<int64_t>(1) << 40), 3);
  expect_equal("float2int", 0,
               __float2int_rn(2.5f) * 1000 + __float2int_rd(-0.5f) * 100 + __float2int_ru(0.5f) * 10 + __float2int_rz(-1.9f), 1909);
  expect_equal("float2int of NaN", 0, __float2int_rn(kNaN), 0);
  expect_near("rsqrt", 0, rsqrtf(4.f) + __frcp_rn(4.f) + __fdividef(1.f, 4.f), 1, 0);
  expect_near("saturate", 0, __saturatef(kNaN) + __saturatef(-1.f) + __saturatef(7.f), 1, 0);
  unsigned u = 5;
  float f = 1.5f;
  long long l = -1;
  expect_equal("atomicAdd", 0, atomicAdd(&u, 3u), 5);
  expect_equal("atomicMax", 0, atomicMax(&u, 20u), 8);
  expect_equal("atomicCAS", 0, atomicCAS(&u, 20u, 1u), 20);
  expect_equal("atomicCAS elsewhere", 0, atomicCAS(&u, 20u, 7u), 1);
  expect_equal("atomicInc", 0, atomicInc(&u, 1u), 1);
  expect_equal("atomicInc wraps", 0, u, 0);
  expect_equal("atomicMin", 0, atomicMin(&l, -5LL), -1);
  expect_equal("after atomicMin", 0, l, -5);
  expect_near("atomicAdd of a float", 0, atomicAdd(&f, 2.f), 1.5, 0);
  expect_near("after atomicAdd", 0, f, 3.5, 0);
}

constexpr Case kCases[] = {
    {"f16", check_f16}, {"bf16", check_bf16}, {"tf32", check_tf32}, {"exp2", check_exp2}, {"functions", check_functions},
};

}  // namespace

std::span<const Case> number_cases() { return kCases; }

}  // namespace theia::simt::selftest
