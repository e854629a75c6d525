/// LU factors of a banded matrix, within the band that partial pivoting needs.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/expr/closed_form.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// P A = L U row by row: row i holds columns i - lower to i + upper + lower. O(N·lower·(lower + upper)) flops.
/// G. Golub, C. Van Loan, "Matrix Computations", §4.3.3.
template <std::floating_point S>
class BandedLu {
 public:
  template <class Banded>
  explicit BandedLu(const Banded& A)
      : n_(A.rows()),
        lower_(A.lower()),
        width_(2 * A.lower() + A.upper() + 1),
        entries_(n_ * width_),
        pivots_(static_cast<std::size_t>(n_)) {
    for (Index d = -A.lower(); d <= A.upper(); ++d) {
      const auto e = A.diagonal(d);
      for (Index k = 0; k < e.extent(0); ++k) at(std::max<Index>(0, -d) + k, std::max<Index>(0, d) + k) = e[k];
    }
    for (Index j = 0; j < n_; ++j) {
      const Index last = std::min(n_, j + lower_ + 1), right = std::min(n_, j + width_ - lower_);
      Index p = j;
      for (Index i = j + 1; i < last; ++i)
        if (std::abs(at(i, j)) > std::abs(at(p, j))) p = i;
      pivots_[static_cast<std::size_t>(j)] = p;
      if (p != j)
        for (Index c = j; c < right; ++c) std::swap(at(p, c), at(j, c));
      if (at(j, j) == S(0)) continue;
      for (Index i = j + 1; i < last; ++i) {
        const S factor = at(i, j) /= at(j, j);
        if (factor == S(0)) continue;
        S* to = &at(i, j) + 1;
        const S* from = &at(j, j) + 1;
        for (Index c = 0; c < right - j - 1; ++c) to[c] -= factor * from[c];
      }
    }
  }

  Index size() const { return n_; }
  ByteRange buffer() const { return {entries_.begin(), entries_.end()}; }
  double flops() const { return 2.0 * static_cast<double>(n_ * width_); }

  /// op(A) X = B. A zero pivot gives infinities or NaN.
  void solve(Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) const {
    for_each_chunk(ctx, B.cols(), 1, [&](Context& worker, Index column, Index) {
      Workspace::Scope scope(worker.workspace);
      S* x = scope.take<S>(n_);
      for (Index i = 0; i < n_; ++i) x[i] = B(i, column);
      op == Op::none ? forward(x) : backward(x);
      for (Index i = 0; i < n_; ++i) X(i, column) = x[i];
    });
  }
  LogDeterminant<S> log_determinant() const {
    LogDeterminant<S> d;
    for (Index j = 0; j < n_; ++j) {
      d = d * LogDeterminant<S>::of(at(j, j));
      if (pivots_[static_cast<std::size_t>(j)] != j) d.sign = -d.sign;
    }
    return d;
  }
  /// A back: the elimination undone, column by column from the last. As many flops as it took.
  template <class Banded>
  Banded original() const {
    BandedLu lu = *this;
    for (Index j = n_; j-- > 0;) {
      S* from = &lu.at(j, j);
      for (Index i = j + 1; i < below(j); ++i) {
        S* to = &lu.at(i, j);
        const S factor = *to;
        *to = S(0);
        if (factor == S(0)) continue;
        for (Index c = 0; c < right(j) - j; ++c) to[c] += factor * from[c];
      }
      const Index p = pivots_[static_cast<std::size_t>(j)];
      if (p != j)
        for (Index c = j; c < right(j); ++c) std::swap(lu.at(p, c), lu.at(j, c));
    }
    Banded A(n_, n_, lower_, width_ - 2 * lower_ - 1);
    for (Index d = -A.lower(); d <= A.upper(); ++d) {
      const auto e = A.diagonal(d);
      for (Index k = 0; k < e.extent(0); ++k) e[k] = lu.at(std::max<Index>(0, -d) + k, std::max<Index>(0, d) + k);
    }
    return A;
  }

 private:
  S& at(Index i, Index j) { return entries_[i * width_ + j - i + lower_]; }
  const S& at(Index i, Index j) const { return entries_[i * width_ + j - i + lower_]; }
  Index below(Index j) const { return std::min(n_, j + lower_ + 1); }
  Index right(Index j) const { return std::min(n_, j + width_ - lower_); }

  void forward(S* x) const {
    for (Index j = 0; j < n_; ++j) {
      std::swap(x[j], x[pivots_[static_cast<std::size_t>(j)]]);
      for (Index i = j + 1; i < below(j); ++i) x[i] -= at(i, j) * x[j];
    }
    for (Index j = n_; j-- > 0;) {
      S sum = x[j];
      for (Index c = j + 1; c < right(j); ++c) sum -= at(j, c) * x[c];
      x[j] = sum / at(j, j);
    }
  }
  void backward(S* x) const {  // Uᵀ, then Lᵀ and the exchanges in reverse
    for (Index j = 0; j < n_; ++j) {
      x[j] /= at(j, j);
      for (Index c = j + 1; c < right(j); ++c) x[c] -= at(j, c) * x[j];
    }
    for (Index j = n_; j-- > 0;) {
      for (Index i = j + 1; i < below(j); ++i) x[j] -= at(i, j) * x[i];
      std::swap(x[j], x[pivots_[static_cast<std::size_t>(j)]]);
    }
  }

  Index n_, lower_, width_;
  Buffer<S> entries_;
  std::vector<Index> pivots_;
};

}  // namespace tessera::inline TESSERA_ABI::detail
