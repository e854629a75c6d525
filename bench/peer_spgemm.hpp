/// Others' sparse products, compiled for this machine.
#pragma once

#include <cstdint>
#include <memory>

namespace tessera::bench {

/// A square sparse matrix by rows, in Eigen's form; what A·A costs there.
class SparsePeer {
 public:
  SparsePeer(long n, const std::int32_t* row_ptr, const std::int32_t* col_idx, const double* values);
  ~SparsePeer();
  void eigen();
  /// Every product of the columns of A and the rows of A written out as (place, value), sorted, and summed.
  void outer_and_sort();
#ifdef TESSERA_BENCH_GRAPHBLAS
  void graphblas(int threads);
#endif

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera::bench
