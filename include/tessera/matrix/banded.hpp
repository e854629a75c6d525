/// Banded matrices, tridiagonal ones among them.
#pragma once

#include <algorithm>
#include <concepts>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tessera/expr/closed_form.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/kernels/banded/banded.hpp>
#include <tessera/matrix/detail/banded_lu.hpp>

namespace tessera::inline TESSERA_ABI {

/// A (M,N) with A(i,j) = 0 unless -lower <= j - i <= upper. Owns its diagonals, each contiguous, from the lowest to the
/// highest. 2 flops an entry and column. Parameters: the diagonals' entries in that order.
template <std::floating_point S>
class Banded : public OperatorBase<Banded<S>> {
 public:
  using Scalar = S;

  Banded() : Banded(0, 0, 0, 0) {}
  /// Zeros. Bandwidths beyond the shape are cut. Throws shape_error for negative sizes and those that do not fit.
  Banded(Index rows, Index cols, Index lower, Index upper) : rows_(rows), cols_(cols) {
    if (rows < 0 || cols < 0 || lower < 0 || upper < 0)
      throw shape_error(detail::concat("tessera: Banded(", rows, ", ", cols, ", ", lower, ", ", upper,
                                       "): expected sizes and bandwidths of 0 or more"));
    lower_ = rows == 0 || cols == 0 ? 0 : std::min(lower, rows - 1);
    upper_ = rows == 0 || cols == 0 ? 0 : std::min(upper, cols - 1);
    Index count = 0, most = 0, total = 0;
    if (__builtin_add_overflow(lower_, upper_, &count) || __builtin_add_overflow(count, 1, &count) ||
        __builtin_mul_overflow(count, std::min(rows, cols), &most))
      throw shape_error(detail::concat("tessera: Banded(", rows, ", ", cols, ", ", lower, ", ", upper,
                                       "): expected entries that can be counted"));
    starts_.reserve(static_cast<std::size_t>(count) + 1);
    offsets_.reserve(static_cast<std::size_t>(count));
    for (Index d = -lower_; d <= upper_; ++d) {
      starts_.push_back(total);
      offsets_.push_back(d);
      total += length(d);
    }
    starts_.push_back(total);
    entries_ = Buffer<S>(total);
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index lower() const { return lower_; }
  Index upper() const { return upper_; }
  /// The d-th diagonal: entry k is A(max(0,-d) + k, max(0,d) + k). -lower() <= d <= upper(), else it
  /// throws shape_error.
  VectorView<S> diagonal(Index d) {
    check_diagonal(d);
    return {entries_.data() + start(d), length(d)};
  }
  VectorView<const S> diagonal(Index d) const {
    check_diagonal(d);
    return {entries_.data() + start(d), length(d)};
  }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    banded(ctx, arguments(op, alpha, X, beta, Y));
  }
  /// X (N,R) with op(A) X = B, by LU with partial pivoting within the band, factorised anew: O(N·lower·(lower + upper))
  /// flops. Of a singular A, X is not finite.
  void solve(Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) const {
    detail::check_solve(*this, B, X);
    detail::BandedLu<S>(*this).solve(ctx, op, B, X);
  }

  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{entries_.begin(), entries_.end()});
  }
  std::size_t bytes() const { return entries_.bytes(); }
  double flops(Index n) const { return 2.0 * static_cast<double>(entries_.size()) * static_cast<double>(n); }
  std::string describe() const {
    return detail::concat("Banded<", lower_, ",", upper_, "> ", detail::shape_text(rows_, cols_));
  }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    const Index m = op == Op::none ? rows_ : cols_, k = op == Op::none ? cols_ : rows_;
    BandedKernels::explain(
        ctx,
        arguments(op, S(1), MatrixView<const S>(nullptr, {k, n}, {1, k}), S(0), MatrixView<S>(nullptr, {m, n}, {1, m})),
        sink);
  }
  Eigen::VectorX<S> diagonal() const {
    const auto d = diagonal(Index{0});
    return Eigen::Map<const Eigen::VectorX<S>>(d.data(), d.extent(0));
  }
  LogDeterminant<S> log_determinant() const {
    if (rows_ != cols_)
      throw shape_error(detail::concat("tessera: determinant of (", describe(), "): expected a square matrix"));
    return detail::BandedLu<S>(*this).log_determinant();
  }
  S frobenius_norm() const {
    return Eigen::Map<const Eigen::VectorX<S>>(entries_.data(), entries_.size()).stableNorm();
  }
  Eigen::MatrixX<S> to_dense() const {
    Eigen::MatrixX<S> dense = Eigen::MatrixX<S>::Zero(rows_, cols_);
    for (Index d = -lower_; d <= upper_; ++d)
      for (Index k = 0; k < length(d); ++k) dense(row(d) + k, col(d) + k) = diagonal(d)[k];
    return dense;
  }

  std::span<S> parameters() { return entries_; }
  Index parameter_count() const { return entries_.size(); }
  /// Of A(i,j): the sum over n of dY(i,n) X(j,n).
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    for (Index d = -lower_; d <= upper_; ++d)
      for_each_chunk(ctx, length(d), 1024, [&](Context&, Index begin, Index end) {
        for (Index k = begin; k < end; ++k) {
          S sum = 0;
          for (Index n = 0; n < X.cols(); ++n) sum += dY(row(d) + k, n) * X(col(d) + k, n);
          S& to = dparams[static_cast<std::size_t>(start(d) + k)];
          to = beta == S(0) ? sum : beta * to + sum;
        }
      });
  }

 private:
  void check_diagonal(Index d) const {
    if (d < -lower_ || d > upper_)
      throw shape_error(
          detail::concat("tessera: diagonal ", d, " of (", describe(), "): expected ", -lower_, " to ", upper_));
  }
  static Index row(Index d) { return std::max<Index>(0, -d); }
  static Index col(Index d) { return std::max<Index>(0, d); }
  Index length(Index d) const { return std::max<Index>(0, std::min(rows_ - row(d), cols_ - col(d))); }
  Index start(Index d) const { return starts_[static_cast<std::size_t>(d + lower_)]; }

  BandedArgs<S> arguments(Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    const Index count = static_cast<Index>(offsets_.size());
    return {{}, op, rows_, cols_, count, offsets_.data(), starts_.data(), entries_.data(), alpha, beta, X, Y};
  }

  Index rows_, cols_, lower_, upper_;
  std::vector<Index> starts_, offsets_;
  Buffer<S> entries_;
};

