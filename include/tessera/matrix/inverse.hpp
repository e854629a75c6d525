/// Inverses of sums: `inverse(A)` of an invertible matrix plus low-rank ones.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include <Eigen/LU>

#include <tessera/expr/inverse.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/detail/bordered.hpp>
#include <tessera/matrix/diagonal.hpp>
#include <tessera/matrix/low_rank.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// The inverse of m as an A, which is an LuInverse or multiples and transposes of one.
template <class A, class Matrix>
A factored_as(const Matrix& m) {
  if constexpr (is_scaled<A>)
    return A(scalar_of<A>(1), factored_as<std::remove_cvref_t<decltype(std::declval<const A&>().inner())>>(m));
  else if constexpr (is_transposed<A>)
    return A(factored_as<std::remove_cvref_t<decltype(std::declval<const A&>().inner())>>(Matrix(m.transpose())));
  else
    return A(m);
}

/// (A + U Vᵀ)⁻¹ = A⁻¹ - A⁻¹U (I + VᵀA⁻¹U)⁻¹ (A⁻ᵀV)ᵀ: R solves with A and with Aᵀ, an LU of (R,R). A diagonal A may be
/// singular (bordered.hpp), a dense one too or close to it: the low rank is added to it then. M. Woodbury, "Inverting
/// modified matrices" (1950).
template <class A, class Matrix>
auto woodbury(A a, const Matrix& U, const Matrix& V) {
  using S = scalar_of<A>;
  if constexpr (has(properties_of<A>, Property::diagonal) && has_diagonal<A>) {
    const Bordered<S> system(a.diagonal(), U, V, Bordered<S>::for_operators());
    const auto [left, right] = system.inverse_factors(U, V);
    return sum(inverted(diagonal(system.pivots())), LowRank(Dense<S>(left), Dense<S>(right)));
  } else {
    auto a_inverse = invert_held(a);
    using Inverted = decltype(a_inverse);
    if constexpr (std::same_as<std::remove_cvref_t<decltype(factored(a_inverse))>, LuInverse<S>>)
      if (U.size() > 0 && !(factored(a_inverse).reciprocal_condition() >= std::sqrt(std::numeric_limits<S>::epsilon())))
        return sum(factored_as<Inverted>(Matrix(tessera::to_dense(a) + U * V.transpose())),
                   LowRank(Dense<S>(U.rows(), 0), Dense<S>(V.rows(), 0)));
    Matrix AU(U.rows(), U.cols()), AtV(V.rows(), V.cols()), left = Matrix::Zero(U.rows(), U.cols());
    a_inverse.apply(default_context(), Op::none, S(1), view(U), S(0), view(AU));
    a_inverse.apply(default_context(), Op::transpose, S(1), view(V), S(0), view(AtV));
    if (U.size() > 0) {
      const Matrix capacitance = Matrix::Identity(U.cols(), U.cols()) + V.transpose() * AU;
      left = -Eigen::PartialPivLU<Matrix>(capacitance.transpose()).solve(AU.transpose()).transpose();  // -AU C⁻¹
    }
    return sum(std::move(a_inverse), LowRank(Dense<S>(left), Dense<S>(AtV)));
  }
}

/// LowRank, held anyhow, scaled, transposed.
template <class T>
inline constexpr bool is_low_rank = false;
template <class U, class V>
inline constexpr bool is_low_rank<LowRank<U, V>> = true;
template <class T>
inline constexpr bool is_low_rank<Ref<T>> = is_low_rank<T>;
template <class T>
inline constexpr bool is_low_rank<Scaled<T>> = is_low_rank<T>;
template <class T>
inline constexpr bool is_low_rank<Transposed<T>> = is_low_rank<T>;

/// The factors of such a term, scaled, into columns of U and V from `at`, which moves past them; without U only `at`
/// moves.
template <class T, class Matrix, class S>
void low_rank_factors(const T& term, S scale, bool transposed, Matrix* U, Matrix* V, Index& at) {
  if constexpr (is_ref<T>) {
    low_rank_factors(term.get(), scale, transposed, U, V, at);
  } else if constexpr (is_scaled<T>) {
    low_rank_factors(term.inner(), scale * term.factor(), transposed, U, V, at);
  } else if constexpr (is_transposed<T>) {
    low_rank_factors(term.inner(), scale, !transposed, U, V, at);
  } else if constexpr (is_low_rank<T>) {
    if (U != nullptr) {
      (transposed ? V : U)->middleCols(at, term.rank()) = tessera::to_dense(term.left());
      (transposed ? U : V)->middleCols(at, term.rank()) = tessera::to_dense(term.right());
      U->middleCols(at, term.rank()) *= scale;
    }
    at += term.rank();
  }
}

}  // namespace detail

/// One invertible matrix plus low-rank ones, in any order.
template <class... As>
requires(!is_dense_valued<Sum<As...>> && (Index(detail::is_low_rank<As>) + ...) + 1 == sizeof...(As) &&
         ((detail::is_low_rank<As> || detail::invertible<As>()) && ...)) auto inverted(const Sum<As...>& A) {
  using S = scalar_of<Sum<As...>>;
  constexpr std::array<bool, sizeof...(As)> low = {detail::is_low_rank<As>...};
  constexpr std::size_t other = static_cast<std::size_t>(std::find(low.begin(), low.end(), false) - low.begin());
  Eigen::MatrixX<S> U, V;
  const auto collect = [&](Eigen::MatrixX<S>* u, Eigen::MatrixX<S>* v) {
    Index at = 0;
    std::apply([&](const As&... term) { (detail::low_rank_factors(term, S(1), false, u, v, at), ...); }, A.terms());
    return at;
  };
  const Index rank = collect(nullptr, nullptr);
  U.resize(A.rows(), rank);
  V.resize(A.rows(), rank);
  collect(&U, &V);
  return detail::woodbury(std::get<other>(A.terms()), U, V);
}

/// A⁻¹ becomes (A + u vᵀ)⁻¹ = A⁻¹ - A⁻¹u vᵀA⁻¹ / (1 + vᵀA⁻¹u), in place: 6·N² flops. False, and nothing changed, where
/// A + u vᵀ is singular up to rounding or not finite. Rounding adds up over many updates. Throws shape_error.
/// J. Sherman, W. Morrison, "Adjustment of an Inverse Matrix Corresponding to a Change in One Element" (1950).
template <std::floating_point S, EigenDense E, EigenDense F>
bool sherman_morrison(Context& ctx, Dense<S>& inverse, const E& u, const F& v) {
  const Index n = inverse.rows();
  if (inverse.cols() != n || u.size() != n || v.size() != n)
    throw shape_error(detail::concat("tessera: sherman_morrison of (", tessera::describe(inverse), ") with ", u.size(),
                                     " and ", v.size(), " entries: expected a square matrix and its rows"));
  const Eigen::VectorX<S> from = u, by = v;
  Eigen::VectorX<S> Au(n), vA(n);
  inverse.apply(ctx, Op::none, S(1), view(from), S(0), view(Au));
  inverse.apply(ctx, Op::transpose, S(1), view(by), S(0), view(vA));
  const S pivot = S(1) + by.dot(Au);
  const S terms = S(1) + by.cwiseAbs().dot(Au.cwiseAbs());
  if (!(std::abs(pivot) > 16 * std::numeric_limits<S>::epsilon() * terms)) return false;
  detail::eigen_map(inverse.view()) -= (Au / pivot) * vA.transpose();
  return true;
}

}  // namespace tessera::inline TESSERA_ABI
