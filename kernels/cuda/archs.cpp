#include "kernels/cuda/archs.h"

#include <cstdlib>
#include <cstring>

namespace theia {

bool runs_on(const char* archs, int major, int minor) {
  const int wanted = 10 * major + minor;
  for (const char* at = archs; at && *at;) {
    char* end;
    const int arch = static_cast<int>(std::strtol(at, &end, 10));
    const bool exact = *end == 'a';
    const char* kind = exact ? end + 1 : end;
    // "90" alone is machine code and PTX; "-real" and "-virtual" are one of them.
    const bool real = std::strncmp(kind, "-virtual", 8) != 0, ptx = std::strncmp(kind, "-real", 5) != 0;
    if (exact ? arch == wanted : (real && arch / 10 == major && arch <= wanted) || (ptx && arch <= wanted)) return true;
    at = std::strchr(kind, ';');
    if (at) ++at;
  }
  return false;
}

}  // namespace theia
