#include "kernels/core/pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <system_error>
#include <utility>

#include "kernels/core/error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace theia {

namespace {

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Long enough to bridge the gap between two ops of one step (2 to 20 us), short enough not to burn a core that others need.
constexpr auto kSpin = std::chrono::microseconds(60);

int cgroup_quota() {
  double quota = 0, period = 0;
  if (FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    const int n = std::fscanf(f, "%lf %lf", &quota, &period);
    std::fclose(f);
    if (n == 2 && quota > 0 && period > 0) return std::max(1, static_cast<int>(quota / period + 0.5));
  }
  return 1 << 20;
}

}  // namespace

int default_threads() {
  cpu_set_t set;
  int cpus = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cpus = CPU_COUNT(&set);
  return std::clamp(std::min(cpus, cgroup_quota()), 1, 256);
}

Pool::Pool(int threads) : shares_(new Share[static_cast<size_t>(std::max(threads, 1))]) {
  workers_.reserve(static_cast<size_t>(std::max(threads, 1)));
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (const std::system_error& e) {
    // Threads that began must be joined before they are forgotten, or the process ends here.
    const int started = static_cast<int>(workers_.size());
    join();
    fail("ERR_OOM", "expected %d threads, but the system gives %d (%s)", threads, started + 1, e.what());
  }
}

Pool::~Pool() { join(); }

void Pool::join() {
  {
    std::lock_guard lock(sleep_mutex_);
    quit_ = true;
    generation_ += 1;
  }
  wake_.notify_all();
  for (auto& w : workers_) w.join();
  workers_.clear();
}

void Pool::keep(int64_t chunk, std::exception_ptr error) {
  std::lock_guard lock(error_mutex_);
  if (!error_ || chunk < error_chunk_) {
    error_ = std::move(error);
    error_chunk_ = chunk;
  }
}

void Pool::take_chunks(int thread) {
  const int count = threads();
  for (int i = 0; i < count; ++i) {
    Share& share = shares_[static_cast<size_t>((thread + i) % count)];
    for (;;) {
      const int64_t chunk = share.next.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= share.end) break;
      try {
        (*body_)(chunk, thread);
      } catch (...) {
        keep(chunk, std::current_exception());
      }
    }
  }
}

void Pool::work(int thread) {
  uint64_t seen = 0;
  for (;;) {
    const auto until = std::chrono::steady_clock::now() + kSpin;
    while (generation_.load(std::memory_order_acquire) == seen && std::chrono::steady_clock::now() < until)
      for (int i = 0; i < 4; ++i) pause();  // a pause is 40 to 140 cycles: a job is seen within a fifth of a microsecond
    if (generation_.load() == seen) {
      std::unique_lock lock(sleep_mutex_);
      sleepers_ += 1;
      wake_.wait(lock, [&] { return generation_.load() != seen; });
      sleepers_ -= 1;
    }
    seen = generation_.load();
    if (quit_) return;
    // Enter first, then look whether the job is still open: with sequential consistency either this thread sees it closed, or the
    // closing caller sees this thread inside and waits for it.
    inside_ += 1;
    if (open_) take_chunks(thread);
    inside_ -= 1;
  }
}

void Pool::run_chunks(int64_t chunks, ChunkBody body) {
  if (chunks <= 0) return;
  std::unique_lock job(job_mutex_, std::defer_lock);
  if (chunks == 1 || workers_.empty() || !job.try_lock()) {
    for (int64_t c = 0; c < chunks; ++c) body(c, 0);
    return;
  }
  body_ = &body;
  const int count = threads();
  for (int i = 0; i < count; ++i) {
    shares_[static_cast<size_t>(i)].next = chunks * i / count;
    shares_[static_cast<size_t>(i)].end = chunks * (i + 1) / count;
  }
  error_ = nullptr;
  open_ = true;
  generation_ += 1;
  if (sleepers_ > 0) {
    { std::lock_guard lock(sleep_mutex_); }
    wake_.notify_all();
  }
  take_chunks(0);
  open_ = false;
  while (inside_ > 0) pause();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

// ---- the process's pool

namespace {
std::mutex g_mutex;
// On the heap and never destroyed by static destructors: no static object owns a thread.
auto* const g_pool = new std::shared_ptr<Pool>();
int g_holders = 0;
}  // namespace

std::shared_ptr<Pool> pool() {
  std::lock_guard lock(g_mutex);
  if (!*g_pool) *g_pool = std::make_shared<Pool>(default_threads());
  return *g_pool;
}

void acquire_pool() {
  std::lock_guard lock(g_mutex);
  g_holders += 1;
}

void release_pool() {
  std::shared_ptr<Pool> last;  // joined outside the lock
  std::lock_guard lock(g_mutex);
  if (--g_holders == 0) last = std::exchange(*g_pool, nullptr);
}

void resize_pool(int n) {
  const int threads = n > 0 ? n : default_threads();
  std::shared_ptr<Pool> old;
  std::lock_guard lock(g_mutex);
  if (*g_pool && (*g_pool)->threads() == threads) return;
  old = std::exchange(*g_pool, std::make_shared<Pool>(threads));
}

}  // namespace theia
