/// Butterfly matrices.
#pragma once

#include <algorithm>
#include <concepts>
#include <limits>
#include <span>
#include <string_view>

#include <tessera/kernels/butterfly/butterfly.hpp>
#include <tessera/matrix/dense.hpp>

namespace tessera::inline TESSERA_ABI {

/// B_{m-1} ⋯ B_1 B_0 (N,N), N = 2^m: level l mixes entries i and i ^ 2^l by any 2x2 matrix of their own. 3·N·log2 N
/// flops a column, 2·N·log2 N parameters: those of a level are its diagonal, then what i takes from i ^ 2^l. Contains
/// the Walsh-Hadamard transform and, up to a permutation of its input, the Fourier transform. T. Dao et al., "Learning
/// Fast Algorithms for Linear Transforms Using Butterfly Factorizations" (2019).
template <DenseElement P>
class Butterfly : public OperatorBase<Butterfly<P>> {
 public:
  using Scalar = accum_t<P>;
  static constexpr std::string_view type_name = "Butterfly";

  Butterfly() = default;
  /// Zeros. Throws shape_error unless n is a power of two.
  explicit Butterfly(Index n) {
    while (levels_ < 62 && (Index{1} << levels_) < n) ++levels_;
    const auto refuse = [&](const auto&... why) {
      throw shape_error(detail::concat("tessera: Butterfly ", detail::shape_text(n, n), ": ", why...));
    };
    const Index power = Index{1} << levels_;
    if (n < 1 || n > power) refuse("expected a power of two from 1 to 2^62");
    if (n != power) refuse("expected a power of two, as ", power / 2, " or ", power);
    if (n > std::numeric_limits<Index>::max() / 2 / std::max<Index>(levels_, 1))
      refuse("its 2*", n, "*", levels_, " weights are too many to count");
    weights_ = Buffer<P>(2 * n * levels_);
  }

  Index rows() const { return Index{1} << levels_; }
  Index cols() const { return rows(); }
  Index levels() const { return levels_; }
  /// What entry i of a level takes from itself and from i ^ 2^level.
  P& own(Index level, Index i) { return weights_[2 * level * rows() + i]; }
  P& other(Index level, Index i) { return weights_[(2 * level + 1) * rows() + i]; }
  const P& own(Index level, Index i) const { return weights_[2 * level * rows() + i]; }
  const P& other(Index level, Index i) const { return weights_[(2 * level + 1) * rows() + i]; }
  std::span<P> parameters() { return weights_; }
  std::span<const P> parameters() const { return weights_; }

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const bool in_place = beta == Scalar(0) && (Y.row_stride() == 1 || Y.col_stride() == 1);
    for (Index j = 0; j < X.cols(); j += columns_at_once) {
      const Index n = std::min(columns_at_once, X.cols() - j);
      Workspace::Scope scope(ctx.workspace);
      const auto y = Y.slice(1, j, n);
      const auto T = in_place ? y : detail::scratch_like(scope, y, rows(), n);
      detail::add_scaled<Scalar>(ctx, alpha, X.slice(1, j, n), Scalar(0), T);
      if (alpha != Scalar(0)) butterfly<P, Scalar>(ctx, op, levels_, weights_.data(), T);
      if (!in_place) detail::add_scaled<Scalar>(ctx, Scalar(1), T, beta, y);
    }
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{weights_.begin(), weights_.end()});
  }
  std::size_t bytes() const { return weights_.bytes(); }
  double flops(Index n) const { return 3.0 * static_cast<double>(rows() * levels_) * static_cast<double>(n); }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    ButterflyArgs<P, Scalar> args;
    args.op = op;
    args.levels = levels_;
    args.X = {nullptr, {rows(), n}, {1, rows()}};
    ButterflyKernels::explain(ctx, args, sink);
  }

  Index parameter_count() const { return weights_.size(); }
  /// The values before every level are kept: N·levels·n scratch. 7·N·log2 N flops a column.
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    const Index size = rows(), n = X.cols();
    Workspace::Scope scope(ctx.workspace);
    Scalar* value = scope.take<Scalar>(size * n * (levels_ + 1));
    Scalar* gradient = scope.take<Scalar>(size * n * 2);
    detail::add_scaled<Scalar>(ctx, Scalar(1), X, Scalar(0), MatrixView<Scalar>(value, size, n));
    detail::add_scaled<Scalar>(ctx, Scalar(1), dY, Scalar(0), MatrixView<Scalar>(gradient, size, n));
    for (Index l = 0; l < levels_; ++l, value += size * n)
      for (Index i = 0; i < size; ++i)
        for (Index j = 0; j < n; ++j)
          value[(size + i) * n + j] = static_cast<Scalar>(own(l, i)) * value[i * n + j] +
                                      static_cast<Scalar>(other(l, i)) * value[(i ^ Index{1} << l) * n + j];
    for (Index l = levels_; l-- > 0;) {
      value -= size * n;
      Scalar* next = gradient + size * n;
      for (Index i = 0; i < size; ++i) {
        const Index k = i ^ Index { 1 } << l;
        Scalar with_own(0), with_other(0);
        for (Index j = 0; j < n; ++j) {
          const Scalar g = gradient[i * n + j];
          with_own += g * value[i * n + j];
          with_other += g * value[k * n + j];
          next[i * n + j] = static_cast<Scalar>(own(l, i)) * g + static_cast<Scalar>(other(l, k)) * gradient[k * n + j];
        }
        add_to(dparams[static_cast<std::size_t>(2 * l * size + i)], beta, with_own);
        add_to(dparams[static_cast<std::size_t>((2 * l + 1) * size + i)], beta, with_other);
      }
      std::copy_n(next, size * n, gradient);
    }
  }

 private:
  static constexpr Index columns_at_once = 64;
  static void add_to(Scalar& to, Scalar beta, Scalar sum) { to = beta == Scalar(0) ? sum : beta * to + sum; }

  Index levels_ = 0;
  Buffer<P> weights_;
};

}  // namespace tessera::inline TESSERA_ABI
