/// Who runs the pieces of an operation. No executor ever changes a result: pieces are cut the same for any number of
/// threads, and each piece writes its own rows.
#pragma once

#include <atomic>
#include <concepts>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>

namespace tessera::inline TESSERA_ABI {

/// A borrowed `void(Index piece, Index worker)`; `worker` is in [0, concurrency()).
class Task {
 public:
  template <class F>
  requires(!std::same_as<std::remove_cvref_t<F>, Task> && std::invocable<F&, Index, Index>)
      Task(F&& f)  // NOLINT(google-explicit-constructor): borrows like a function_ref
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, Index piece, Index worker) {
          (*static_cast<std::remove_reference_t<F>*>(object))(piece, worker);
        }) {}
  void operator()(Index piece, Index worker) const { call_(object_, piece, worker); }

 private:
  void* object_;
  void (*call_)(void*, Index, Index);
};

/// Something that calls `task(p, w)` once for every p in [0, pieces) and returns when all have returned; two calls at
/// the same time never have the same w < concurrency(). The first exception thrown by a piece is rethrown.
template <class E>
concept Executor = requires(E& executor, Index pieces, Task task) {
  { executor.concurrency() } -> std::convertible_to<Index>;
  executor.run(pieces, task);
};

/// The calling thread, piece after piece.
struct seq {
  Index concurrency() const { return 1; }
  void run(Index pieces, Task task) const {
    for (Index p = 0; p < pieces; ++p) task(p, 0);
  }
};

/// `threads` threads, the caller among them, sharing pieces as they become free. Copies share the threads.
/// A run from inside a piece of any pool is carried out by the calling thread alone, so that none waits for itself.
class thread_pool {
 public:
  /// Throws unsupported_error unless 1 <= threads <= 1024.
  explicit thread_pool(Index threads) : state_(std::make_shared<State>(threads)) {}

  Index concurrency() const { return state_->threads; }

  void run(Index pieces, Task task) const {
    if (pieces <= 0) return;
    if (pieces == 1 || state_->threads == 1 || inside() != nullptr) {
      for (Index p = 0; p < pieces; ++p) task(p, 0);
      return;
    }
    state_->run(pieces, task);
  }

 private:
  struct State {
    explicit State(Index count) : threads(count) {
      if (count < 1 || count > 1024)
        throw unsupported_error(detail::concat("tessera: thread_pool(", count, "): expected 1 to 1024 threads"));
      workers.reserve(static_cast<std::size_t>(count - 1));
      try {
        for (Index w = 1; w < count; ++w) workers.emplace_back([this, w] { serve(w); });
      } catch (...) {
        stop();
        throw;
      }
    }
    ~State() { stop(); }

    void stop() {
      {
        std::lock_guard lock(mutex);
        stopping = true;
      }
      wake.notify_all();
      for (auto& worker : workers) worker.join();
    }

    void run(Index count, Task work) {
      std::lock_guard one_run(running);
      {
        std::lock_guard lock(mutex);
        task = &work;
        pieces = count;
        next.store(0, std::memory_order_relaxed);
        busy = threads - 1;
        ++generation;
      }
      wake.notify_all();
      work_on(0);
      std::unique_lock lock(mutex);
      done.wait(lock, [this] { return busy == 0; });
      task = nullptr;
      if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
    }

    void serve(Index worker) {
      unsigned long seen = 0;
      for (;;) {
        {
          std::unique_lock lock(mutex);
          wake.wait(lock, [&] { return stopping || generation != seen; });
          if (stopping) return;
          seen = generation;
        }
        work_on(worker);
        std::lock_guard lock(mutex);
        if (--busy == 0) done.notify_one();
      }
    }

    void work_on(Index worker) {
      const void* outer = std::exchange(inside(), this);
      for (Index p; (p = next.fetch_add(1, std::memory_order_relaxed)) < pieces;) {
        try {
          (*task)(p, worker);
        } catch (...) {
          std::lock_guard lock(mutex);
          if (!failure) failure = std::current_exception();
        }
      }
      inside() = outer;
    }

    const Index threads;
    std::vector<std::thread> workers;
    std::mutex running, mutex;
    std::condition_variable wake, done;
    const Task* task = nullptr;
    Index pieces = 0;
    std::atomic<Index> next{0};
    Index busy = 0;
    unsigned long generation = 0;
    bool stopping = false;
    std::exception_ptr failure;
  };

  static const void*& inside() {  // the pool whose piece this thread is running
    thread_local const void* pool = nullptr;
    return pool;
  }

  std::shared_ptr<State> state_;
};

}  // namespace tessera::inline TESSERA_ABI
