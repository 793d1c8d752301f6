// The addon's face to JavaScript. Every entry converts arguments, calls the environment, and turns C++ exceptions into TheiaError.
#include <napi.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <new>

#include "kernels/core/error.h"
#include "kernels/core/peak.h"
#include "kernels/core/pool.h"
#include "kernels/gemm/tile_peak.h"
#include "kernels/cuda/archs.h"
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

/// The same, over shared memory too: threads may write to it meanwhile, but it can be neither detached nor made smaller.
Bytes shared_bytes(const Napi::CallbackInfo& info, size_t i) {
  if (i >= info.Length() || !info[i].IsTypedArray()) fail("ERR_ARGS", "expected a typed array");
  const Napi::TypedArray a = info[i].As<Napi::TypedArray>();
  if (a.ArrayBuffer().IsArrayBuffer()) return typed_bytes(info, i);
  void* data = nullptr;
  if (napi_get_typedarray_info(info.Env(), a, nullptr, nullptr, &data, nullptr, nullptr) != napi_ok || (!data && a.ByteLength() > 0))
    fail("ERR_ARGS", "expected a typed array with memory");
  return {static_cast<std::byte*>(data), static_cast<int64_t>(a.ByteLength())};
}

/// A device's number.
int device_number(const Napi::CallbackInfo& info, size_t i) {
  return i < info.Length() && !info[i].IsUndefined() ? static_cast<int>(index(info, i, "the device")) : kCpu;
}

std::string text(const Napi::CallbackInfo& info, size_t i, const char* what) {
  if (i >= info.Length() || !info[i].IsString()) fail("ERR_ARGS", "expected %s as a string", what);
  return info[i].As<Napi::String>().Utf8Value();
}

/// [handle, byte offset] at arguments i and i + 1, from where `bytes` bytes lie inside the buffer.
std::pair<const Buffer&, int64_t> range(const Napi::CallbackInfo& info, size_t i, int64_t bytes, const char* doing) {
  Environment& e = state(info).environment;
  if (e.recording())
    fail("ERR_PLAN", "%s a tensor's values on the host while a plan is recorded: it would not happen again at replay", doing);
  const Buffer& b = e.buffer(static_cast<uint64_t>(whole(info, i, "the handle")));
  const int64_t offset = whole(info, i + 1, "the byte offset");
  if (offset > b.bytes || bytes > b.bytes - offset)
    fail("ERR_SHAPE", "%lld bytes at offset %lld reach past a buffer of %lld bytes", static_cast<long long>(bytes),
         static_cast<long long>(offset), static_cast<long long>(b.bytes));
  return {b, offset};
}

Napi::Value open_device(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), state(info).environment.open(text(info, 0, "a device's name")));
}

/// What there is of a kind of device, without using it: [{ name, trouble }], or why there is none.
Napi::Value probe(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object o = Napi::Object::New(env);
  Napi::Array devices = Napi::Array::New(env);
  o["devices"] = devices;
  o["built"] = false;
  try {
    Backend& backend = backend_of(text(info, 0, "a kind of device"));
    o["built"] = true;
    o["versions"] = backend.versions();
    const int n = backend.devices();
    if (n == 0) o["trouble"] = backend.trouble(0);
    for (int i = 0; i < n; ++i) {
      Napi::Object d = Napi::Object::New(env);
      const DeviceInfo found = backend.info(i);
      d["name"] = found.name;
      d["capability"] = std::to_string(found.major) + "." + std::to_string(found.minor);
      d["multiprocessors"] = found.multiprocessors;
      d["memory"] = static_cast<double>(found.memory_bytes);
      if (const std::string why = backend.trouble(i); !why.empty()) d["trouble"] = why;
      devices[static_cast<uint32_t>(i)] = d;
    }
  } catch (const Error& e) {
    o["trouble"] = e.what();
  }
  return o;
}

/// (architectures, compute capability)
Napi::Value covers(const Napi::CallbackInfo& info) {
  const std::string archs = text(info, 0, "architectures"), capability = text(info, 1, "a compute capability");
  int major = 0, minor = 0, end = 0;
  if (std::sscanf(capability.c_str(), "%3d.%1d%n", &major, &minor, &end) != 2 || capability[static_cast<size_t>(end)])
    fail("ERR_ARGS", "expected a compute capability like 9.0, got '%.40s'", capability.c_str());
  return Napi::Boolean::New(info.Env(), runs_on(archs.c_str(), major, minor));
}

Napi::Value set_option(const Napi::CallbackInfo& info) {
  backend_of(text(info, 0, "a kind of device")).set(text(info, 1, "an option"), text(info, 2, "its value"));
  return info.Env().Undefined();
}

Napi::Value count(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), backend_of(text(info, 0, "a kind of device")).count(text(info, 1, "what to count")));
}

Napi::Value allocate(const Napi::CallbackInfo& info) {
  const int64_t bytes = whole(info, 0, "the number of bytes");
  return Napi::Number::New(info.Env(), static_cast<double>(state(info).environment.allocate(bytes, device_number(info, 1))));
}

Napi::Value release(const Napi::CallbackInfo& info) {
  state(info).environment.release(static_cast<uint64_t>(whole(info, 0, "the handle")));
  return info.Env().Undefined();
}

