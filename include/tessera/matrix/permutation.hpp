/// Permutation matrices.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdlib>
#include <span>
#include <string_view>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/expr/closed_form.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/expr/properties.hpp>

namespace tessera::inline TESSERA_ABI {

/// P (N,N) with (P x)(i) = x(p(i)). The transpose is the inverse. Owns p; no flops.
template <std::floating_point S>
class Permutation : public OperatorBase<Permutation<S>> {
 public:
  using Scalar = S;
  static constexpr std::string_view type_name = "Permutation";
  static constexpr Property properties = Property::orthogonal;

  Permutation() = default;
  /// Throws shape_error unless `sources` holds each of 0 to N-1 once.
  explicit Permutation(std::span<const Index> sources) : sources_(static_cast<Index>(sources.size()), uninitialized) {
    Buffer<unsigned char> seen(sources_.size());
    for (Index i = 0; i < sources_.size(); ++i) {
      const Index p = sources[static_cast<std::size_t>(i)];
      if (p < 0 || p >= sources_.size() || seen[p] != 0)
        throw shape_error(detail::concat("tessera: Permutation of ", sources_.size(), ": entry ", i, " is ", p,
                                         p < 0 || p >= sources_.size() ? ", outside 0 to N-1" : ", a second time"));
      seen[p] = 1;
      sources_[i] = p;
    }
  }

  Index rows() const { return sources_.size(); }
  Index cols() const { return sources_.size(); }
  /// p: row i of P * X is row p(i) of X.
  std::span<const Index> sources() const { return sources_; }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const auto move = [&](S from, S& to) { to = beta == S(0) ? alpha * from : alpha * from + beta * to; };
    const Index* p = sources_.data();
    if (X.cols() > 1 && std::abs(Y.row_stride()) > std::abs(Y.col_stride())) {
      for_each_chunk(ctx, rows(), 256, [&](Context&, Index begin, Index end) {
        for (Index i = begin; i < end; ++i) {
          const auto x = X.row(op == Op::none ? p[i] : i);
          const auto y = Y.row(op == Op::none ? i : p[i]);
          for (Index j = 0; j < X.cols(); ++j) move(x[j], y[j]);
        }
      });
      return;
    }
    for_each_chunk(ctx, rows(), Index{1} << 15, [&](Context&, Index begin, Index end) {
      for (Index j = 0; j < X.cols(); ++j) {
        const auto x = X.col(j);
        const auto y = Y.col(j);
        if (op == Op::none)
          for (Index i = begin; i < end; ++i) move(x[p[i]], y[i]);
        else
          for (Index i = begin; i < end; ++i) move(x[i], y[p[i]]);
      }
    });
  }
  /// X = P⁻¹ B = Pᵀ B.
  void solve(Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) const {
    detail::check_solve(*this, B, X);
    apply(ctx, flip(op), S(1), B, S(0), X);
  }

  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{sources_.begin(), sources_.end()});
  }
  std::size_t bytes() const { return sources_.bytes(); }
  double flops(Index) const { return 0; }
  Eigen::VectorX<S> diagonal() const {
    Eigen::VectorX<S> d(rows());
    for (Index i = 0; i < rows(); ++i) d[i] = S(sources_[i] == i ? 1 : 0);
    return d;
  }
  /// 1 with the permutation's parity. O(N).
  LogDeterminant<S> log_determinant() const {
    LogDeterminant<S> d;
    Buffer<unsigned char> seen(sources_.size());
    for (Index i = 0; i < rows(); ++i) {
      Index length = 0;
      for (Index k = i; seen[k] == 0; k = sources_[k], ++length) seen[k] = 1;
      if (length > 0 && length % 2 == 0) d.sign = -d.sign;
    }
    return d;
  }
  S frobenius_norm() const { return std::sqrt(static_cast<S>(rows())); }
  Eigen::VectorX<S> singular_values() const { return Eigen::VectorX<S>::Ones(rows()); }
  Eigen::MatrixX<S> to_dense() const {
    Eigen::MatrixX<S> dense = Eigen::MatrixX<S>::Zero(rows(), cols());
    for (Index i = 0; i < rows(); ++i) dense(i, sources_[i]) = S(1);
    return dense;
  }

 private:
  struct Trusted {};
  Permutation(Buffer<Index> sources, Trusted) : sources_(std::move(sources)) {}

  template <std::floating_point T>
  friend Permutation<T> transposed(const Permutation<T>&);
  template <std::floating_point T>
  friend Permutation<T> multiply(const Permutation<T>&, const Permutation<T>&);

  Buffer<Index> sources_;
};

/// P with (P x)(i) = x(sources(i)).
template <std::floating_point S>
Permutation<S> permutation(std::span<const Index> sources) {
  return Permutation<S>(sources);
}

/// Pᵀ = P⁻¹, another permutation. O(N).
template <std::floating_point S>
Permutation<S> transposed(const Permutation<S>& P) {
  Buffer<Index> sources(P.rows(), uninitialized);
  for (Index i = 0; i < P.rows(); ++i) sources[P.sources_[i]] = i;
  return {std::move(sources), typename Permutation<S>::Trusted{}};
}

/// P⁻¹ = Pᵀ.
template <std::floating_point S>
Permutation<S> inverted(const Permutation<S>& P) {
  return transposed(P);
}

/// (P Q)(i) = q(p(i)). O(N).
template <std::floating_point S>
Permutation<S> multiply(const Permutation<S>& P, const Permutation<S>& Q) {
  Buffer<Index> sources(P.rows(), uninitialized);
  for (Index i = 0; i < P.rows(); ++i) sources[i] = Q.sources_[P.sources_[i]];
  return {std::move(sources), typename Permutation<S>::Trusted{}};
}

}  // namespace tessera::inline TESSERA_ABI
