#include "native/describe.h"

#include "kernels/ops.h"

namespace theia::native {

Napi::Value describe_ops(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Array ops = Napi::Array::New(env);
  for (int i = 0; i < kOps; ++i) {
    const OpInfo& op = op_info(static_cast<Op>(i));
    Napi::Array fields = Napi::Array::New(env);
    for (uint32_t k = 0; k < op.fields.size(); ++k) {
      const Field& f = op.fields[k];
      Napi::Object o = Napi::Object::New(env);
      o["name"] = f.name;
      o["role"] = kRoleNames[static_cast<int>(f.role)];
      o["kind"] = f.kind == Kind::tensor ? "tensor" : f.kind == Kind::float64 ? "float" : "int";
      if (f.kind == Kind::tensor) {
        Napi::Array dtypes = Napi::Array::New(env);
        int n = 0;
        for (int d = 0; d < kDTypes; ++d)
          if (f.dtypes & (1u << d)) dtypes[static_cast<uint32_t>(n++)] = kDTypeNames[d];
        if (f.dtypes & kDeviceBf16) dtypes[static_cast<uint32_t>(n++)] = "bfloat16 (cuda and simt)";
        o["dtypes"] = dtypes;
        o["rank"] =
            f.min_rank == f.max_rank ? std::to_string(f.min_rank) : std::to_string(f.min_rank) + " to " + std::to_string(f.max_rank);
        o["optional"] = f.optional;
        if (f.shares) o["shares"] = f.shares;
      }
      if (f.kind == Kind::flag) o["flag"] = true;
      if (f.choices) o["choices"] = f.choices;
      fields[k] = o;
    }
    Napi::Object o = Napi::Object::New(env);
    o["name"] = op.name;
    o["fields"] = fields;
    ops[static_cast<uint32_t>(i)] = o;
  }
  return ops;
}

}  // namespace theia::native
