#include "kernels/core/field.h"

#include <cstring>

#include "kernels/core/error.h"

namespace theia {

std::string describe(const Tensor& t) {
  if (!t.present()) return "nothing";
  std::string s = "[";
  for (int i = 0; i < t.rank; ++i) s += (i ? "," : "") + std::to_string(t.size[i]);
  return s + "] " + name(t.dtype);
}

static std::string names(DTypes set) {
  std::string s;
  for (int i = 0; i < kDTypes; ++i)
    if (set & (1u << i)) s += (s.empty() ? "" : " or ") + std::string(kDTypeNames[i]);
  return s;
}

namespace {

int count_choices(const char* choices) {
  int n = 1;
  for (const char* c = choices; *c; ++c) n += *c == '|';
  return n;
}

int64_t int64_at(const void* args, const Field& f) {
  int64_t v;
  std::memcpy(&v, static_cast<const std::byte*>(args) + f.offset, sizeof v);
  return v;
}

}  // namespace

void check_fields(const char* op, std::span<const Field> fields, const void* args, bool on_device) {
  for (const Field& f : fields) {
    if (f.kind == Kind::tensor) {
      const Tensor& t = tensor_at(args, f);
      if (!t.present()) {
        if (!f.optional) fail("ERR_ARGS", "%s: expected a tensor as '%s', got nothing", op, f.name);
        continue;
      }
      const DTypes allowed = f.dtypes | (on_device && (f.dtypes & kDeviceBf16) ? set_of(DType::bf16) : 0);
      if (!(set_of(t.dtype) & allowed))
        fail("ERR_DTYPE", "%s: expected '%s' as %s, got %s", op, f.name, names(allowed).c_str(), name(t.dtype));
      if (t.rank < f.min_rank || t.rank > f.max_rank)
        fail("ERR_SHAPE", "%s: expected '%s' of rank %d to %d, got %s", op, f.name, f.min_rank, f.max_rank, describe(t).c_str());
    } else if (f.choices) {
      const int64_t v = int64_at(args, f);
      if (v < 0 || v >= count_choices(f.choices))
        fail("ERR_ARGS", "%s: expected '%s' as one of %s, got number %lld", op, f.name, f.choices, static_cast<long long>(v));
    } else if (f.kind == Kind::flag) {
      const int64_t v = int64_at(args, f);
      if (v != 0 && v != 1) fail("ERR_ARGS", "%s: expected '%s' as 0 or 1, got %lld", op, f.name, static_cast<long long>(v));
    }
  }
}

}  // namespace theia
