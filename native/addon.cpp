// The addon's face to JavaScript. Every entry converts arguments, calls the environment, and turns C++ exceptions into TheiaError.
#include <napi.h>

#include <cmath>
#include <cstring>
#include <new>

#include "kernels/core/error.h"
#include "kernels/core/peak.h"
#include "kernels/gemm/tile_peak.h"
#include "kernels/ops.h"
#include "native/describe.h"
#include "native/environment.h"

namespace theia::native {

namespace {

struct State {
  Environment environment;
  Napi::FunctionReference error_class;
};

State& state(const Napi::CallbackInfo& info) { return *info.Env().GetInstanceData<State>(); }

/// Throws a TheiaError (or, before setErrorClass, an Error) with the code.
[[noreturn]] void raise(Napi::Env env, const char* code, const char* message) {
  State* s = env.GetInstanceData<State>();
  Napi::Value error;
  if (s && !s->error_class.IsEmpty()) {
    error = s->error_class.New({Napi::String::New(env, code), Napi::String::New(env, message)});
  } else {
    error = Napi::Error::New(env, message).Value();
    error.As<Napi::Object>().Set("code", code);
  }
  throw Napi::Error(env, error);
}

/// Wraps an entry: C++ exceptions become JavaScript's, none leaves as anything else.
template <Napi::Value (*entry)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return entry(info);
  } catch (const Napi::Error&) {
    throw;
  } catch (const Error& e) {
    raise(info.Env(), e.code(), e.what());
  } catch (const std::bad_alloc&) {
    raise(info.Env(), "ERR_OOM", "out of memory");
  } catch (const std::exception& e) {
    raise(info.Env(), "ERR_INTERNAL", e.what());
  }
}

double number(const Napi::CallbackInfo& info, size_t i, const char* what) {
  if (i >= info.Length() || !info[i].IsNumber()) fail("ERR_ARGS", "expected a number as %s", what);
  return info[i].As<Napi::Number>().DoubleValue();
}

int64_t whole(const Napi::CallbackInfo& info, size_t i, const char* what) {
  const double v = number(info, i, what);
  if (!(v >= 0 && v <= 9007199254740991.0) || v != std::floor(v))
    fail("ERR_ARGS", "expected %s as a whole number of at least 0, got %g", what, v);
  return static_cast<int64_t>(v);
}

/// An op or plan number: whole, and no larger than what narrows to the same number.
uint32_t index(const Napi::CallbackInfo& info, size_t i, const char* what) {
  const int64_t v = whole(info, i, what);
  if (v > INT32_MAX) fail("ERR_ARGS", "expected %s below 2^31, got %lld", what, static_cast<long long>(v));
  return static_cast<uint32_t>(v);
}

/// The bytes of a typed array, read anew at every call: a detached buffer has none.
struct Bytes {
  std::byte* data;
  int64_t size;
};
Bytes typed_bytes(const Napi::CallbackInfo& info, size_t i) {
  if (i >= info.Length() || !info[i].IsTypedArray()) fail("ERR_ARGS", "expected a typed array");
  const Napi::TypedArray a = info[i].As<Napi::TypedArray>();
  Napi::ArrayBuffer b = a.ArrayBuffer();
  if (!b.IsArrayBuffer()) fail("ERR_ARGS", "expected a typed array over an ArrayBuffer, got one over shared memory");
  auto* data = static_cast<std::byte*>(b.Data());
  if (!data && a.ByteLength() > 0) fail("ERR_ARGS", "expected a typed array with memory, got a detached one");
  if (a.ByteOffset() + a.ByteLength() > b.ByteLength()) fail("ERR_ARGS", "expected a typed array inside its buffer, got a detached one");
  return {data ? data + a.ByteOffset() : nullptr, static_cast<int64_t>(a.ByteLength())};
}

/// [handle, byte offset, typed array]: the two ends of a copy, checked.
std::pair<std::byte*, Bytes> copy_ends(const Napi::CallbackInfo& info, const char* doing) {
  Environment& e = state(info).environment;
  if (e.recording())
    fail("ERR_PLAN", "%s a tensor's values on the host while a plan is recorded: it would not happen again at replay", doing);
  const Buffer& b = e.buffer(static_cast<uint64_t>(whole(info, 0, "the handle")));
  const int64_t offset = whole(info, 1, "the byte offset");
  const Bytes host = typed_bytes(info, 2);
  if (offset > b.bytes || host.size > b.bytes - offset)
    fail("ERR_SHAPE", "%lld bytes at offset %lld reach past a buffer of %lld bytes", static_cast<long long>(host.size),
         static_cast<long long>(offset), static_cast<long long>(b.bytes));
  return {b.block->data + offset, host};
}

