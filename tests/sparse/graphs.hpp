// Sparse matrices of the kinds that the suites of this module run over.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <support/oracle.hpp>
#include <tessera/matrix/csr.hpp>

#include "../../bench/poisson.hpp"

namespace tessera::test {

using Sparse = Csr<double>;
using EigenRows = Eigen::SparseMatrix<double, Eigen::RowMajor, std::int32_t>;

/// About `entries` of R-MAT's (.57, .19, .19, .05), places counted once, values N(0, 1).
/// D. Chakrabarti et al., "R-MAT: A Recursive Model for Graph Mining" (SDM 2004).
inline Sparse rmat(int scale, Index entries, std::uint64_t seed) {
  const Philox draws(seed), values(seed, 1);
  std::vector<std::pair<Index, Index>> places;
  std::uint64_t at = 0;
  for (Index e = 0; e < entries; ++e) {
    Index i = 0, j = 0;
    for (int s = 0; s < scale; ++s) {
      const float u = draws.uniform(at++);
      i = 2 * i + (u >= 0.76f ? 1 : 0);
      j = 2 * j + (u >= 0.95f || (u >= 0.57f && u < 0.76f) ? 1 : 0);
    }
    places.emplace_back(i, j);
  }
  std::sort(places.begin(), places.end());
  places.erase(std::unique(places.begin(), places.end()), places.end());
  Coo<double> list;
  list.rows = list.cols = Index{1} << scale;
  for (const auto& [i, j] : places) {
    list.value.push_back(values.normal(list.value.size()));
    list.row.push_back(i);
    list.col.push_back(j);
  }
  return csr_from_coo<double>(list);
}

/// Each entry with probability `density`.
inline Sparse uniform(Index rows, Index cols, double density, std::uint64_t seed) {
  const Philox draws(seed), values(seed, 1);
  Coo<double> list;
  list.rows = rows;
  list.cols = cols;
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; ++j)
      if (static_cast<double>(draws.uniform(static_cast<std::uint64_t>(i * cols + j))) < density) {
        list.value.push_back(values.normal(list.value.size()));
        list.row.push_back(i);
        list.col.push_back(j);
      }
  return csr_from_coo<double>(list);
}

inline Sparse banded(Index n, Index half) {
  const Philox values(5);
  Coo<double> list;
  list.rows = list.cols = n;
  for (Index i = 0; i < n; ++i)
    for (Index j = std::max<Index>(0, i - half); j < std::min(n, i + half + 1); ++j) {
      list.value.push_back(values.normal(list.value.size()));
      list.row.push_back(i);
      list.col.push_back(j);
    }
  return csr_from_coo<double>(list);
}

inline Sparse poisson(Index n) { return ::poisson<double>(n); }

inline Sparse from_entries(Index rows, Index cols, std::vector<Index> row, std::vector<Index> col,
                           std::vector<double> value) {
  Coo<double> list;
  list.rows = rows;
  list.cols = cols;
  list.row = std::move(row);
  list.col = std::move(col);
  list.value = std::move(value);
  return csr_from_coo<double>(list);
}

/// Row 2 full, the others with one entry or none.
inline Sparse one_full_row(Index n) {
  std::vector<Index> row, col;
  std::vector<double> value;
  for (Index j = 0; j < n; ++j) {
    row.push_back(2);
    col.push_back(j);
    value.push_back(static_cast<double>(j % 7) - 2.5);
    if (j % 3 == 0 && j != 2) {
      row.push_back(j);
      col.push_back((j * 5) % n);
      value.push_back(0.5);
    }
  }
  return from_entries(n, n, row, col, value);
}

inline std::vector<std::pair<std::string, Sparse>> square_samples() {
  std::vector<std::pair<std::string, Sparse>> all;
  all.emplace_back("without entries", Sparse(7, 7));
  all.emplace_back("one entry", from_entries(1, 1, {0}, {0}, {2}));
  all.emplace_back("identity", banded(65, 0));
  all.emplace_back("banded", banded(200, 3));
  all.emplace_back("grid", poisson(17));
  all.emplace_back("one full row", one_full_row(130));
  all.emplace_back("power law", rmat(9, 4000, 3));
  all.emplace_back("uniform", uniform(150, 150, 0.1, 4));
  all.emplace_back("wide and empty", rmat(14, 300, 6));
  return all;
}

template <class A, class B>
void expect_same(const A& a, const B& b) {  // bit for bit
  ASSERT_EQ(a.rows(), b.rows());
  ASSERT_EQ(a.cols(), b.cols());
  EXPECT_TRUE(std::equal(a.row_ptr().begin(), a.row_ptr().end(), b.row_ptr().begin(), b.row_ptr().end()));
  EXPECT_TRUE(std::equal(a.col_idx().begin(), a.col_idx().end(), b.col_idx().begin(), b.col_idx().end()));
  EXPECT_TRUE(std::equal(a.values().begin(), a.values().end(), b.values().begin(), b.values().end()));
}

}  // namespace tessera::test
