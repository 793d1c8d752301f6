#include "kernels/core/error.h"

#include <cstdio>

namespace theia {

void fail(const char* code, const char* format, ...) {
  char text[1024];
  va_list list;
  va_start(list, format);
  std::vsnprintf(text, sizeof text, format, list);
  va_end(list);
  throw Error(code, text);
}

}  // namespace theia
