/// Each structure's best stand-in for one matrix within a budget: what project_best chooses from.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <tessera/matrix/any.hpp>
#include <tessera/project/block_diagonal.hpp>
#include <tessera/project/butterfly.hpp>
#include <tessera/project/diagonal_plus_low_rank.hpp>
#include <tessera/project/hashed.hpp>
#include <tessera/project/kronecker.hpp>
#include <tessera/project/ldu.hpp>
#include <tessera/project/low_rank.hpp>
#include <tessera/project/monarch.hpp>
#include <tessera/project/monarch_chain.hpp>
#include <tessera/project/toeplitz.hpp>

namespace tessera::inline TESSERA_ABI {

/// One structure with its best parameters for the budget. `weighted_error` is ‖(W - A) X‖ where a Gram matrix was
/// given, else report.error; candidates are compared by it.
template <class S>
struct StructureCandidate {
  std::string name;  // "monarch 8x8 rank 2"
  AnyOperator<S> matrix;
  ProjectionReport report;
  double weighted_error = 0;
};

namespace detail {

/// Divisors of n but 1 and n, rising.
inline std::vector<Index> divisors(Index n) {
  std::vector<Index> all;
  for (Index d = 2; d < n; ++d)
    if (n % d == 0) all.push_back(d);
  return all;
}

template <class S>
struct StructureTrials {
  const Eigen::MatrixXd& W;
  const Eigen::MatrixXd* gram;  // or nullptr
  double room;                  // in elements of S
  std::vector<StructureCandidate<S>>& found;
  const Index m = W.rows(), n = W.cols();

  void all() {
    if (W.size() == 0) return;
    low_ranks();
    monarchs();
    kroneckers();
    shifted_and_shared();
    blocks();
  }

 private:
  double weigh(const AnyOperator<S>& a, double error) const {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    if (gram == nullptr) return std::isnan(error) ? infinity : error;
    const Eigen::MatrixXd rest = W - tessera::to_dense(a).template cast<double>();
    const double square = (rest * *gram).cwiseProduct(rest).sum();
    return std::isnan(square) ? infinity : std::sqrt(std::max(0.0, square));
  }
  /// False, and nothing is kept, where the matrix has more bytes than there is room for.
  template <class A>
  bool add(std::string name, Projected<A> projected) {
    if (projected.report.bytes > room * sizeof(S) * (1 + 1e-9)) return false;
    AnyOperator<S> any(std::move(projected.matrix));
    const double error = weigh(any, projected.report.error);
    found.push_back({std::move(name), std::move(any), projected.report, error});
    return true;
  }
  /// How many things of `each` elements there is room for, beside `rest` elements.
  Index fit(double each, double rest = 0) const {
    return static_cast<Index>(std::clamp(std::floor((room - rest) / std::max(each, 1.0) + 1e-9), -1.0, 1e15));
  }
  static double count(Index i) { return static_cast<double>(i); }

  void low_ranks() {
    using Thin = LowRank<Dense<S>, Dense<S>>;
    const Index rank = std::min({fit(count(m + n)), m, n});
    if (rank > 0) {
      add(concat("low rank ", rank), project<Thin>(W, {.rank = rank}));
      if (gram != nullptr)
        add(concat("low rank ", rank, " calibrated"), project<Thin>(W, {.rank = rank, .gram = gram}));
    }
    constexpr double index = static_cast<double>(sizeof(Index)) / sizeof(S);  // of a permutation's entry
    const Index steps = std::min({fit(count(m + n + 1), count(m + n) * index), m, n});
    if (steps > 0) add(concat("LDU ", steps), project<Ldu<S>>(W, {.rank = steps}));
    if (m != n) return;
    const Index with = std::min(fit(2 * count(m), count(m)), m);
    if (with > 0) add(concat("diagonal plus rank ", with), project<DiagonalPlusLowRank<S>>(W, {.rank = with}));
  }

  void monarchs() {
    for (const Index l : divisors(m))
      for (const Index k : divisors(n)) {
        // The shapes of blocks worth a try: about as many blocks in each direction.
        if (2 * l < k || 2 * k < l) continue;
        const Index r = std::min({fit(count(m * k + n * l)), m / l, n / k});
        if (r > 0)
          add(concat("monarch ", l, "x", k, r == 1 ? "" : concat(" rank ", r)),
              project<Monarch<S>>(W, {.row_blocks = l, .col_blocks = k, .rank = r}));
      }
    if (m != n) return;
    if (m > 1 && (m & (m - 1)) == 0) add("butterfly", project<Butterfly<S>>(W, {}));
    for (const Index a : divisors(n))
      for (const Index b : divisors(n / a)) {
        const Index c = n / a / b;
        if (4 * std::min({a, b, c}) < std::max({a, b, c}) || fit(count(n) * count(a + b + c)) < 1) continue;
        add(concat("monarch chain ", a, "x", b, "x", c), project<MonarchChain<S>>(W, {.sizes = {a, b, c}}));
      }
  }

  void kroneckers() {
    for (const Index m1 : divisors(m))
      for (const Index n1 : divisors(n)) {
        const Index small = std::min(m1 * n1, m / m1 * (n / n1));
        if (small > 1024 || 2 * m1 < n1 || 2 * n1 < m1) continue;  // an eigenproblem of `small`
        const Index terms = std::min(fit(count(m1 * n1 + m / m1 * (n / n1))), small);
        if (terms > 0)
          add(concat(terms, " kronecker ", m1, "x", n1),
              project<KroneckerSum2<S>>(W, {.left_rows = m1, .left_cols = n1, .terms = terms}));
      }
  }

  void shifted_and_shared() {
    if (fit(count(m + n - 1)) > 0) {
      add("Toeplitz", project<Toeplitz<S>>(W, {}));
      add("Hankel", project<Hankel<S>>(W, {}));
    }
    if (m == n && fit(count(n)) > 0) add("circulant", project<Circulant<S>>(W, {}));
    const Index shared = std::min(fit(1), m * n);
    if (shared > 0) add(concat("hashed ", shared), project<Hashed<S>>(W, {.parameters = shared}));
  }

  void blocks() {
    const Index common = std::gcd(m, n);
    for (Index b = 2; b <= common; ++b)
      if (common % b == 0 && fit(count(m / b) * count(n)) > 0 &&
          add(concat(b, " permuted blocks"), project<PermutedBlocks<S>>(W, {.blocks = b})))
        return;
  }
};

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
