/// The matrix of Poisson's equation, for benchmarks and tests of sparse matrices.
#pragma once

#include <tessera/matrix/csr.hpp>

/// The five-point Laplacian of an n × n grid.
template <class T>
tessera::Csr<T> poisson(tessera::Index n) {
  using tessera::Index;
  tessera::Coo<T> list;
  list.rows = list.cols = n * n;
  const auto put = [&](Index i, Index j, T v) {
    list.row.push_back(i);
    list.col.push_back(j);
    list.value.push_back(v);
  };
  for (Index i = 0; i < n * n; ++i) {
    put(i, i, 4);
    if (i >= n) put(i, i - n, -1);
    if (i + n < n * n) put(i, i + n, -1);
    if (i % n > 0) put(i, i - 1, -1);
    if (i % n < n - 1) put(i, i + 1, -1);
  }
  return tessera::csr_from_coo<T>(list);
}
