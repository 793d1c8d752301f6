// One GPU behind the interface of kernels/core/device.h.
#pragma once
#include "kernels/core/device.h"

namespace theia::THEIA_DEVICE {
std::unique_ptr<Device> open_device(int index, const DeviceInfo& info);
}
