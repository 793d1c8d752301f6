// What kernel code calls where it was compiled with -fsanitize=alignment,null,bounds,shift,integer-divide-by-zero: a misaligned float4 or
// an index past the end of a local or static shared array stops the kernel with its line, as the GPU or compute-sanitizer would, instead of
// the process. The names and structs are the compiler's (libsanitizer's ubsan_handlers.h).
#include <cstdio>
#include <cstdlib>

#include "kernels/simt/engine.h"

namespace theia::simt {
namespace {

struct Location {
  const char* file;
  uint32_t line, column;
};
struct Type {
  uint16_t kind, info;
  char name[1];
};
struct Mismatch {
  Location at;
  const Type* type;
  uint8_t log_align, access;
};
struct Bounds {
  Location at;
  const Type *array, *index;
};
struct Operation {
  Location at;
  const Type* type;
};

template <class... Args>
[[noreturn]] void stop(const Location& at, const char* format, Args... args) {
  if (engine && engine->current) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
    engine->stop(*engine->current, {at.file, static_cast<int>(at.line)}, format, args...);
#pragma GCC diagnostic pop
  }
  // Launchers and other host code: compilers hold these calls for ones that throw nothing.
  std::fprintf(stderr, "%s:%u: undefined behaviour (%s)\n", at.file, at.line, format);
  std::abort();
}

[[noreturn]] void mismatch(const Mismatch& m, uintptr_t address) {
  static constexpr const char* kAccess[] = {"load of", "store to", "reference to", "member of", "member call on"};
  const char* const access = m.access < 5 ? kAccess[m.access] : "use of";
  if (address == 0) stop(m.at, "%s %s by a null pointer", access, m.type->name);
  const int align = 1 << m.log_align;
  stop(m.at, "%s %s at an address %d bytes past a multiple of %d", access, m.type->name,
       static_cast<int>(address % static_cast<unsigned>(align)), align);
}

}  // namespace
}  // namespace theia::simt

using namespace theia::simt;

extern "C" {
void __ubsan_handle_type_mismatch_v1(void* data, uintptr_t address) { mismatch(*static_cast<Mismatch*>(data), address); }
void __ubsan_handle_type_mismatch_v1_abort(void* data, uintptr_t address) { mismatch(*static_cast<Mismatch*>(data), address); }
void __ubsan_handle_out_of_bounds(void* data, uintptr_t index) {
  const Bounds& b = *static_cast<Bounds*>(data);
  stop(b.at, "index %lld is outside of %s", static_cast<long long>(index), b.array->name);
}
void __ubsan_handle_out_of_bounds_abort(void* data, uintptr_t index) { __ubsan_handle_out_of_bounds(data, index); }
void __ubsan_handle_shift_out_of_bounds(void* data, uintptr_t, uintptr_t by) {
  stop(static_cast<Operation*>(data)->at, "a shift of %s by %lld", static_cast<Operation*>(data)->type->name, static_cast<long long>(by));
}
void __ubsan_handle_shift_out_of_bounds_abort(void* data, uintptr_t x, uintptr_t by) { __ubsan_handle_shift_out_of_bounds(data, x, by); }
void __ubsan_handle_divrem_overflow(void* data, uintptr_t, uintptr_t by) {
  stop(static_cast<Operation*>(data)->at, "a division of %s by %lld", static_cast<Operation*>(data)->type->name,
       static_cast<long long>(by));
}
void __ubsan_handle_divrem_overflow_abort(void* data, uintptr_t x, uintptr_t by) { __ubsan_handle_divrem_overflow(data, x, by); }
}
