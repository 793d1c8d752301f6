// The field lists of all ops as a JavaScript value, from which scripts/generate-ops.mjs writes src/generated/ops.ts.
#pragma once
#include <napi.h>

namespace theia::native {

/// [{ name, fields: [{ name, role, kind, dtypes, rank, optional, shares, flag, choices }] }], in the order of ops.def.
Napi::Value describe_ops(const Napi::CallbackInfo& info);

}  // namespace theia::native
