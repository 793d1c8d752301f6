// Backward of linear layers on a device: one pass over dy (times the activation's derivative, to the products' type, column sums for the
// bias), then dx = dpre · w and dw = dpreᵀ · x. Where dy is already what the products read, it is not copied.
#include <algorithm>

#include "kernels/cuda/runtime.h"
#include "kernels/gemm/device/gemm.h"
#include "kernels/gemm/device/pregrad.h"
#include "kernels/linear/linear.h"

namespace theia::THEIA_DEVICE {

namespace {

void* at(const Tensor& t) { return t.present() ? t.base + t.offset * bytes_of(t.dtype) : nullptr; }
DevicePlane plane(const Tensor& t) { return {at(t), t.dtype, device_rows(t.stride[0])}; }

struct Plan {
  DevicePregrad pregrad;
  DeviceGemm dx, dw;
  int64_t dpre_bytes;  // what lies in front of the workspace that the three share
};

Plan plan_of(const LinearGradArgs& a, std::byte* workspace) {
  const int64_t m = a.x.size[0], k = a.x.size[1], n = a.w.size[0];
  const Activation activation = static_cast<Activation>(a.activation);
  const bool products = a.dx.present() || a.dw.present();
  Plan p{};
  p.pregrad.rows = m, p.pregrad.columns = n;
  p.pregrad.dy = plane(a.dy);
  p.pregrad.multiply = activation == Activation::none   ? Multiply::none
                       : activation == Activation::gelu ? Multiply::value
                                                        : Multiply::relu_mask;
  if (activation != Activation::none) p.pregrad.factor = plane(activation == Activation::gelu ? a.slope : a.y);
  p.pregrad.dbias = static_cast<float*>(at(a.dbias));
  p.pregrad.accumulate = a.accumulate != 0;

  DevicePlane gradient = p.pregrad.dy;
  if (products && (activation != Activation::none || a.dy.dtype != a.x.dtype)) {
    p.dpre_bytes = round_up(m * n * bytes_of(a.x.dtype), 256);
    gradient = {workspace, a.x.dtype, device_rows(n)};
    p.pregrad.dpre = gradient;
  }
  const bool tensor_cores = a.x.dtype == DType::bf16;
  p.dx = make_device_gemm(m, k, n, tensor_cores, at(a.dx), a.dx.dtype, a.dx.stride[0]);
  p.dx.a = device_matrix(gradient.data, a.x.dtype, gradient.rows.b, true);
  p.dx.b = device_matrix(at(a.w), a.w.dtype, a.w.stride[0], false);
  p.dw = make_device_gemm(n, k, m, tensor_cores, at(a.dw), a.dw.dtype, a.dw.stride[0]);
  p.dw.a = device_matrix(gradient.data, a.x.dtype, gradient.rows.b, false);
  p.dw.b = device_matrix(at(a.x), a.x.dtype, a.x.stride[0], false);
  p.dw.accumulate = a.accumulate != 0;
  return p;
}

}  // namespace

void linear_grad(const LinearGradArgs& a, const DeviceContext& context) {
  const Plan p = plan_of(a, context.workspace);
  DeviceContext rest = context;
  rest.workspace += p.dpre_bytes, rest.workspace_bytes -= p.dpre_bytes;
  pregrad("linear_grad", p.pregrad, rest);
  if (a.dx.present()) gemm("linear_grad", p.dx, rest);
  if (a.dw.present()) gemm("linear_grad", p.dw, rest);
}

int64_t linear_grad_workspace(const LinearGradArgs& a, const DeviceInfo& info) {
  const Plan p = plan_of(a, nullptr);
  int64_t most = pregrad_workspace(p.pregrad, info);
  if (a.dx.present()) most = std::max(most, gemm_workspace(p.dx, info));
  if (a.dw.present()) most = std::max(most, gemm_workspace(p.dw, info));
  return p.dpre_bytes + most;
}

}  // namespace theia::THEIA_DEVICE