/// The (N,N) matrix with these diagonals, of N-1, N and N-1 entries. Throws shape_error.
template <EigenDense E, EigenDense F, EigenDense G>
Banded<typename F::Scalar> tridiagonal(const E& lower, const F& main, const G& upper) {
  const Index n = main.size(), beside = std::max<Index>(n - 1, 0);
  if (lower.size() != beside || upper.size() != beside)
    throw shape_error(detail::concat("tessera: tridiagonal(", lower.size(), ", ", n, ", ", upper.size(),
                                     " entries): expected ", beside, ", ", n, ", ", beside));
  Banded<typename F::Scalar> A(n, n, 1, 1);
  for (Index i = 0; i < n; ++i) A.diagonal(0)[i] = main[i];
  for (Index i = 0; i < beside; ++i) {
    A.diagonal(-1)[i] = lower[i];
    A.diagonal(1)[i] = upper[i];
  }
  return A;
}

/// A⁻¹ of a banded A, factorised once. Copies share the factors.
template <std::floating_point S>
class BandedInverse : public OperatorBase<BandedInverse<S>> {
 public:
  using Scalar = S;
  static constexpr std::string_view type_name = "BandedInverse";
  static constexpr bool is_view = true;

  /// Throws shape_error unless A is square.
  explicit BandedInverse(const Banded<S>& A) {
    if (A.rows() != A.cols())
      throw shape_error(detail::concat("tessera: inverse of (", A.describe(), "): expected a square matrix"));
    lu_ = std::make_shared<const detail::BandedLu<S>>(A);
  }
  Index rows() const { return lu_->size(); }
  Index cols() const { return lu_->size(); }
  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    Workspace::Scope scope(ctx.workspace);
    const auto T = detail::scratch_like(scope, Y, Y.rows(), Y.cols());
    lu_->solve(ctx, op, X, T);
    detail::add_scaled<S>(ctx, alpha, T, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(lu_->buffer());
  }
  double flops(Index n) const { return lu_->flops() * static_cast<double>(n); }
  LogDeterminant<S> log_determinant() const {
    const auto d = lu_->log_determinant();
    return {-d.log_abs, d.sign};
  }
  /// A back, from its factors.
  Banded<S> inverted() const { return lu_->template original<Banded<S>>(); }

 private:
  std::shared_ptr<const detail::BandedLu<S>> lu_;
};

template <class S>
BandedInverse<S> inverted(const Banded<S>& A) {
  return BandedInverse<S>(A);
}
template <class S>
Banded<S> inverted(const BandedInverse<S>& A) {
  return A.inverted();
}

/// Aᵀ has the diagonals of A, in reverse.
template <class S>
Banded<S> transposed(const Banded<S>& A) {
  Banded<S> T(A.cols(), A.rows(), A.upper(), A.lower());
  for (Index d = -A.lower(); d <= A.upper(); ++d)
    for (Index k = 0; k < A.diagonal(d).extent(0); ++k) T.diagonal(-d)[k] = A.diagonal(d)[k];
  return T;
}

}  // namespace tessera::inline TESSERA_ABI
