/// Opt-in executor over OpenMP: compile with -fopenmp.
#pragma once

#include <exception>
#include <mutex>
#include <utility>

#include <tessera/core/executor.hpp>

#if !defined(_OPENMP)
#error "tessera/core/omp.hpp needs OpenMP: compile with -fopenmp, or use tessera::thread_pool"
#endif
#include <omp.h>

namespace tessera::inline TESSERA_ABI {

/// OpenMP's threads, pieces handed out dynamically. `threads == 0` takes omp_get_max_threads().
class omp {
 public:
  explicit omp(int threads = 0) : threads_(threads > 0 ? threads : omp_get_max_threads()) {}
  Index concurrency() const { return threads_; }
  void run(Index pieces, Task task) const {
    std::exception_ptr failure;
    std::mutex mutex;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
    for (Index p = 0; p < pieces; ++p) {
      try {
        task(p, omp_get_thread_num());
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(std::move(failure));
  }

 private:
  int threads_;
};

}  // namespace tessera::inline TESSERA_ABI
