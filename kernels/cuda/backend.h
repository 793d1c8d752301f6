// This half's backend: the CUDA runtime behind Device and Backend in `cuda`, plain memory and immediate calls in `simt`.
#pragma once
#include "kernels/core/device.h"

namespace theia::THEIA_DEVICE {
Backend& backend();
}
