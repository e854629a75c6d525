/// What an operation runs with: an executor, scratch memory, and the kernels that were forced.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/core/executor.hpp>
#include <tessera/core/workspace.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
/// The operation of the kernel "op:isa".
inline std::string_view op_of(std::string_view kernel) { return kernel.substr(0, kernel.find(':')); }
}  // namespace detail

/// Belongs to one thread at a time; inside a parallel piece use `worker(w)`.
class Context {
 public:
  /// The calling thread alone.
  Context() : Context(seq{}) {}

  /// Keeps a copy of `executor`; copies of a thread_pool share its threads.
  template <Executor E>
  explicit Context(E executor)
      : executor_(std::make_shared<E>(std::move(executor))),
        concurrency_(static_cast<const E*>(executor_.get())->concurrency()),
        run_([](void* e, Index pieces, Task task) { static_cast<E*>(e)->run(pieces, task); }) {}

  /// `threads` threads; 1 means none but the caller's.
  static Context with_threads(Index threads) { return threads == 1 ? Context() : Context(thread_pool(threads)); }

  Index concurrency() const { return concurrency_; }
  void run(Index pieces, Task task) { run_(executor_.get(), pieces, task); }

  /// From now on the operation before the colon uses this kernel or throws: `force("qgemm:ref")`.
  void force(std::string_view kernel) {
    unforce(detail::op_of(kernel));
    forced_.emplace_back(kernel);
  }
  void unforce(std::string_view op) {
    std::erase_if(forced_, [&](const std::string& kernel) { return detail::op_of(kernel) == op; });
  }
  /// The forced kernel of an operation, or "".
  std::string_view forced(std::string_view op) const {
    for (const auto& kernel : forced_)
      if (detail::op_of(kernel) == op) return kernel;
    return {};
  }

  /// A single-threaded context for worker w of a parallel run, with the same forced kernels. Call `prepare_workers`
  /// before the run starts.
  Context& worker(Index w) { return *workers_[static_cast<std::size_t>(w)]; }
  void prepare_workers() {
    while (static_cast<Index>(workers_.size()) < concurrency_) workers_.push_back(std::make_unique<Context>());
    for (auto& worker : workers_) worker->forced_ = forced_;
  }

  Workspace workspace;

 private:
  std::shared_ptr<void> executor_;
  Index concurrency_;
  void (*run_)(void*, Index, Task);
  std::vector<std::string> forced_;
  std::vector<std::unique_ptr<Context>> workers_;
};

/// What `y = A * x` uses: single-threaded, one for each thread.
inline Context& default_context() {
  thread_local Context context;
  return context;
}

/// `f(Context& worker, Index begin, Index end)` over [0, n) in pieces of `grain`, cut the same for any thread count.
template <class F>
void for_each_chunk(Context& ctx, Index n, Index grain, F&& f) {
  if (n <= 0) return;
  const Index pieces = (n + grain - 1) / grain;
  if (pieces == 1 || ctx.concurrency() == 1) {
    for (Index p = 0; p < pieces; ++p) f(ctx, p * grain, std::min(n, (p + 1) * grain));
    return;
  }
  ctx.prepare_workers();
  ctx.run(pieces, [&](Index p, Index w) { f(ctx.worker(w), p * grain, std::min(n, (p + 1) * grain)); });
}

}  // namespace tessera::inline TESSERA_ABI
