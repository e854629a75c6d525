/// Diagonal matrices.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <string_view>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/core/order.hpp>
#include <tessera/expr/closed_form.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/expr/properties.hpp>

namespace tessera::inline TESSERA_ABI {

/// diag(d) (N,N). Owns d; a transpose is itself. N flops a column.
template <std::floating_point S>
class Diagonal : public OperatorBase<Diagonal<S>> {
 public:
  using Scalar = S;
  static constexpr std::string_view type_name = "Diagonal";
  static constexpr Property properties = Property::diagonal;

  Diagonal() = default;
  explicit Diagonal(Buffer<S> entries) : entries_(std::move(entries)) {}
  explicit Diagonal(VectorView<const S> entries) : entries_(entries.extent(0), uninitialized) {
    for (Index i = 0; i < entries_.size(); ++i) entries_[i] = entries[i];
  }

  Index rows() const { return entries_.size(); }
  Index cols() const { return entries_.size(); }
  VectorView<const S> entries() const { return {entries_.data(), entries_.size()}; }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    detail::scale_rows(ctx, alpha, entries(), X, beta, Y);
  }
  /// X = D⁻¹ B. A zero on the diagonal gives infinities or NaN.
  void solve(Context& ctx, Op, MatrixView<const S> B, MatrixView<S> X) const {
    detail::check_solve(*this, B, X);
    for (Index j = 0; j < B.cols(); ++j)
      map(
          ctx, [](auto& x, const auto& b, const auto& d) { x = b / d; }, X.col(j), B.col(j), entries());
  }

  template <class F>
  void for_each_buffer(F&& f) const {
    f(byte_range(entries()));
  }
  std::size_t bytes() const { return entries_.bytes(); }
  double flops(Index n) const { return static_cast<double>(rows()) * static_cast<double>(n); }
  void explain(Context& ctx, Op, Index, const KernelSink& sink) const {
    const auto scale = [](auto& y, const auto& x, const auto& d) { y = d * x; };
    const MapArgs<decltype(scale), S, const S, const S> args{{}, &scale, {}, {1, 1, 1}};
    MapKernels::explain(ctx, args, sink);
  }
  Eigen::VectorX<S> diagonal() const { return Eigen::Map<const Eigen::VectorX<S>>(entries_.data(), rows()); }
  LogDeterminant<S> log_determinant() const { return log_determinant_of_diagonal(diagonal()); }
  S frobenius_norm() const { return diagonal().stableNorm(); }
  Eigen::VectorX<S> eigenvalues() const {
    Eigen::VectorX<S> values = diagonal();
    std::sort(values.data(), values.data() + values.size(), detail::Rising{});
    return values;
  }
  Eigen::VectorX<S> singular_values() const {
    Eigen::VectorX<S> values = diagonal().cwiseAbs();
    std::sort(values.data(), values.data() + values.size(), detail::Falling{});
    return values;
  }
  Eigen::MatrixX<S> to_dense() const { return diagonal().asDiagonal(); }

  std::span<S> parameters() { return entries_; }
  Index parameter_count() const { return entries_.size(); }
  /// dparams(i) = beta * dparams(i) + sum over n of dY(i,n) X(i,n).
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    for_each_chunk(ctx, rows(), 1024, [&](Context&, Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        S sum = 0;
        for (Index n = 0; n < X.cols(); ++n) sum += dY(i, n) * X(i, n);
        S& d = dparams[static_cast<std::size_t>(i)];
        d = beta == S(0) ? sum : beta * d + sum;
      }
    });
  }

 private:
  Buffer<S> entries_;
};

/// diag(d) of a view (N) or an Eigen vector; copies d.
template <class T>
auto diagonal(VectorView<T> d) {
  return Diagonal<std::remove_const_t<T>>(VectorView<const std::remove_const_t<T>>(d));
}
template <EigenDense E>
auto diagonal(const E& d) {
  using S = typename E::Scalar;
  static_assert(E::IsVectorAtCompileTime, "tessera: diagonal() takes a vector");
  Buffer<S> entries(d.size(), uninitialized);
  Eigen::Map<Eigen::Matrix<S, E::RowsAtCompileTime == 1 ? 1 : -1, E::RowsAtCompileTime == 1 ? -1 : 1>>(
      entries.data(), d.rows(), d.cols()) = d.matrix();
  return Diagonal<S>(std::move(entries));
}

template <class S>
keep_left transposed(const Diagonal<S>&) {
  return {};
}

/// diag(d)⁻¹ = diag(1/d). A zero gives an infinity.
template <class S>
Diagonal<S> inverted(const Diagonal<S>& D) {
  Buffer<S> entries(D.rows(), uninitialized);
  for (Index i = 0; i < D.rows(); ++i) entries[i] = S(1) / D.entries()[i];
  return Diagonal<S>(std::move(entries));
}

namespace detail {
template <class S, class F>
Diagonal<S> zip(const Diagonal<S>& a, const Diagonal<S>& b, F&& f) {
  Buffer<S> entries(a.rows(), uninitialized);
  for (Index i = 0; i < a.rows(); ++i) entries[i] = f(a.entries()[i], b.entries()[i]);
  return Diagonal<S>(std::move(entries));
}
}  // namespace detail

/// diag(a) diag(b) = diag(a∘b)
template <class S>
Diagonal<S> multiply(const Diagonal<S>& a, const Diagonal<S>& b) {
  return detail::zip(a, b, [](S x, S y) { return x * y; });
}

/// diag(a) + diag(b) = diag(a + b)
template <class S>
Diagonal<S> add(const Diagonal<S>& a, const Diagonal<S>& b) {
  return detail::zip(a, b, [](S x, S y) { return x + y; });
}

/// diag(d)⁺: 1/d, and 0 where d is 0.
template <class S>
Diagonal<S> pseudo_inverted(const Diagonal<S>& D) {
  return diagonal(Eigen::VectorX<S>(D.diagonal().unaryExpr([](S x) { return x == S(0) ? S(0) : S(1) / x; })));
}
/// exp(diag(d)) = diag(exp(d))
template <class S>
Diagonal<S> exponential(const Diagonal<S>& D) {
  return diagonal(Eigen::VectorX<S>(D.diagonal().array().exp()));
}
/// √diag(d) = diag(√d); of a negative entry NaN.
template <class S>
Diagonal<S> square_root(const Diagonal<S>& D) {
  return diagonal(Eigen::VectorX<S>(D.diagonal().array().sqrt()));
}

}  // namespace tessera::inline TESSERA_ABI
