// Which instruction set the kernels use. Chosen once, at load.
#pragma once

namespace theia {

enum class Isa { plain, avx2, avx512 };
inline constexpr int kIsas = 3;
inline constexpr const char* kIsaNames[kIsas] = {"plain", "avx2", "avx512"};

/// The best instruction set of this machine, or the one THEIA_CPU asks for. Throws ERR_CONFIG if THEIA_CPU names none or one the
/// machine lacks.
Isa cpu_isa();

/// True if the machine (and this build) can run it.
bool has_isa(Isa isa);

}  // namespace theia
