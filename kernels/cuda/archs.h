// Which GPUs a list of architectures as CMake takes it covers.
#pragma once

namespace theia {

/// True if code for `archs` ("80-real;90a-real;90-virtual") runs on a GPU of this compute capability. Machine code runs on its own major
/// version from its minor version on, code with an `a` on exactly its own GPU, PTX on everything as new or newer.
bool runs_on(const char* archs, int major, int minor);

}  // namespace theia
