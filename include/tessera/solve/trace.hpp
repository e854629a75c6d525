/// `trace(A)`, `diag(A)` and `norm(A)`: by the structure, else exactly by products with the identity or estimated.
///   tr(A + B) = tr A + tr B   tr sA = s tr A   tr Aᵀ = tr A
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include <tessera/matrix/detail/thin_qr.hpp>
#include <tessera/solve/closed.hpp>
#include <tessera/solve/lanczos.hpp>
#include <tessera/solve/logdet.hpp>

namespace tessera::inline TESSERA_ABI {

/// A number, exact or estimated.
template <class S>
struct Estimate {
  S value = 0;
  Status status;
  operator S() const { return value; }
};

struct TraceOptions {
  Index products = 256;  // columns multiplied: A of at most so many is done exactly
  std::uint64_t seed = 1;
};

namespace detail {

/// Sums f(j, column j of A) over all columns, 64 at a time.
template <class S, class F>
void for_each_column(const LinearMap<S>& map, F&& f) {
  constexpr Index width = 64;
  Eigen::MatrixX<S> unit;
  for (Index first = 0; first < map.cols(); first += width) {
    const Index count = std::min(width, map.cols() - first);
    unit.setZero(map.cols(), count);
    for (Index j = 0; j < count; ++j) unit(first + j, j) = S(1);
    const Eigen::MatrixX<S> columns = map.times(unit);
    for (Index j = 0; j < count; ++j) f(first + j, columns.col(j));
  }
}

template <class A>
constexpr bool closed_trace() {
  using T = std::remove_cvref_t<decltype(unwrap(std::declval<const A&>()))>;
  if constexpr (
      requires(const T& t) { t.diagonal_sum(); } || requires(const T& t) { t.diagonal(); })
    return true;
  else if constexpr (is_scaled<T> || is_transposed<T> || is_tagged<T>)
    return closed_trace<std::remove_cvref_t<decltype(std::declval<const T&>().inner())>>();
  else if constexpr (is_sum<T>)
    return []<class... As>(const Sum<As...>*) { return (closed_trace<As>() && ...); }(static_cast<const T*>(nullptr));
  else
    return false;
}

/// What closed_trace promises holds for this matrix.
template <class A>
bool knows_trace(const A& a) {
  if constexpr (is_ref<A>)
    return knows_trace(a.get());
  else if constexpr (is_sum<A>)
    return std::apply([](const auto&... term) { return (knows_trace(term) && ...); }, a.terms());
  else
    return knows(a, Form::diagonal_sum);
}

template <class A>
scalar_of<A> trace_of(const A& a) {
  using S = scalar_of<A>;
  if constexpr (is_ref<A>)
    return trace_of(a.get());
  else if constexpr (requires { a.diagonal_sum(); })
    return a.diagonal_sum();
  else if constexpr (is_scaled<A>)
    return a.factor() * trace_of(a.inner());
  else if constexpr (is_transposed<A> || is_tagged<A>)
    return trace_of(a.inner());
  else if constexpr (is_sum<A>)
    return std::apply([](const auto&... term) { return (trace_of(term) + ...); }, a.terms());
  else {
    const Eigen::VectorX<S> d = a.diagonal();
    return d.sum();
  }
}

/// R. Meyer, C. Musco, C. Musco, D. Woodruff, "Hutch++: Optimal Stochastic Trace Estimation" (2021): a third of the
/// products finds the range that matters, whose trace is exact, and the rest estimates what is left.
template <class S>
Estimate<S> hutch_plus_plus(const LinearMap<S>& A, TraceOptions options) {
  using Matrix = Eigen::MatrixX<S>;
  if (options.products < 1)
    throw unsupported_error(concat("tessera: trace by ", options.products, " products; expected one or more"));
  const Index n = A.cols(), third = std::max<Index>(2, options.products / 3);
  Estimate<S> out;
  out.status.method = "Hutch++";
  out.status.iterations = 3 * third;
  const Matrix sketch = A.times(random_signs<S>(n, third, options.seed));
  const S scale = binary_scale<S>(Eigen::VectorX<S>(sketch.col(0)));
  const Matrix Q = thin_qr<S>(sketch / scale).Q;
  Matrix G = random_signs<S>(n, third, options.seed + 1);
  G -= (Q * (Q.transpose() * G).eval()).eval();
  const S exact = Q.cwiseProduct(A.times(Q)).sum();
  const Eigen::VectorX<S> samples = G.cwiseProduct(A.times(G)).colwise().sum();
  out.value = exact + samples.mean();
  out.status.error = static_cast<double>((samples.array() - samples.mean()).matrix().stableNorm()) /
                     std::sqrt(static_cast<double>(third) * static_cast<double>(third - 1));
  return out;
}

}  // namespace detail

/// tr A of a square A: exact by the structure or by N products, Hutch++ with its standard error where N is larger than
/// options.products. Throws shape_error.
template <LinearOperator A>
Estimate<scalar_of<A>> trace(Context& ctx, const A& a, TraceOptions options = {}) {
  using S = scalar_of<A>;
  detail::check_square_for("trace", a);
  if constexpr (detail::closed_trace<A>())
    if (detail::knows_trace(a)) return {detail::trace_of(a), {"the structure"}};
  const LinearMap<S> map(ctx, a);
  if (a.cols() > options.products) return detail::hutch_plus_plus(map, options);
  Estimate<S> out;
  out.status = {"its columns", true, a.cols()};
  detail::for_each_column(map, [&](Index j, const auto& column) { out.value += column[j]; });
  return out;
}
template <LinearOperator A>
auto trace(const A& a, TraceOptions options = {}) {
  return trace(default_context(), a, options);
}
template <LinearOperator A>
Methods explain_trace(const A& a, TraceOptions options = {}) {
  Methods m{detail::concat("trace (", detail::text_of(a), ")"), {}};
  m.consider("the structure", detail::closed_trace<A>() && detail::knows_trace(a) ? "" : "a part has no diagonal()")
      .consider("its columns", a.cols() <= options.products ? "" : "more columns than products allowed")
      .consider("Hutch++", "");
  return m;
}

/// A(i,i), i < min(M,N): the type's diagonal(), else from products with all of the identity.
template <LinearOperator A>
Eigen::VectorX<scalar_of<A>> diag(Context& ctx, const A& a) {
  using S = scalar_of<A>;
  if constexpr (requires { a.diagonal(); })
    if (knows(a, Form::diagonal)) return a.diagonal();
  Eigen::VectorX<S> d(std::min(a.rows(), a.cols()));
  detail::for_each_column(LinearMap<S>(ctx, a), [&](Index j, const auto& column) {
    if (j < d.size()) d[j] = column[j];
  });
  return d;
}
template <LinearOperator A>
auto diag(const A& a) {
  return diag(default_context(), a);
}

/// The Frobenius norm: the type's frobenius_norm(), or those that scaled, transposed and orthogonal matrices follow
/// from (closed.hpp), else from all columns of A: N products, never densified.
template <LinearOperator A>
scalar_of<A> norm(Context& ctx, const A& a) {
  using S = scalar_of<A>;
  if (const auto closed = closed_norm(a, true)) return *closed;
  Eigen::VectorX<S> norms(a.cols());
  detail::for_each_column(LinearMap<S>(ctx, a), [&](Index j, const auto& column) { norms[j] = column.stableNorm(); });
  return norms.stableNorm();
}
template <LinearOperator A>
auto norm(const A& a) {
  return norm(default_context(), a);
}

namespace detail {
/// The largest and the least of min(M,N) singular values of A, if its structure tells: of singular_range(), where the
/// type has it, else of all.
template <class A>
std::optional<std::pair<scalar_of<A>, scalar_of<A>>> closed_singular_range(const A& a) {
  using S = scalar_of<A>;
  if constexpr (is_ref<A>) return closed_singular_range(a.get());
  if constexpr (requires { a.singular_range(); }) {
    if (!knows(a, Form::singular_values)) return std::nullopt;
    return a.singular_range();
  } else if constexpr (is_scaled<A>) {
    auto range = closed_singular_range(a.inner());
    if (range) *range = {std::abs(a.factor()) * range->first, std::abs(a.factor()) * range->second};
    return range;
  } else if constexpr (is_transposed<A> || is_tagged<A>) {
    return closed_singular_range(a.inner());
  } else {
    const auto all = closed_singular_values(a, true);
    if (!all) return std::nullopt;
    if (all->size() == 0) return std::pair<S, S>{S(0), S(0)};
    const S least = (*all)[all->size() - 1];
    return std::pair<S, S>{std::isnan(least) ? least : (*all)[0], least};
  }
}
}  // namespace detail

/// The largest singular value: 1 of an orthogonal A, the type's singular_values(), else Lanczos on AᵀA from a random
/// vector, a lower bound whose relative error `status.error` estimates. Throws unsupported_error for less than one
/// step.
template <LinearOperator A>
Estimate<scalar_of<A>> spectral_norm(Context& ctx, const A& a, Index steps = 64) {
  using S = scalar_of<A>;
  Estimate<S> out;
  if (has(held_properties(a), Property::orthogonal)) {
    out.value = a.rows() > 0 ? S(1) : S(0);
    out.status.method = "orthogonal";
  } else if (const auto range = detail::closed_singular_range(a)) {
    out.value = range->first;
    out.status.method = "the type's singular_values()";
  } else {
    const S scale = detail::binary_scale(LinearMap<S>(ctx, a));
    const detail::GramOf<A> gram{&a, scale};
    out.status.method = "Lanczos on AᵀA";
    const auto process = lanczos<S>(LinearMap<S>(ctx, gram), detail::random_normal<S>(a.cols(), 7), steps);
    const Index k = process.values.size();
    out.status.iterations = 2 * k + 1;
    if (k > 0 && a.rows() > 0) {
      out.value = scale * std::sqrt(std::max(process.values[k - 1], S(0)));
      out.status.error = k == a.cols() ? 0 : std::abs(static_cast<double>(process.vectors(k - 1, k - 1)));
    }
  }
  out.status.converged = std::isfinite(out.value);
  return out;
}
template <LinearOperator A>
auto spectral_norm(const A& a, Index steps = 64) {
  return spectral_norm(default_context(), a, steps);
}

template <LinearOperator A>
Methods explain_norm(const A& a) {
  Methods m{detail::concat("norm (", detail::text_of(a), ")"), {}};
  m.consider("the structure", closed_norm(a, false) ? "" : "its type does not know it").consider("its columns", "");
  return m;
}

/// σ_max / σ_min over min(M,N) singular values, infinite of a matrix without full rank: 1 of an orthogonal A, the
/// type's singular_values(), |A||A⁻¹| where the rules find an inverse, else from the extreme values of `steps` of
/// Lanczos on AᵀA (AAᵀ of a wide A). The latter two are lower bounds, and beyond 1/√ε the last cannot see.
template <LinearOperator A>
Estimate<scalar_of<A>> condition(Context& ctx, const A& a, Index steps = 64) {
  using S = scalar_of<A>;
  Estimate<S> out;
  const Index count = std::min(a.rows(), a.cols());
  const auto ratio = [](S most, S least) {
    if (std::isnan(most) || std::isnan(least)) return std::numeric_limits<S>::quiet_NaN();
    return least > S(0) ? most / least : std::numeric_limits<S>::infinity();
  };
  out.value = S(1);
  if (count == 0) return out;
  if (has(held_properties(a), Property::orthogonal)) {
    out.status.method = "orthogonal";
  } else if (const auto range = detail::closed_singular_range(a)) {
    out.value = ratio(range->first, range->second);
    out.status.method = "the type's singular_values()";
  } else {
    if constexpr (detail::invertible<A>())
      if (a.rows() == a.cols() && detail::square_throughout(a) && knows(a, Form::inverse)) {
        const auto of_a = spectral_norm(ctx, a, steps), of_inverse = spectral_norm(ctx, inverse(a), steps);
        out.value = of_inverse.status.converged ? of_a.value * of_inverse.value : ratio(of_a.value, S(0));
        out.status.method = "|A||A⁻¹|";
        out.status.iterations = of_a.status.iterations + of_inverse.status.iterations;
        out.status.error = std::max(of_a.status.error, of_inverse.status.error);
        out.status.converged = std::isfinite(out.value);
        return out;
      }
    const Transposed<Ref<A>> at{Ref<A>(a)};
    const S scale = detail::binary_scale(LinearMap<S>(ctx, a));
    const detail::GramOf<A> gram{&a, scale};
    const detail::GramOf<Transposed<Ref<A>>> wide{&at, scale};
    const auto map = a.rows() < a.cols() ? LinearMap<S>(ctx, wide) : LinearMap<S>(ctx, gram);
    const auto process = lanczos<S>(map, detail::random_normal<S>(count, 7), steps);
    const Index k = process.values.size();
    out.status.method = "Lanczos on AᵀA";
    out.status.iterations = 2 * k + 1;
    out.value = k > 0 ? std::sqrt(ratio(process.values[k - 1], process.values[0])) : std::numeric_limits<S>::infinity();
    out.status.error = k == count ? 0 : 1;
  }
  out.status.converged = std::isfinite(out.value);
  return out;
}
template <LinearOperator A>
auto condition(const A& a, Index steps = 64) {
  return condition(default_context(), a, steps);
}

}  // namespace tessera::inline TESSERA_ABI
