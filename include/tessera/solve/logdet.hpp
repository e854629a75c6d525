/// `logdet(A)`: by the structure, else by stochastic Lanczos quadrature.
///   det(AB) = det A · det B   det Aᵀ = det A   det sA = sᴺ det A   |det Q| = 1   det(A + UVᵀ) = det A · det(I +
///   VᵀA⁻¹U)
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include <tessera/solve/closed_logdet.hpp>
#include <tessera/solve/lanczos.hpp>
#include <tessera/solve/solve.hpp>

namespace tessera::inline TESSERA_ABI {

/// log |det A| with its sign. From quadrature the sign is +1 of a semidefinite A and 0 of another, for which it is not
/// known; status.error is the standard error of log_abs then.
template <class S>
struct LogDeterminantResult {
  LogDeterminant<S> value;
  Status status;
};

struct QuadratureOptions {
  Index probes = 32;  // random vectors
  Index steps = 48;   // of Lanczos a vector
  std::uint64_t seed = 1;
};

namespace detail {

/// The mean over probes z of zᵀ log(A/scale) z, ½ of it for AᵀA, whose scale is in it, and its standard error.
template <class S>
LogDeterminantResult<S> quadrature_logdet(const LinearMap<S>& map, bool of_gram, S scale, QuadratureOptions options) {
  check_count("probes", options.probes);
  check_count("steps of Lanczos", options.steps);
  LogDeterminantResult<S> out;
  out.status.method = of_gram ? "Lanczos quadrature of AᵀA" : "Lanczos quadrature";
  out.status.iterations = 1;  // that found the scale
  const Eigen::MatrixX<S> Z = random_signs<S>(map.cols(), options.probes, options.seed);
  Eigen::VectorX<S> samples(options.probes);
  for (Index i = 0; i < options.probes; ++i) {
    const auto process = lanczos<S>(of_gram ? map : map.scaled(S(1) / scale), Z.col(i), options.steps);
    out.status.iterations += process.values.size() * (of_gram ? 2 : 1);
    if (process.values.size() > 0 && process.values[0] <= S(0)) {
      out.value = LogDeterminant<S>::of(S(0));
      out.status.converged = false;  // singular, or not semidefinite
      return out;
    }
    samples[i] = process.quadratic([](S x) { return std::log(x); }) * (of_gram ? S(0.5) : S(1));
  }
  out.value.log_abs = samples.mean() + static_cast<S>(map.cols()) * std::log(scale);
  out.status.converged = std::isfinite(out.value.log_abs);
  out.value.sign = of_gram ? 0 : 1;
  out.status.error = options.probes > 1
                         ? static_cast<double>((samples.array() - samples.mean()).matrix().stableNorm()) /
                               std::sqrt(static_cast<double>(options.probes) * static_cast<double>(options.probes - 1))
                         : 0;
  return out;
}

/// (A/scale)ᵀ(A/scale) as an operator of its own.
template <class A>
struct GramOf {
  using Scalar = scalar_of<A>;
  const A* a;
  Scalar scale;
  Index rows() const { return a->cols(); }
  Index cols() const { return a->cols(); }
  void apply(Context& ctx, Op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    Workspace::Scope scope(ctx.workspace);
    const auto T = scratch_like(scope, Y, a->rows(), X.cols());
    a->apply(ctx, Op::none, Scalar(1) / scale, X, Scalar(0), T);
    a->apply(ctx, Op::transpose, alpha / scale, T, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    a->for_each_buffer(f);
  }
};

}  // namespace detail

/// log |det A| and the sign of a square A: exact where the structure tells, else estimated from products with A.
/// S. Ubaru, J. Chen, Y. Saad, "Fast Estimation of tr(f(A)) via Stochastic Lanczos Quadrature" (2017). Throws
/// shape_error; unsupported_error for less than one probe or step, where it estimates.
template <LinearOperator A>
LogDeterminantResult<scalar_of<A>> logdet(Context& ctx, const A& a, QuadratureOptions options = {}) {
  using S = scalar_of<A>;
  detail::check_square_for("determinant", a);
  const auto closed = detail::closed_logdet<true>(ctx, a);
  if (closed.method != nullptr)
    return {closed.value, {closed.method, closed.value.log_abs < std::numeric_limits<S>::infinity()}};
  const LinearMap<S> map(ctx, a);
  const S scale = detail::binary_scale(map);
  if (has(held_properties(a), Property::psd) || detail::is_gram(a))
    return detail::quadrature_logdet<S>(map, false, scale, options);
  const detail::GramOf<A> gram{&a, scale};
  return detail::quadrature_logdet<S>(LinearMap<S>(ctx, gram), true, scale, options);
}
template <LinearOperator A>
auto logdet(const A& a, QuadratureOptions options = {}) {
  return logdet(default_context(), a, options);
}

/// Which method logdet(A) takes and why.
template <LinearOperator A>
Methods explain_logdet(const A& a) {
  Methods m{detail::concat("logdet (", detail::text_of(a), ")"), {}};
  const char* closed = detail::closed_logdet<false>(default_context(), a).method;
  const bool definite = has(held_properties(a), Property::psd) || detail::is_gram(a);
  m.consider(closed != nullptr ? closed : "closed form", closed != nullptr ? "" : "a part has none")
      .consider("Lanczos quadrature", definite ? "" : "not known to be positive semidefinite")
      .consider("Lanczos quadrature of AᵀA", "");
  return m;
}

}  // namespace tessera::inline TESSERA_ABI