Napi::Value allocate(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(state(info).environment.allocate(whole(info, 0, "the number of bytes"))));
}

Napi::Value release(const Napi::CallbackInfo& info) {
  state(info).environment.release(static_cast<uint64_t>(whole(info, 0, "the handle")));
  return info.Env().Undefined();
}

Napi::Value write(const Napi::CallbackInfo& info) {
  const auto [device, host] = copy_ends(info, "writing");
  if (host.size) std::memcpy(device, host.data, static_cast<size_t>(host.size));
  return info.Env().Undefined();
}

Napi::Value read(const Napi::CallbackInfo& info) {
  const auto [device, host] = copy_ends(info, "reading");
  if (host.size) std::memcpy(host.data, device, static_cast<size_t>(host.size));
  return info.Env().Undefined();
}

/// The call area (native/call.h), read anew at every call like any typed array.
std::span<const double> call_area(const Napi::CallbackInfo& info, size_t i) {
  const Bytes b = typed_bytes(info, i);
  if (reinterpret_cast<uintptr_t>(b.data) % alignof(double)) fail("ERR_ARGS", "expected the call area as a Float64Array");
  return {reinterpret_cast<const double*>(b.data), static_cast<size_t>(b.size) / sizeof(double)};
}

Napi::Value dispatch(const Napi::CallbackInfo& info) {
  state(info).environment.dispatch(static_cast<int>(index(info, 0, "the op")), call_area(info, 1));
  return info.Env().Undefined();
}

Napi::Value cost(const Napi::CallbackInfo& info) {
  const Environment::Cost c = state(info).environment.cost(static_cast<int>(index(info, 0, "the op")), call_area(info, 1));
  Napi::Object o = Napi::Object::New(info.Env());
  o["flops"] = c.flops;
  o["bytes"] = c.bytes;
  o["workspace"] = static_cast<double>(c.workspace);
  return o;
}

Napi::Value begin_recording(const Napi::CallbackInfo& info) {
  state(info).environment.begin_recording();
  return info.Env().Undefined();
}
Napi::Value end_recording(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), state(info).environment.end_recording()); }
Napi::Value drop_recording(const Napi::CallbackInfo& info) {
  state(info).environment.drop_recording();
  return info.Env().Undefined();
}
Napi::Value replay(const Napi::CallbackInfo& info) {
  state(info).environment.replay(index(info, 0, "the plan"));
  return info.Env().Undefined();
}
Napi::Value release_plan(const Napi::CallbackInfo& info) {
  state(info).environment.release_plan(index(info, 0, "the plan"));
  return info.Env().Undefined();
}
Napi::Value plan_calls(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(state(info).environment.plan_calls(index(info, 0, "the plan"))));
}

Napi::Value memory(const Napi::CallbackInfo& info) {
  const Environment::Memory m = state(info).environment.memory();
  Napi::Object o = Napi::Object::New(info.Env());
  o["live"] = static_cast<double>(m.live);
  o["scratch"] = static_cast<double>(m.scratch);
  o["peak"] = static_cast<double>(m.peak);
  o["cached"] = static_cast<double>(m.cached);
  o["buffers"] = static_cast<double>(m.buffers);
  o["plans"] = static_cast<double>(m.plans);
  return o;
}
Napi::Value reset_peak(const Napi::CallbackInfo& info) {
  state(info).environment.reset_peak();
  return info.Env().Undefined();
}
Napi::Value trim(const Napi::CallbackInfo& info) {
  state(info).environment.trim();
  return info.Env().Undefined();
}

Napi::Value threads(const Napi::CallbackInfo& info) {
  if (info.Length() > 0 && !info[0].IsUndefined()) {
    const int64_t n = whole(info, 0, "the number of threads");
    if (n > 1024) fail("ERR_ARGS", "expected at most 1024 threads, got %lld", static_cast<long long>(n));
    resize_pool(static_cast<int>(n));
  }
  return Napi::Number::New(info.Env(), pool()->threads());
}

