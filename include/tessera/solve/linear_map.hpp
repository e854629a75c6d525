/// An operator with its type erased, for methods that only multiply: they are compiled once a Scalar.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <Eigen/Core>

#include <tessera/core/rng.hpp>
#include <tessera/expr/expr.hpp>

namespace tessera::inline TESSERA_ABI {

/// Refers to an operator and a context. One indirect call a product.
template <class S>
class LinearMap {
 public:
  using Scalar = S;
  using Vector = Eigen::VectorX<S>;
  using Matrix = Eigen::MatrixX<S>;

  template <LinearOperator A>
  LinearMap(Context& ctx, const A& a)
      : ctx_(&ctx),
        a_(&a),
        rows_(a.rows()),
        cols_(a.cols()),
        apply_([](const void* p, Context& c, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) {
          static_cast<const A*>(p)->apply(c, op, alpha, X, beta, Y);
        }) {}

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  void apply(Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    apply_(a_, *ctx_, op, alpha * factor_, X, beta, Y);
  }
  /// factor * A
  LinearMap scaled(S factor) const {
    LinearMap map = *this;
    map.factor_ *= factor;
    return map;
  }
  /// op(A) X
  Matrix times(const Matrix& X, Op op = Op::none) const {
    Matrix Y(op == Op::none ? rows_ : cols_, X.cols());
    apply(op, S(1), view(X), S(0), view(Y));
    return Y;
  }

 private:
  Context* ctx_;
  const void* a_;
  Index rows_, cols_;
  S factor_ = 1;
  void (*apply_)(const void*, Context&, Op, S, MatrixView<const S>, S, MatrixView<S>);
};

namespace detail {
/// The power of two at v's largest entry, over which norms neither underflow nor overflow; 1 of a v that is zero or not
/// finite.
template <class S>
S binary_scale(const Eigen::VectorX<S>& v) {
  const S most = v.size() > 0 ? v.cwiseAbs().maxCoeff() : S(0);
  return most > S(0) && std::isfinite(most) ? std::ldexp(S(1), std::ilogb(most)) : S(1);
}
/// (rows, cols) of ±1.
template <class S>
Eigen::MatrixX<S> random_signs(Index rows, Index cols, std::uint64_t seed) {
  const Philox draws(seed);
  Eigen::MatrixX<S> X(rows, cols);
  for (Index i = 0; i < X.size(); ++i)
    X.data()[i] = (draws.bits(static_cast<std::uint64_t>(i)) & 1u) != 0 ? S(1) : S(-1);
  return X;
}
/// (n) of N(0,1)
template <class S>
Eigen::VectorX<S> random_normal(Index n, std::uint64_t seed) {
  const Philox draws(seed);
  Eigen::VectorX<S> x(n);
  for (Index i = 0; i < n; ++i) x[i] = static_cast<S>(draws.normal(static_cast<std::uint64_t>(i)));
  return x;
}
/// A power of two at the size of A's values, over which A's products and their squares stay in range; 1 of an A that is
/// zero or not finite. One product, or two.
template <class S>
S binary_scale(const LinearMap<S>& A) {
  using L = std::numeric_limits<S>;
  if (A.rows() == 0 || A.cols() == 0) return S(1);
  const Eigen::VectorX<S> x = random_normal<S>(A.cols(), 17);
  for (const int less : {0, L::max_exponent / 2}) {  // the second where the first overflows
    const Eigen::VectorX<S> y = A.times(std::ldexp(S(1), -less) * x);
    if (!y.allFinite()) continue;
    const S most = y.cwiseAbs().maxCoeff();
    if (most == S(0)) break;
    return std::ldexp(S(1), std::clamp(std::ilogb(most) + less, L::min_exponent + 2, L::max_exponent - 2));
  }
  return S(1);
}
}  // namespace detail

}  // namespace tessera::inline TESSERA_ABI
