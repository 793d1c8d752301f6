// The thread pool: one per process, one job at a time. The caller works too. Every thread begins with a share of the chunks of its own,
// the same one in every job of that many chunks, so that what it wrote in one op is in its cache for the next; then it helps the others.
// Chunks are handed out by atomic counters: a thread that the scheduler took away delays one chunk and not the job.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace theia {

/// A borrowed callable `void(int64_t chunk, int thread)`: no allocation, valid during the call only.
class ChunkBody {
 public:
  template <class F>
  ChunkBody(F& f) : object_(&f), call_([](void* o, int64_t chunk, int thread) { (*static_cast<F*>(o))(chunk, thread); }) {}
  void operator()(int64_t chunk, int thread) const { call_(object_, chunk, thread); }

 private:
  void* object_;
  void (*call_)(void*, int64_t, int);
};

class Pool {
 public:
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// Threads that may work on a job, the caller included. Thread numbers handed to bodies are below this.
  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Runs body(chunk, thread) for every chunk in [0, chunks) and returns when all are done. How the work is cut into chunks must follow
  /// from shapes alone, so that results do not depend on the number of threads. If the pool is busy with somebody else's job, the caller
  /// does all of it as thread 0. The exception of the lowest chunk that threw is thrown again here.
  template <class F>
  void run(int64_t chunks, F&& body) {
    run_chunks(chunks, ChunkBody(body));
  }

 private:
  void run_chunks(int64_t chunks, ChunkBody body);
  void join();
  void work(int thread);
  void take_chunks(int thread);
  void keep(int64_t chunk, std::exception_ptr error);

  std::vector<std::thread> workers_;
  std::mutex job_mutex_;  // held by the caller whose job runs
  std::mutex sleep_mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};  // raised for every job
  std::atomic<int> sleepers_{0};
  std::atomic<bool> open_{false};  // a job may be entered
  std::atomic<int> inside_{0};     // workers inside the job
  std::atomic<bool> quit_{false};
  const ChunkBody* body_ = nullptr;
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };
  std::unique_ptr<Share[]> shares_;  // one a thread
  std::mutex error_mutex_;
  std::exception_ptr error_;
  int64_t error_chunk_ = 0;
};

/// min(CPUs this process may run on, the cgroup's quota), at least 1.
int default_threads();

/// The process's pool, made at first use. Whoever computes holds it for the call.
std::shared_ptr<Pool> pool();
/// Environments count themselves in and out; when the last one goes, the pool goes and its threads are joined.
void acquire_pool();
void release_pool();
/// Replaces the pool by one of n threads (0 = default). Calls that run finish on the old one.
void resize_pool(int n);

}  // namespace theia