Napi::Value write(const Napi::CallbackInfo& info) {
  const Bytes host = typed_bytes(info, 2);
  const auto [buffer, offset] = range(info, 0, host.size, "writing");
  state(info).environment.write(buffer, offset, host.data, host.size);
  return info.Env().Undefined();
}

Napi::Value read(const Napi::CallbackInfo& info) {
  const Bytes host = typed_bytes(info, 2);
  const auto [buffer, offset] = range(info, 0, host.size, "reading");
  state(info).environment.read(buffer, offset, host.data, host.size);
  return info.Env().Undefined();
}

/// (bytes, device): an ArrayBuffer for writeLater and readLater.
Napi::Value pinned(const Napi::CallbackInfo& info) {
  const int64_t bytes = whole(info, 0, "the number of bytes");
  auto* memory = new std::shared_ptr<std::byte>(state(info).environment.pinned(bytes, device_number(info, 1)));
  // The collector is told what hangs on the array: it frees this memory, and would not hurry for the few bytes it sees of it.
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), bytes);
  const auto finalize = [bytes](Napi::Env env, void*, std::shared_ptr<std::byte>* held) {
    delete held;
    Napi::MemoryManagement::AdjustExternalMemory(env, -bytes);
  };
  return Napi::ArrayBuffer::New(info.Env(), memory->get(), static_cast<size_t>(bytes), finalize, memory);
}

/// (typed array over shared memory, device): gives the byte that what is locked starts at.
Napi::Value lock(const Napi::CallbackInfo& info) {
  const Bytes host = shared_bytes(info, 0);
  if (info[0].As<Napi::TypedArray>().ArrayBuffer().IsArrayBuffer())
    fail("ERR_ARGS", "expected a typed array over shared memory: a detached one would take its memory away from the device");
  return Napi::Number::New(info.Env(), static_cast<double>(state(info).environment.lock(host.data, host.size, device_number(info, 1))));
}

/// A typed array that starts where what is locked does.
Napi::Value unlock(const Napi::CallbackInfo& info) {
  state(info).environment.unlock(shared_bytes(info, 0).data);
  return info.Env().Undefined();
}

Napi::Value write_later(const Napi::CallbackInfo& info) {
  const Bytes host = shared_bytes(info, 2);
  const auto [buffer, offset] = range(info, 0, host.size, "writing");
  return Napi::Number::New(info.Env(), static_cast<double>(state(info).environment.write_later(buffer, offset, host.data, host.size)));
}

Napi::Value read_later(const Napi::CallbackInfo& info) {
  const Bytes host = typed_bytes(info, 2);
  const auto [buffer, offset] = range(info, 0, host.size, "reading");
  return Napi::Number::New(info.Env(), static_cast<double>(state(info).environment.read_later(buffer, offset, host.data, host.size)));
}

/// (device, ticket)
Napi::Value reach(const Napi::CallbackInfo& info) {
  const int on = static_cast<int>(index(info, 0, "the device"));
  state(info).environment.reach(on, static_cast<uint64_t>(whole(info, 1, "the ticket")));
  return info.Env().Undefined();
}

/// (from, its byte offset, to, its byte offset, bytes)
Napi::Value transfer(const Napi::CallbackInfo& info) {
  const int64_t bytes = whole(info, 4, "the number of bytes");
  const auto [from, from_offset] = range(info, 0, bytes, "copying");
  const auto [to, to_offset] = range(info, 2, bytes, "copying");
  state(info).environment.transfer(from, from_offset, to, to_offset, bytes);
  return info.Env().Undefined();
}

/// (handle, byte offset, bytes): sets them to zero.
Napi::Value clear(const Napi::CallbackInfo& info) {
  const int64_t bytes = whole(info, 2, "the number of bytes");
  const auto [buffer, offset] = range(info, 0, bytes, "writing");
  state(info).environment.clear(buffer, offset, bytes);
  return info.Env().Undefined();
}

/// Waits for everything that was sent to a device.
Napi::Value synchronize(const Napi::CallbackInfo& info) {
  DeviceState& d = state(info).environment.device(device_number(info, 0));
  if (d.device) d.device->wait();
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
  const Environment::Memory m = state(info).environment.memory(device_number(info, 0));
  Napi::Object o = Napi::Object::New(info.Env());
  o["live"] = static_cast<double>(m.live);
  o["scratch"] = static_cast<double>(m.scratch);
  o["peak"] = static_cast<double>(m.peak);
  o["cached"] = static_cast<double>(m.cached);
  o["buffers"] = static_cast<double>(m.buffers);
  o["plans"] = static_cast<double>(m.plans);
  o["pinned"] = static_cast<double>(m.pinned);
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
  ENTRY("openDevice", open_device);
  ENTRY("probe", probe);
  ENTRY("covers", covers);
  ENTRY("setOption", set_option);
  ENTRY("count", count);
  ENTRY("transfer", transfer);
  ENTRY("pinned", pinned);
  ENTRY("lock", lock);
  ENTRY("unlock", unlock);
  ENTRY("writeLater", write_later);
  ENTRY("readLater", read_later);
  ENTRY("reach", reach);
  ENTRY("clear", clear);
  ENTRY("synchronize", synchronize);
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
