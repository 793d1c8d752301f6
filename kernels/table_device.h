// The table of a device's kernels, indexed by op number: kOps entries.
#pragma once
#include "kernels/core/device.h"
#include "kernels/ops.h"

namespace theia::THEIA_DEVICE {
const DeviceEntry* device_table();
}
