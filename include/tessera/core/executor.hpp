/// Who runs the pieces of an operation. No executor ever changes a result: pieces are cut the same for any number of
/// threads, and each piece writes its own rows.
#pragma once

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstdint>
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

namespace detail {

inline void relax() {
#if TESSERA_X86
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

/// Waits until `value` is not `old`, and returns it: awake for 50 µs, for a sleeping thread costs its waker several
/// microseconds and sleeps through a small operation; then asleep.
inline std::uint32_t changed(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
  do {
    for (int i = 0; i < 32; ++i) {
      if (const auto now = value.load(std::memory_order_acquire); now != old) return now;
      relax();
    }
  } while (std::chrono::steady_clock::now() < until);
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace detail

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
      stopping.store(true, std::memory_order_relaxed);
      announce();
      for (auto& worker : workers) worker.join();
    }

    /// Nobody waits for a thread that is still waking: who comes too late finds the gate closed.
    void run(Index count, Task work) {
      std::lock_guard one_run(running);
      task = &work;
      pieces = count;
      next.store(0, std::memory_order_relaxed);
      gate.store(open, std::memory_order_release);
      announce();
      work_on(0);
      for (auto left = gate.fetch_and(~open, std::memory_order_acq_rel) & ~open; left != 0;)
        left = detail::changed(gate, left);
      if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
    }

    void announce() {
      generation.fetch_add(1, std::memory_order_release);
      generation.notify_all();
    }

    void serve(Index worker) {
      for (std::uint32_t seen = 0;;) {
        seen = detail::changed(generation, seen);
        if (stopping.load(std::memory_order_relaxed)) return;
        auto through = gate.load(std::memory_order_relaxed);
        while ((through & open) != 0 && !gate.compare_exchange_weak(through, through + 1, std::memory_order_acquire)) {
        }
        if ((through & open) == 0) continue;
        work_on(worker);
        if (gate.fetch_sub(1, std::memory_order_acq_rel) == 1) gate.notify_one();
      }
    }

    void work_on(Index worker) {
      const void* outer = std::exchange(inside(), this);
      for (Index p; (p = next.fetch_add(1, std::memory_order_relaxed)) < pieces;) {
        try {
          (*task)(p, worker);
        } catch (...) {
          std::lock_guard lock(failing);
          if (!failure) failure = std::current_exception();
        }
      }
      inside() = outer;
    }

    static constexpr std::uint32_t open = 1u << 31;

    const Index threads;
    std::vector<std::thread> workers;
    std::mutex running, failing;
    const Task* task = nullptr;  // this and `pieces` change only while the gate is closed and nobody is inside
    Index pieces = 0;
    std::atomic<Index> next{0};
    std::atomic<std::uint32_t> generation{0};  // of the run; workers wait for the next
    std::atomic<std::uint32_t> gate{0};        // workers inside the run, and `open` while it takes more
    std::atomic<bool> stopping{false};
    std::exception_ptr failure;
  };

  static const void*& inside() {  // the pool whose piece this thread is running
    thread_local const void* pool = nullptr;
    return pool;
  }

  std::shared_ptr<State> state_;
};

}  // namespace tessera::inline TESSERA_ABI
