/// Triangular matrices, stored and multiplied by block rows without the empty half.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <tessera/core/buffer.hpp>
#include <tessera/expr/closed_form.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/expr/properties.hpp>
#include <tessera/matrix/dense.hpp>

namespace tessera::inline TESSERA_ABI {

enum class Shape { lower, upper, unit_lower, unit_upper };

/// A triangular (N,N). Owns panels of 64 rows of its half: N·(N + 64)/2 elements; those of the diagonal blocks beyond
/// the diagonal are zeros, and a unit diagonal is stored. N² flops a column. bf16 and f16 compute in f32. Parameters:
/// the half's entries row by row, without a unit diagonal.
template <DenseElement P, Shape shape>
class Triangular : public OperatorBase<Triangular<P, shape>> {
  using S = accum_t<P>;

 public:
  using Scalar = S;
  using Element = P;
  static constexpr bool is_lower = shape == Shape::lower || shape == Shape::unit_lower;
  static constexpr bool is_unit = shape == Shape::unit_lower || shape == Shape::unit_upper;
  static constexpr Property properties = is_lower ? Property::lower : Property::upper;
  static constexpr std::string_view type_name = shape == Shape::lower        ? "Lower"
                                                : shape == Shape::upper      ? "Upper"
                                                : shape == Shape::unit_lower ? "UnitLower"
                                                                             : "UnitUpper";

  Triangular() = default;
  /// That half of a dense (N,N); the other half, and a unit diagonal, are not read; rounded to P. Throws shape_error.
  template <class U>
  requires std::is_convertible_v<U, double>
  explicit Triangular(MatrixView<U> dense) : n_(dense.rows()) {
    if (dense.rows() != dense.cols())
      throw shape_error(detail::concat("tessera: ", type_name, "(", detail::shape_text(dense.rows(), dense.cols()),
                                       "): expected a square matrix"));
    Index total = 0;
    for (Index b = 0; b < n_; b += block) {
      starts_.push_back(total);
      total += height(b) * width(b);
    }
    entries_ = Buffer<P>(total);
    for (Index i = 0; i < n_; ++i) {
      for (Index j = is_lower ? 0 : i + is_unit; j < (is_lower ? i + !is_unit : n_); ++j)
        at(i, j) = static_cast<P>(dense(i, j));
      if (is_unit) at(i, i) = static_cast<P>(S(1));
    }
  }

