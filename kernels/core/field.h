// The field list: the only description of an op's arguments. From it come the reading of arguments from JavaScript, the recorder,
// the trace, the guard bytes of the tests and the generated TypeScript types.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/core/tensor.h"

namespace theia {

enum class Role : uint8_t {
  in,
  out,
  inout,
  saved,       // an output that forward keeps for backward
  accumulate,  // a gradient output: written, or added to where the op's `accumulate` scalar says so
  scalar,
};
inline constexpr const char* kRoleNames[] = {"in", "out", "inout", "saved", "accumulate", "scalar"};

enum class Kind : uint8_t { tensor, int64, flag, float64 };  // a flag is an int64 that is 0 or 1

struct Field {
  const char* name;
  Role role;
  Kind kind;
  uint32_t offset;  // of the member in the args struct
  DTypes dtypes;    // allowed element types (tensors)
  int8_t min_rank, max_rank;
  bool optional;        // the tensor may be absent
  const char* shares;   // "a|b": the tensors of which this one may be the very view, or nullptr
  const char* choices;  // "none|relu|gelu": an int64 that TypeScript names by string, or nullptr
};

#define THEIA_FIELD_(Args, member, role, dtypes, lo, hi, optional, shares) \
  ::theia::Field { #member, ::theia::Role::role, ::theia::Kind::tensor, offsetof(Args, member), dtypes, lo, hi, optional, shares, nullptr }

/// A tensor of rank lo..hi that must be given.
#define THEIA_TENSOR(Args, member, role, dtypes, lo, hi) THEIA_FIELD_(Args, member, role, dtypes, lo, hi, false, nullptr)
/// A tensor that may be absent.
#define THEIA_OPTIONAL(Args, member, role, dtypes, lo, hi) THEIA_FIELD_(Args, member, role, dtypes, lo, hi, true, nullptr)
/// A tensor whose memory may be that of `shares` (same shape and strides): the op works in place.
#define THEIA_SHARING(Args, member, role, dtypes, lo, hi, shares) THEIA_FIELD_(Args, member, role, dtypes, lo, hi, false, shares)
#define THEIA_INT(Args, member) \
  ::theia::Field { #member, ::theia::Role::scalar, ::theia::Kind::int64, offsetof(Args, member), 0, 0, 0, false, nullptr, nullptr }
#define THEIA_FLAG(Args, member) \
  ::theia::Field { #member, ::theia::Role::scalar, ::theia::Kind::flag, offsetof(Args, member), 0, 0, 0, false, nullptr, nullptr }
#define THEIA_CHOICE(Args, member, choices) \
  ::theia::Field { #member, ::theia::Role::scalar, ::theia::Kind::int64, offsetof(Args, member), 0, 0, 0, false, nullptr, choices }
#define THEIA_FLOAT(Args, member) \
  ::theia::Field { #member, ::theia::Role::scalar, ::theia::Kind::float64, offsetof(Args, member), 0, 0, 0, false, nullptr, nullptr }

inline const Tensor& tensor_at(const void* args, const Field& f) {
  return *reinterpret_cast<const Tensor*>(static_cast<const std::byte*>(args) + f.offset);
}
inline Tensor& tensor_at(void* args, const Field& f) { return *reinterpret_cast<Tensor*>(static_cast<std::byte*>(args) + f.offset); }

/// What the field list promises, for any op: presence, dtype, rank, known choice, flags that are 0 or 1. The
/// dispatcher calls it before the op's own check(), and check_overlap (overlap.h) behind it. Throws ERR_DTYPE, ERR_SHAPE, ERR_ARGS naming
/// op and field. `on_device`: the backend has tensor cores, so fields of kActivation take bfloat16 as well.
void check_fields(const char* op, std::span<const Field> fields, const void* args, bool on_device);

}  // namespace theia
