/// Norms, singular values and eigenvalues that types know, through references, tags, multiples, transposes and
/// inverses:
///   |sA| = |s||A|   |Q| = √N   σ(sA) = |s| σ(A)   σ(A⁻¹) = 1/σ(A)   λ(sA) = s λ(A)   λ(Aᵀ) = λ(A)   λ(A⁻¹) = 1/λ(A)
/// Each takes `compute`; without it the value is not found, only whether there is one.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <optional>
#include <utility>

#include <tessera/core/order.hpp>
#include <tessera/expr/closed_form.hpp>
#include <tessera/expr/tagged.hpp>

namespace tessera::inline TESSERA_ABI {

/// The Frobenius norm of A, if its structure tells.
template <LinearOperator A>
std::optional<scalar_of<A>> closed_norm(const A& a, bool compute) {
  using S = scalar_of<A>;
  if constexpr (detail::is_ref<A>) {
    return closed_norm(a.get(), compute);
  } else {
    if constexpr (requires { a.frobenius_norm(); })
      if (knows(a, Form::frobenius_norm)) return compute ? a.frobenius_norm() : S(0);
    if (has(held_properties(a), Property::orthogonal)) return std::sqrt(static_cast<S>(a.rows()));
    if constexpr (detail::is_scaled<A>) {
      auto inner = closed_norm(a.inner(), compute);
      if (inner) *inner *= std::abs(a.factor());
      return inner;
    } else if constexpr (detail::is_transposed<A> || detail::is_tagged<A>) {
      return closed_norm(a.inner(), compute);
    }
    return std::nullopt;
  }
}

/// All min(M,N) singular values of A, descending and NaN last, if its structure tells.
template <LinearOperator A>
std::optional<Eigen::VectorX<scalar_of<A>>> closed_singular_values(const A& a, bool compute) {
  using V = Eigen::VectorX<scalar_of<A>>;
  if constexpr (detail::is_ref<A>) {
    return closed_singular_values(a.get(), compute);
  } else {
    if constexpr (requires { a.singular_values(); })
      if (knows(a, Form::singular_values)) return compute ? V(a.singular_values()) : V();
    if (has(held_properties(a), Property::orthogonal)) return V(V::Ones(a.rows()));
    if constexpr (detail::is_scaled<A>) {
      auto inner = closed_singular_values(a.inner(), compute);
      if (inner) *inner *= std::abs(a.factor());
      return inner;
    } else if constexpr (detail::is_inverse<A>) {
      auto inner = closed_singular_values(a.inner(), compute);
      if (inner) {
        *inner = inner->cwiseInverse().eval();
        std::sort(inner->begin(), inner->end(), detail::Falling{});
      }
      return inner;
    } else if constexpr (detail::is_transposed<A> || detail::is_tagged<A>) {
      return closed_singular_values(a.inner(), compute);
    }
    return std::nullopt;
  }
}

/// All eigenvalues of a square A, in no order, if its structure tells.
template <LinearOperator A>
std::optional<Eigen::VectorX<std::complex<scalar_of<A>>>> closed_eigenvalues(const A& a, bool compute) {
  using T = std::complex<scalar_of<A>>;
  using V = Eigen::VectorX<T>;
  if (a.rows() != a.cols()) return std::nullopt;
  if constexpr (detail::is_ref<A>) {
    return closed_eigenvalues(a.get(), compute);
  } else {
    if constexpr (requires { a.eigenvalues(); })
      if (knows(a, Form::eigenvalues)) return compute ? V(a.eigenvalues().template cast<T>()) : V();
    if constexpr (TriangularOperator<A> && requires { a.diagonal(); })
      if (knows(a, Form::diagonal)) return compute ? V(a.diagonal().template cast<T>()) : V();
    if constexpr (detail::is_scaled<A>) {
      auto inner = closed_eigenvalues(a.inner(), compute);
      if (inner) *inner *= T(a.factor());
      return inner;
    } else if constexpr (detail::is_inverse<A>) {
      auto inner = closed_eigenvalues(a.inner(), compute);
      if (inner) *inner = inner->cwiseInverse().eval();
      return inner;
    } else if constexpr (detail::is_transposed<A> || detail::is_tagged<A>) {
      return closed_eigenvalues(a.inner(), compute);
    }
    return std::nullopt;
  }
}

}  // namespace tessera::inline TESSERA_ABI