  Index rows() const { return n_; }
  Index cols() const { return n_; }
  S operator()(Index i, Index j) const {
    return (is_lower ? j <= i : j >= i) ? static_cast<S>(const_cast<Triangular*>(this)->at(i, j)) : S(0);
  }
  /// An entry of the half.
  P& at(Index i, Index j) {
    const Index b = i / block * block;
    return entries_[start(b) + (i - b) * width(b) + j - first(b)];
  }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    if (op == Op::none)
      for (Index b = 0; b < n_; b += block)
        detail::dense_apply<P>(ctx, alpha, panel(b), X.slice(0, first(b), width(b)), beta, Y.slice(0, b, height(b)));
    else
      // Block column by block column: the panels that hold it add up in order.
      for (Index c = 0; c < n_; c += block) {
        S scale = beta;
        for (Index b = is_lower ? c : 0; b < (is_lower ? n_ : c + 1); b += block) {
          detail::dense_apply<P>(ctx, alpha, panel(b).slice(1, c - first(b), height(c)).transposed(),
                                 X.slice(0, b, height(b)), scale, Y.slice(0, c, height(c)));
          scale = S(1);
        }
      }
  }
  /// X (N,R) with op(A) X = B by substitution, N² flops a column. Of a zero on the diagonal X is not finite.
  void solve(Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) const {
    detail::check_solve(*this, B, X);
    detail::add_scaled(ctx, S(1), B, S(0), X);
    const bool ascending = is_lower == (op == Op::none);
    for (Index k = 0; k < n_; k += block) {
      const Index b = ascending ? k : (n_ - 1) / block * block - k;
      const auto x = X.slice(0, b, height(b));
      const Index from = ascending ? 0 : b + height(b), count = ascending ? b : n_ - from;  // solved before
      if (op == Op::none) {
        if (count > 0)
          detail::dense_apply<P>(ctx, S(-1), panel(b).slice(1, from - first(b), count), X.slice(0, from, count), S(1),
                                 x);
      } else {
        for (Index p = from; p < from + count; p += block)
          detail::dense_apply<P>(ctx, S(-1), panel(p).slice(1, b - first(p), height(b)).transposed(),
                                 X.slice(0, p, height(p)), S(1), x);
      }
      auto diagonal_block = panel(b).slice(1, b - first(b), height(b));
      if (op == Op::transpose) diagonal_block = diagonal_block.transposed();
      auto to = detail::eigen_map(x);
      const auto substitute = [&](const auto& T) {
        if (ascending)
          T.template triangularView<Eigen::Lower>().solveInPlace(to);
        else
          T.template triangularView<Eigen::Upper>().solveInPlace(to);
      };
      if constexpr (std::same_as<P, S>)
        substitute(detail::eigen_map(diagonal_block));
      else
        substitute(DenseView<P>(diagonal_block).to_dense());
    }
  }

  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{entries_.begin(), entries_.end()});
  }
  std::size_t bytes() const { return entries_.bytes(); }
  double flops(Index n) const { return 2.0 * static_cast<double>(entries_.size()) * static_cast<double>(n); }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    if (n_ > 0) detail::dense_explain<P>(ctx, op == Op::none ? panel(0) : panel(0).transposed(), n, sink);
  }
  Eigen::VectorX<S> diagonal() const {
    Eigen::VectorX<S> d(n_);
    for (Index i = 0; i < n_; ++i) d[i] = (*this)(i, i);
    return d;
  }
  LogDeterminant<S> log_determinant() const { return log_determinant_of_diagonal(diagonal()); }
  Eigen::MatrixX<S> to_dense() const {
    Eigen::MatrixX<S> dense(n_, n_);
    for (Index j = 0; j < n_; ++j)
      for (Index i = 0; i < n_; ++i) dense(i, j) = (*this)(i, j);
    return dense;
  }

  Index parameter_count() const { return is_unit ? n_ * (n_ - 1) / 2 : n_ * (n_ + 1) / 2; }
  /// dY Xᵀ, of which the half is taken.
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    S* to = dparams.data();
    for (Index b = 0; b < n_; b += block) {
      Workspace::Scope scope(ctx.workspace);
      const MatrixView<S> G(scope.take<S>(height(b) * width(b)), height(b), width(b));
      detail::dense_apply<S>(ctx, S(1), dY.slice(0, b, height(b)), X.slice(0, first(b), width(b)).transposed(), S(0),
                             G);
      for (Index i = b; i < b + height(b); ++i)
        for (Index j = is_lower ? 0 : i + is_unit; j < (is_lower ? i + !is_unit : n_); ++j, ++to)
          *to = G(i - b, j - first(b)) + (beta == S(0) ? S(0) : beta * *to);
    }
  }

 private:
  static constexpr Index block = 64;
  /// Of the panel whose first row is b: its rows, columns and first column.
  Index height(Index b) const { return std::min(block, n_ - b); }
  Index width(Index b) const { return is_lower ? b + height(b) : n_ - b; }
  static Index first(Index b) { return is_lower ? 0 : b; }
  Index start(Index b) const { return starts_[static_cast<std::size_t>(b / block)]; }
  MatrixView<const P> panel(Index b) const { return {entries_.data() + start(b), height(b), width(b)}; }

  Index n_ = 0;
  std::vector<Index> starts_;
  Buffer<P> entries_;
};

/// The half of a dense view or Eigen object: `triangular<Shape::unit_lower>(W)`. Throws shape_error.
template <Shape shape, class T>
auto triangular(MatrixView<T> dense) {
  return Triangular<std::remove_const_t<T>, shape>(MatrixView<const std::remove_const_t<T>>(dense));
}
template <Shape shape, EigenDense E>
auto triangular(const E& dense) {
  using S = typename E::Scalar;
  if constexpr (EigenDirect<E>) {
    return Triangular<S, shape>(MatrixView<const S>(view(dense)));
  } else {
    const Eigen::MatrixX<S> value = dense.matrix();
    return Triangular<S, shape>(view(value));
  }
}

}  // namespace tessera::inline TESSERA_ABI
