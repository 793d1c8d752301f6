#include "native/call.h"

#include <cmath>
#include <cstring>

#include "kernels/core/error.h"

namespace theia::native {

namespace {

int64_t whole(const char* op, const char* field, const char* what, double v, double lo, double hi) {
  if (!(v >= lo && v <= hi) || v != std::floor(v))
    fail("ERR_ARGS", "%s: expected %s of '%s' as a whole number in [%.0f, %.0f], got %g", op, what, field, lo, hi, v);
  return static_cast<int64_t>(v);
}

constexpr double kSafe = 9007199254740991.0;  // 2^53 - 1

}  // namespace

void read_args(const char* op, std::span<const Field> fields, std::span<const double> area, void* args) {
  size_t expected = 0;
  for (const Field& f : fields) expected += f.kind == Kind::tensor ? kTensorSlots : 1;
  if (area.size() < expected) fail("ERR_ARGS", "%s: expected a call area of %zu numbers, got %zu", op, expected, area.size());
  const double* slot = area.data();
  for (const Field& f : fields) {
    std::byte* member = static_cast<std::byte*>(args) + f.offset;
    if (f.kind == Kind::float64) {
      std::memcpy(member, slot++, sizeof(double));
    } else if (f.kind == Kind::int64 || f.kind == Kind::flag) {
      const int64_t v = whole(op, f.name, "the value", *slot++, -kSafe, kSafe);
      std::memcpy(member, &v, sizeof v);
    } else {
      Tensor t{};
      t.buffer = static_cast<uint64_t>(whole(op, f.name, "the handle", slot[0], 0, kSafe));
      if (t.buffer) {
        t.offset = whole(op, f.name, "the offset", slot[1], 0, kSafe);
        t.dtype = static_cast<DType>(whole(op, f.name, "the dtype", slot[2], 0, kDTypes - 1));
        t.rank = static_cast<int8_t>(whole(op, f.name, "the rank", slot[3], 0, kMaxRank));
        for (int i = 0; i < t.rank; ++i) {
          t.size[i] = whole(op, f.name, "a size", slot[4 + i], 0, kSafe);
          t.stride[i] = whole(op, f.name, "a stride", slot[4 + kMaxRank + i], 0, kSafe);
        }
      }
      std::memcpy(member, &t, sizeof t);
      slot += kTensorSlots;
    }
  }
}

void check_inside(const char* op, const char* field, const Tensor& t, int64_t bytes) {
  int64_t last = t.offset, count = 1;
  bool overflow = false, empty = false;
  for (int i = 0; i < t.rank; ++i) {
    empty |= t.size[i] == 0;
    if (t.size[i] > 1 && __builtin_mul_overflow(count, t.size[i], &count)) count = kMaxElements + 1;
    if (count > kMaxElements) fail("ERR_SHAPE", "%s: expected '%s' of at most 2^40 elements, got %s", op, field, describe(t).c_str());
  }
  if (empty) return;  // nothing is touched
  for (int i = 0; i < t.rank; ++i) {
    int64_t reach;
    overflow |= __builtin_mul_overflow(t.size[i] - 1, t.stride[i], &reach) || __builtin_add_overflow(last, reach, &last);
  }
  int64_t end;
  overflow |= __builtin_add_overflow(last, int64_t{1}, &end) || __builtin_mul_overflow(end, int64_t{bytes_of(t.dtype)}, &end);
  if (overflow || end > bytes)
    fail("ERR_SHAPE", "%s: '%s' %s at offset %lld reaches past its buffer of %lld bytes", op, field, describe(t).c_str(),
         static_cast<long long>(t.offset), static_cast<long long>(bytes));
}

}  // namespace theia::native
