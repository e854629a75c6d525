/// Triangular matrices of quantized panels.
#pragma once

#include <algorithm>
#include <concepts>
#include <string>
#include <utility>
#include <vector>

#include <tessera/matrix/detail/quantized_part.hpp>
#include <tessera/matrix/detail/quantized_structure.hpp>
#include <tessera/matrix/triangular.hpp>

namespace tessera::inline TESSERA_ABI {

/// A triangular (N,N) in codes of F along its rows: for each 64 rows, or as many as a block of F is long, the panel
/// beside the diagonal and the square on it. Squares are decoded in every product, what they hold beyond the diagonal
/// taken for 0 and a unit diagonal for 1, so that those are exact in formats that have no 0 or 1. Immutable; copies
/// share the codes. Triangular as in triangular.hpp.
template <PanelFormat F, Shape shape>
class QuantizedTriangular : public detail::QuantizedStructure<QuantizedTriangular<F, shape>, F> {
  template <class P>
  using Source = Triangular<P, shape>;
  static constexpr bool is_lower = Source<float>::is_lower, is_unit = Source<float>::is_unit;

 public:
  static constexpr Property properties = Source<float>::properties;

  /// See quantize.
  template <class P>
  QuantizedTriangular(Context& ctx, const Triangular<P, shape>& A, Activations mode) : n_(A.rows()) {
    for (Index b = 0; b < n_; b += side) {
      const auto part = [&](Index first, Index count, Activations by) {
        Dense<float> values(height(b), count);
        for (Index i = 0; i < height(b); ++i)
          for (Index j = 0; j < count; ++j) values(i, j) = is_unit && b + i == first + j ? 0 : A(b + i, first + j);
        return detail::quantized_part<F>(ctx, values, by);
      };
      beside_.push_back(part(from(b), count(b), mode));
      on_.push_back(part(b, height(b), Activations::exact));
    }
  }
  Index rows() const { return n_; }
  Index cols() const { return n_; }

  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    for (Index b = 0; b < n_; b += side) {
      Workspace::Scope scope(ctx.workspace);
      auto D = square(scope, b);
      if (op == Op::transpose) D = D.transposed();
      gemm(ctx, alpha, D, X.slice(0, b, height(b)), beta, Y.slice(0, b, height(b)));
    }
    for (Index b = 0; b < n_; b += side) {
      const Index r = b, c = from(b), h = height(b), w = count(b);
      if (w == 0) continue;
      if (op == Op::none)
        beside(b).apply(ctx, op, alpha, X.slice(0, c, w), 1.0f, Y.slice(0, r, h));
      else
        beside(b).apply(ctx, op, alpha, X.slice(0, r, h), 1.0f, Y.slice(0, c, w));
    }
  }
  /// X (N,R) with op(A) X = B by substitution of the decoded values, N² flops a column. Of a zero on the diagonal X is
  /// not finite; errors of codes grow from row to row as those of the entries would.
  void solve(Context& ctx, Op op, MatrixView<const float> B, MatrixView<float> X) const {
    detail::check_solve(*this, B, X);
    detail::add_scaled(ctx, 1.0f, B, 0.0f, X);
    const bool ascending = is_lower == (op == Op::none);
    for (Index k = 0; k < n_; k += side) {
      const Index b = ascending ? k : (n_ - 1) / side * side - k;
      const auto x = X.slice(0, b, height(b)), others = X.slice(0, from(b), count(b));
      const auto panel = beside(b).activations(Activations::exact);
      if (op == Op::none && count(b) > 0) panel.apply(ctx, op, -1.0f, others, 1.0f, x);
      Workspace::Scope scope(ctx.workspace);
      auto D = square(scope, b);
      if (op == Op::transpose) D = D.transposed();
      auto to = detail::eigen_map(x);
      if (ascending)
        detail::eigen_map(D).template triangularView<Eigen::Lower>().solveInPlace(to);
      else
        detail::eigen_map(D).template triangularView<Eigen::Upper>().solveInPlace(to);
      if (op == Op::transpose && count(b) > 0) panel.apply(ctx, op, -1.0f, x, 1.0f, others);
    }
  }
  template <class Visit>
  void for_each_part(Visit&& visit) const {
    for (const auto* parts : {&beside_, &on_})
      for (const auto& part : *parts) visit(part);
  }
  double flops(Index n) const {
    double total = 0;
    for_each_part([&](const auto& part) { total += tessera::flops(part, n); });
    return total;
  }
  std::string describe() const {
    return detail::concat("Quantized", Source<float>::type_name, "<", F::name, "> ", detail::shape_text(n_, n_));
  }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    if (n_ > 0) (is_lower ? beside_.back() : beside_.front()).explain(ctx, op, n, sink);
  }
  Eigen::VectorXf diagonal() const {
    Eigen::VectorXf d = Eigen::VectorXf::Ones(n_);
    for (Index b = 0; b < n_ && !is_unit; b += side)
      d.segment(b, height(b)) = on_[static_cast<std::size_t>(b / side)].to_dense().diagonal();
    return d;
  }
  LogDeterminant<float> log_determinant() const { return log_determinant_of_diagonal(diagonal()); }
  Eigen::MatrixXf to_dense() const {
    Eigen::MatrixXf dense = Eigen::MatrixXf::Zero(n_, n_);
    for (Index b = 0; b < n_; b += side) {
      Workspace::Scope scope(default_context().workspace);
      dense.block(b, b, height(b), height(b)) = detail::eigen_map(square(scope, b));
      dense.block(b, from(b), height(b), count(b)) = beside(b).to_dense();
    }
    return dense;
  }

 private:
  using Part = detail::QuantizedPart<F>;
  static constexpr Index side = std::max<Index>(64, F::block_size);
  /// Of the panel whose first row is b: its rows, and the columns beside the square on the diagonal.
  Index height(Index b) const { return std::min(side, n_ - b); }
  Index from(Index b) const { return is_lower ? 0 : b + height(b); }
  Index count(Index b) const { return is_lower ? b : n_ - from(b); }
  const Part& beside(Index b) const { return beside_[static_cast<std::size_t>(b / side)]; }
  MatrixView<const float> square(Workspace::Scope& scope, Index b) const {
    const Index h = height(b);
    const MatrixView<float> D(scope.template take<float>(h * h), h, h);
    on_[static_cast<std::size_t>(b / side)].decode(0, 0, D);
    for (Index i = 0; i < h; ++i) {
      for (Index j = is_lower ? i + 1 : 0; j < (is_lower ? h : i); ++j) D(i, j) = 0;
      if (is_unit) D(i, i) = 1;
    }
    return D;
  }
  Index n_ = 0;
  std::vector<Part> beside_, on_;
};

/// A in blocks of F, or with a scale a row of a panel: `auto Q = quantize<Q8_0>(ctx, triangular<Shape::lower>(W))`.
/// `mode` as in Quantized, of the panels beside the diagonal. O(N²)
template <PanelFormat F, DenseElement P, Shape shape>
requires std::same_as < accum_t<P>,
float > QuantizedTriangular<F, shape> quantize(Context& ctx, const Triangular<P, shape>& A,
                                               Activations mode = Activations::int8) {
  return {ctx, A, mode};
}

}  // namespace tessera::inline TESSERA_ABI