Napi::Value instruction_set(const Napi::CallbackInfo& info) {
  Environment& e = state(info).environment;
  if (info.Length() > 0 && !info[0].IsUndefined()) {
    if (!info[0].IsString()) fail("ERR_ARGS", "expected the name of an instruction set");
    const std::string wanted = info[0].ToString().Utf8Value();
    int found = -1;
    for (int i = 0; i < kIsas; ++i)
      if (wanted == kIsaNames[i] && has_isa(static_cast<Isa>(i))) found = i;
    if (found < 0) fail("ERR_CONFIG", "expected an instruction set of this machine, got '%.40s'", wanted.c_str());
    e.isa = static_cast<Isa>(found);
  }
  return Napi::String::New(info.Env(), kIsaNames[static_cast<int>(e.isa)]);
}

Napi::Value set_error_class(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsFunction()) fail("ERR_ARGS", "expected the error class");
  state(info).error_class = Napi::Persistent(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

/// libm's cosine and power: V8's Math.cos differs from libm in the last bit for 3 % of all arguments, and Bun's does not.
Napi::Value cosine(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), std::cos(number(info, 0, "x"))); }
Napi::Value power(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), std::pow(number(info, 0, "x"), number(info, 1, "y")));
}

Napi::Value machine(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object o = Napi::Object::New(env);
  Napi::Array isas = Napi::Array::New(env);
  for (int i = 0, n = 0; i < kIsas; ++i)
    if (has_isa(static_cast<Isa>(i))) isas[static_cast<uint32_t>(n++)] = kIsaNames[i];
  o["instructionSets"] = isas;
  o["instructionSet"] = kIsaNames[static_cast<int>(cpu_isa())];
  o["threads"] = pool()->threads();
  o["defaultThreads"] = default_threads();
#ifdef __VERSION__
  o["compiler"] = __VERSION__;
#endif
  return o;
}

/// What the machine can do at this moment with the instruction set in use: GFLOP/s on n threads, and GB/s of a large copy.
template <double (*measure)(Isa, int)>
Napi::Value peak(const Napi::CallbackInfo& info) {
  const int64_t n = info.Length() > 0 && !info[0].IsUndefined() ? whole(info, 0, "the number of threads") : pool()->threads();
  if (n < 1 || n > 1024) fail("ERR_ARGS", "expected 1 to 1024 threads, got %lld", static_cast<long long>(n));
  return Napi::Number::New(info.Env(), measure(state(info).environment.isa, static_cast<int>(n)));
}
Napi::Value copy_bandwidth(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), measure_copy_bandwidth()); }

Napi::Object init(Napi::Env env, Napi::Object exports) {
  try {
    env.SetInstanceData(new State());
  } catch (const Error& e) {
    raise(env, e.code(), e.what());  // THEIA_CPU asks for what the machine lacks
  }
#define ENTRY(js, entry) exports[js] = Napi::Function::New<guarded<entry>>(env, js)
  ENTRY("setErrorClass", set_error_class);
  ENTRY("allocate", allocate);
  ENTRY("release", release);
  ENTRY("write", write);
  ENTRY("read", read);
  ENTRY("dispatch", dispatch);
  ENTRY("cost", cost);
  ENTRY("beginRecording", begin_recording);
  ENTRY("endRecording", end_recording);
  ENTRY("dropRecording", drop_recording);
  ENTRY("replay", replay);
  ENTRY("releasePlan", release_plan);
  ENTRY("planCalls", plan_calls);
  ENTRY("memory", memory);
  ENTRY("resetPeak", reset_peak);
  ENTRY("trim", trim);
  ENTRY("threads", threads);
  ENTRY("instructionSet", instruction_set);
  ENTRY("cosine", cosine);
  ENTRY("power", power);
  ENTRY("describeOps", describe_ops);
  ENTRY("machine", machine);
  ENTRY("peak", peak<measure_peak>);
  ENTRY("tilePeak", peak<measure_tile_peak>);
  ENTRY("copyBandwidth", copy_bandwidth);
#undef ENTRY
  return exports;
}

}  // namespace

NODE_API_MODULE(theia, init)

}  // namespace theia::native
