// What holds for linear layers on every instruction set: checks, costs, and which products they are.
#include "kernels/linear/linear.h"

#include "kernels/core/checks.h"
#include "kernels/linear/linear_plan.h"
#include "kernels/pack/pack.h"

namespace theia {

namespace {

constexpr int64_t round64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

/// A [rows, columns] tensor of the op's dtype whose rows are packed in themselves.
void expect_rows(const char* op, const char* field, const Tensor& t, int64_t rows, int64_t columns, DType dtype) {
  expect_dtype(op, field, t, dtype);
  expect_shape(op, field, t, {rows, columns});
  expect_contiguous(op, field, t, 1);
}

/// The same of the op's dtype or, beside bfloat16, of float32.
void expect_wide_rows(const char* op, const char* field, const Tensor& t, int64_t rows, int64_t columns, DType dtype) {
  expect_rows(op, field, t, rows, columns, dtype == DType::bf16 && t.dtype == DType::f32 ? DType::f32 : dtype);
}

/// What sums and parameters are kept in.
DType sums_of(DType dtype) { return dtype == DType::bf16 ? DType::f32 : dtype; }

void expect_vector(const char* op, const char* field, const Tensor& t, int64_t n, DType dtype) {
  expect_dtype(op, field, t, dtype);
  expect_shape(op, field, t, {n});
  expect_contiguous(op, field, t);
}

double bytes_in(const Tensor& t) { return t.present() ? static_cast<double>(t.numel()) * bytes_of(t.dtype) : 0; }
void* at(const Tensor& t) { return t.present() ? t.base + t.offset * bytes_of(t.dtype) : nullptr; }
RowMap rows_of(const Tensor& t) { return plain_rows(t.stride[0]); }

}  // namespace

void check(const LinearArgs& a) {
  constexpr const char* op = "linear";
  const int64_t m = a.x.size[0], k = a.x.size[1], n = a.w.size[0];
  const DType t = a.x.dtype;
  expect_rows(op, "x", a.x, m, k, t);
  expect_rows(op, "w", a.w, n, k, t);
  expect_vector(op, "packed", a.packed, packed_elements(n, 1, k, PackUse::forward), t);
  expect_vector(op, "bias", a.bias, n, sums_of(t));
  expect_wide_rows(op, "y", a.y, m, n, t);
  expect_rows(op, "residual", a.residual, m, n, a.y.dtype);
  expect_rows(op, "slope", a.slope, m, n, t);
  if (a.slope.present() && static_cast<Activation>(a.activation) != Activation::gelu)
    fail("ERR_ARGS", "linear: 'slope' is saved for activation gelu only");
}

int64_t workspace(const LinearArgs& a, int threads) { return gemm_workspace(forward_gemm(a), threads); }

double flops(const LinearArgs& a) { return 2.0 * a.x.numel() * a.w.size[0]; }

double bytes(const LinearArgs& a) { return bytes_in(a.x) + bytes_in(a.w) + bytes_in(a.y) + bytes_in(a.slope) + bytes_in(a.residual); }

Gemm forward_gemm(const LinearArgs& a) {
  const int64_t m = a.x.size[0], k = a.x.size[1], n = a.w.size[0];
  Gemm g = make_gemm(m, n, k, at(a.y), a.y.stride[0]);
  g.a = matrix(at(a.x), a.x.stride[0]);
  g.b = a.packed.present() ? packed(at(a.packed), k) : matrix(at(a.w), a.w.stride[0], true);
  g.bias = at(a.bias);
  g.activation = static_cast<Activation>(a.activation);
  g.slope = at(a.slope);
  g.slope_rows = rows_of(a.slope);
  g.residual = at(a.residual);
  g.residual_rows = rows_of(a.residual);
  return g;
}

void check(const LinearGradArgs& a) {
  constexpr const char* op = "linear_grad";
  const int64_t m = a.x.size[0], k = a.x.size[1], n = a.w.size[0];
  const DType t = a.x.dtype;
  expect_rows(op, "x", a.x, m, k, t);
  expect_rows(op, "w", a.w, n, k, t);
  expect_vector(op, "packed", a.packed, packed_elements(n, 1, k, PackUse::backward), t);
  expect_wide_rows(op, "dy", a.dy, m, n, t);
  expect_rows(op, "y", a.y, m, n, t);
  expect_rows(op, "slope", a.slope, m, n, t);
  expect_wide_rows(op, "dx", a.dx, m, k, t);
  expect_rows(op, "dw", a.dw, n, k, sums_of(t));
  expect_vector(op, "dbias", a.dbias, n, sums_of(t));
  const Activation activation = static_cast<Activation>(a.activation);
  if (activation == Activation::relu && !a.y.present()) fail("ERR_ARGS", "linear_grad: activation relu needs 'y', forward's output");
  if (activation == Activation::gelu && !a.slope.present())
    fail("ERR_ARGS", "linear_grad: activation gelu needs 'slope' as forward saved it");
}

namespace {

bool streams(const LinearGradArgs& a) { return a.dbias.present() || static_cast<Activation>(a.activation) != Activation::none; }

int64_t dpre_bytes(const LinearGradArgs& a) {
  return static_cast<Activation>(a.activation) == Activation::none ? 0 : round64(a.dy.numel() * bytes_of(a.dy.dtype));
}
int64_t partial_bytes(const LinearGradArgs& a) {
  if (!a.dbias.present()) return 0;
  return round64((a.dy.size[0] + kPregradRows - 1) / kPregradRows * a.dy.size[1] * bytes_of(a.dy.dtype));
}

}  // namespace

LinearGradPlan plan_linear_grad(const LinearGradArgs& a, const Context& context) {
  const int64_t m = a.x.size[0], k = a.x.size[1], n = a.w.size[0];
  const Activation activation = static_cast<Activation>(a.activation);
  std::byte* const dpre = context.workspace;
  const int64_t taken = dpre_bytes(a) + partial_bytes(a);

  LinearGradPlan p{};
  p.stream = streams(a);
  const Tensor& factor = activation == Activation::gelu ? a.slope : a.y;
  p.pregrad = {.rows = m,
               .columns = n,
               .dy = at(a.dy),
               .dy_stride = a.dy.stride[0],
               .multiply = activation == Activation::none   ? Multiply::none
                           : activation == Activation::gelu ? Multiply::value
                                                            : Multiply::relu_mask,
               .factor = at(factor),
               .factor_stride = factor.stride[0],
               .dpre = activation == Activation::none ? nullptr : dpre,
               .dbias = at(a.dbias),
               .partial = dpre + dpre_bytes(a),
               .accumulate = a.accumulate != 0};
  const void* gradient = p.pregrad.dpre ? p.pregrad.dpre : at(a.dy);
  const int64_t stride = p.pregrad.dpre ? n : a.dy.stride[0];

  p.dx = make_gemm(m, k, n, at(a.dx), a.dx.stride[0]);
  p.dx.a = matrix(gradient, stride);
  p.dx.b = a.packed.present() ? packed(at(a.packed), n) : matrix(at(a.w), a.w.stride[0]);
  p.dw = make_gemm(n, k, m, at(a.dw), a.dw.stride[0]);
  p.dw.a = matrix(gradient, stride, true);
  p.dw.b = matrix(at(a.x), a.x.stride[0]);
  p.dw.accumulate = a.accumulate != 0;
  p.gemm_context = {context.pool, context.workspace + taken, context.workspace_bytes - taken};
  return p;
}

int64_t workspace(const LinearGradArgs& a, int threads) {
  const LinearGradPlan p = plan_linear_grad(a, {nullptr, nullptr, 0});
  const int64_t dx = a.dx.present() ? gemm_workspace(p.dx, threads) : 0, dw = a.dw.present() ? gemm_workspace(p.dw, threads) : 0;
  return dpre_bytes(a) + partial_bytes(a) + (dx > dw ? dx : dw);
}

double flops(const LinearGradArgs& a) { return 2.0 * a.x.numel() * a.w.size[0] * (a.dx.present() + a.dw.present()); }

double bytes(const LinearGradArgs& a) {
  const double dpre = dpre_bytes(a) ? 2 * bytes_in(a.dy) : 0;
  const double dx = a.dx.present() ? bytes_in(a.dy) + bytes_in(a.w) + bytes_in(a.dx) : 0;
  const double dw = a.dw.present() ? bytes_in(a.dy) + bytes_in(a.x) + bytes_in(a.dw) : 0;
  return dpre + dx + dw;
}

}  // namespace theia
