// The one exception of the kernels: a stable code and a message that says what was expected and what came.
#pragma once
#include <cstdarg>
#include <stdexcept>
#include <string>

namespace theia {

class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  const char* code() const noexcept { return code_; }

 private:
  const char* code_;  // always a string literal
};

/// Throws Error(code, printf-formatted message).
[[noreturn]] void fail(const char* code, const char* format, ...) __attribute__((format(printf, 2, 3)));

}  // namespace theia
