// What kernel code sees of the emulator: where a thread is, launch, barriers, shared memory, and the entry points that the wrappers of
// kernels/ptx/ call. How it works and what it cannot see: README.md.
#pragma once
#include <cstddef>
#include <cstdint>
#include <tuple>

#include "kernels/core/device.h"
#include "kernels/simt/types.h"

namespace theia::simt {

/// A line of kernel source. As a default argument it is the line of the caller.
struct Site {
  const char* file;
  int line;
  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

/// threadIdx, blockIdx, blockDim and gridDim of the running thread. Null outside of a kernel.
struct Place {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
extern __thread Place* place __attribute__((tls_model("initial-exec")));

/// The most shared memory a block may have, static and dynamic together: that of sm_90.
inline constexpr int64_t kSharedLimit = 227 * 1024;
inline constexpr int kBlockThreads = 1024;

/// Runs body(data) as every thread of every block, one block after the other.
/// Throws ERR_CUDA naming kernel, block, thread and source line for whatever the emulator sees go wrong; it can be used again afterwards.
void run_grid(const char* name, dim3 grid, dim3 block, int64_t shared_bytes, const DeviceContext& context, void (*body)(const void*),
              const void* data);

template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, int64_t shared_bytes, const DeviceContext& context,
            Args... args) {
  struct Call {
    void (*kernel)(Params...);
    std::tuple<Params...> params;
  };
  const Call call{kernel, std::tuple<Params...>(static_cast<Params>(args)...)};
  run_grid(
      name, grid, block, shared_bytes, context,
      [](const void* data) {
        const Call& c = *static_cast<const Call*>(data);
        std::apply(c.kernel, c.params);
      },
      &call);
}

// Shared memory. `key` is the address of a static object: one a declaration and template instance, as in CUDA.
void* shared_array(const void* key, size_t bytes, size_t align, Site site = Site::here());
std::byte* dynamic_shared();

// Barriers of the block, by all its threads at one source line. The integer forms give every thread the combination of all arguments.
enum class Combine { none, any, all, count };
int barrier(Combine combine, int predicate, Site site);

/// One warp operation. The last lane to arrive does it for all: run() gets what each lane of the mask passed as operand.
struct WarpOp {
  const char* name;
  void (*run)(void* const* operands, unsigned mask);
  bool orders_memory;
};
/// Returns when every lane of `mask` is there, at the same line, and the operation is done.
void collective(const WarpOp& op, unsigned mask, void* operand, Site site);

// Shuffles and votes (warp.cpp).
enum class Shuffle { index, up, down, xor_ };
uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int argument, int width, Site site);
void sync_warp(unsigned mask, Site site);
unsigned ballot(unsigned mask, bool predicate, Site site);

// What stands behind kernels/ptx/ (matrix.cpp, async_copy.cpp).
enum class MatrixType { bf16, f16 };
void ldmatrix(uint32_t* r, const void* row, int tiles, bool trans, Site site);
void mma_m16n8k16(MatrixType type, float* d, const uint32_t* a, const uint32_t* b, Site site);
void mma_m16n8k8_tf32(float* d, const uint32_t* a, const uint32_t* b, Site site);
void async_copy(void* shared, const void* global, int bytes, int valid, Site site);
void async_commit();
void async_wait(int newest);

/// Sets the order in which threads and blocks run, for every thread of the process: "forward", "reverse", "random:SEED". The first launch
/// takes it from THEIA_SIMT_SCHEDULE. Throws ERR_ARGS.
void set_schedule(const char* text);

/// Counts of this OS thread since the last reset.
struct Statistics {
  int64_t launches, blocks, threads, switches, barriers, collectives, mma, ldmatrix, async_copies, wgmma, box_copies;
  int64_t bank_conflicts;  // wavefronts of ldmatrix beyond one a tile
};
Statistics& statistics();

}  // namespace theia::simt
