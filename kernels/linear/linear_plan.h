// The products and the streaming pass that a linear layer consists of, as plain data: shared by all instruction sets.
#pragma once
#include "kernels/gemm/gemm.h"
#include "kernels/linear/linear.h"

namespace theia {

Gemm forward_gemm(const LinearArgs& a);

/// What comes before the two products of backward: the gradient before the activation, and its column sums.
struct Pregrad {
  int64_t rows, columns;
  const void* dy;
  int64_t dy_stride;
  Multiply multiply;   // none: dpre is dy itself and is not copied
  const void* factor;  // [rows, columns]: slope or y
  int64_t factor_stride;
  void* dpre;     // [rows, columns] packed, or null
  void* dbias;    // [columns] or null
  void* partial;  // [blocks of kPregradRows, columns]
  bool accumulate;
};
inline constexpr int64_t kPregradRows = 32;

/// Backward, laid out over the workspace. `gemm_context` is what is left of the workspace for the products.
struct LinearGradPlan {
  Pregrad pregrad;
  bool stream;  // there is something to stream: an activation or dbias
  Gemm dx, dw;
  Context gemm_context;
};
LinearGradPlan plan_linear_grad(const LinearGradArgs& a, const Context& context);

}  // namespace theia
