// Linear layers on a device: one product with everything in its epilogue. Weights are read as they are; `packed` is the CPU's.
#include "kernels/linear/linear.h"

#include "kernels/gemm/device/gemm.h"

namespace theia::THEIA_DEVICE {

namespace {

void* at(const Tensor& t) { return t.present() ? t.base + t.offset * bytes_of(t.dtype) : nullptr; }
DevicePlane plane(const Tensor& t) { return {at(t), t.dtype, device_rows(t.stride[0])}; }

DeviceGemm product(const LinearArgs& a) {
  const int64_t m = a.x.size[0], k = a.x.size[1], n = a.w.size[0];
  DeviceGemm g = make_device_gemm(m, n, k, a.x.dtype == DType::bf16, at(a.y), a.y.dtype, a.y.stride[0]);
  g.a = device_matrix(at(a.x), a.x.dtype, a.x.stride[0], true);
  g.b = device_matrix(at(a.w), a.w.dtype, a.w.stride[0], true);
  g.bias = static_cast<const float*>(at(a.bias));
  g.activation = static_cast<Activation>(a.activation);
  g.slope = plane(a.slope);
  g.residual = plane(a.residual);
  return g;
}

}  // namespace

void linear(const LinearArgs& a, const DeviceContext& context) { gemm("linear", product(a), context); }
int64_t linear_workspace(const LinearArgs& a, const DeviceInfo& info) { return gemm_workspace(product(a), info); }

}  // namespace theia::THEIA_DEVICE
