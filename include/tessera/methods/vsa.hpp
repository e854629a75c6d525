/// Vector symbolic architectures with matrix binding (MBAT): a role binds a vector by a matrix, sums bundle.
/// S. Gallant, T. Okaywe, "Representing Objects, Relations, and Sequences" (Neural Computation 2013), MBAT; S. Gallant,
/// "Orthogonal Matrices for MBAT Vector Symbolic Architectures, and a 'Soft' VSA Representation for JSON" (2022): with
/// orthogonal matrices binding keeps norms however deep it nests, and the transpose unbinds exactly.
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <string_view>

#include <tessera/core/rng.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/expr/properties.hpp>
#include <tessera/matrix/hadamard.hpp>

namespace tessera::inline TESSERA_ABI {

/// M v (d)
template <LinearOperator A>
Eigen::VectorX<scalar_of<A>> vsa_bind(const A& M, const Eigen::VectorX<scalar_of<A>>& v) {
  return M * v;
}

/// Mᵀ v (d): undoes vsa_bind exactly where M is orthogonal.
template <LinearOperator A>
Eigen::VectorX<scalar_of<A>> vsa_unbind(const A& M, const Eigen::VectorX<scalar_of<A>>& v) {
  return M.transpose() * v;
}

/// v_0 + v_1 + … (d)
template <class V, class... Vs>
typename V::PlainObject vsa_bundle(const V& first, const Vs&... rest) {
  return (first + ... + rest);
}

/// An FNV-1a hash, the name of a role or symbol as a stream of random numbers.
constexpr std::uint64_t vsa_hash(std::string_view text, std::uint64_t seed = 0) {
  std::uint64_t h = 0xcbf29ce484222325u ^ (seed * 0x9e3779b97f4a7c15u);
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return h;
}

/// A random unit vector (d) of a symbol: nearly orthogonal to every other symbol's. Throws shape_error for a negative
/// d.
template <class S>
Eigen::VectorX<S> vsa_symbol(Index d, std::string_view name, std::uint64_t seed = 1) {
  if (d < 0)
    throw shape_error(detail::concat("tessera: vsa_symbol(", d, ", \"", name, "\"): expected a size of 0 or more"));
  Eigen::VectorX<S> v(d);
  const Philox draws(vsa_hash(name, seed), 0x5b0);
  for (Index i = 0; i < d; ++i) v[i] = static_cast<S>(draws.normal(static_cast<std::uint64_t>(i)));
  return v.normalized();
}

/// A role's matrix (d,d) in O(d log d): P D_1 H D_2 H with random signs D and a random cyclic shift P, H the orthogonal
/// Walsh–Hadamard matrix. Orthogonal, and not commuting with other roles', so that the order of binding shows.
template <std::floating_point S>
class VsaRole : public OperatorBase<VsaRole<S>> {
 public:
  using Scalar = S;
  static constexpr std::string_view type_name = "VsaRole";
  static constexpr Property properties = Property::orthogonal;

  /// Throws shape_error unless d is a power of two.
  VsaRole(Index d, std::string_view name, std::uint64_t seed = 1) : h_(d), key_(vsa_hash(name, seed)) {}
  Index rows() const { return h_.rows(); }
  Index cols() const { return h_.rows(); }
  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const Index d = rows();
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<S> T(scope.take<S>(d * X.cols()), {d, X.cols()}, {1, d});
    const MatrixView<S> U(scope.take<S>(d * X.cols()), {d, X.cols()}, {1, d});
    const auto shift = static_cast<Index>(key_ % static_cast<std::uint64_t>(d));
    if (op == Op::none) {
      h_.apply(ctx, op, S(1), X, S(0), T);
      flip_signs(0, T);
      h_.apply(ctx, op, S(1), T, S(0), U);
      flip_signs(1, U);
      for (Index j = 0; j < X.cols(); ++j)
        for (Index i = 0; i < d; ++i) T(i, j) = U((i + shift) % d, j);
    } else {
      for (Index j = 0; j < X.cols(); ++j)
        for (Index i = 0; i < d; ++i) U((i + shift) % d, j) = X(i, j);
      flip_signs(1, U);
      h_.apply(ctx, op, S(1), U, S(0), T);
      flip_signs(0, T);
      h_.apply(ctx, op, S(1), T, S(0), U);
      detail::add_scaled<S>(ctx, alpha, U, beta, Y);
      return;
    }
    detail::add_scaled<S>(ctx, alpha, T, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&&) const {}
  std::size_t bytes() const { return 0; }
  double flops(Index n) const { return 2 * h_.flops(n) + 3 * static_cast<double>(rows() * n); }

 private:
  void flip_signs(std::uint64_t which, MatrixView<S> m) const {
    const Philox draws(key_, 0x51 + which);
    for (Index i = 0; i < m.rows(); ++i)
      if ((draws.bits(static_cast<std::uint64_t>(i)) & 1) != 0)
        for (Index j = 0; j < m.cols(); ++j) m(i, j) = -m(i, j);
  }
  Hadamard<S> h_;
  std::uint64_t key_;
};

}  // namespace tessera::inline TESSERA_ABI
