// y = a + b, element by element. Joins gradients of a tensor that was used twice where no other op could fuse the sum.
#pragma once
#include "kernels/core/context.h"
#include "kernels/core/field.h"

namespace theia {

struct AddArgs {
  Tensor a;  // any shape, packed; float32 and bfloat16 may be mixed
  Tensor b;  // the same shape
  Tensor y;  // the same shape; may be the memory of a or b
};

inline constexpr Field kAddFields[] = {
    THEIA_TENSOR(AddArgs, a, in, kActivation, 0, kMaxRank),
    THEIA_TENSOR(AddArgs, b, in, kActivation, 0, kMaxRank),
    THEIA_SHARING(AddArgs, y, out, kActivation, 0, kMaxRank, "a|b"),
};

void check(const AddArgs& a);
int64_t workspace(const AddArgs& a, int threads);
double flops(const AddArgs& a);
double bytes(const AddArgs& a);

namespace cpu {
template <class T>
void add(const AddArgs& a, const Context& context);
}
namespace avx2 {
void add(const AddArgs& a, const Context& context);
}
namespace avx512 {
void add(const AddArgs& a, const Context& context);
}

}  // namespace theia
