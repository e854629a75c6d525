/// `logdet(A)`: by the structure, else by stochastic Lanczos quadrature.
///   det(AB) = det A · det B   det Aᵀ = det A   det sA = sᴺ det A   |det Q| = 1   det(A + UVᵀ) = det A · det(I +
///   VᵀA⁻¹U)
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <Eigen/LU>
#include <tessera/matrix/detail/bordered.hpp>
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

template <class A>
concept StoredDense = requires(const A& a) {
  typename A::Element;
  a.view();
};

/// A low-rank term, held anyhow: U, V of it. Found by members left(), right() and rank().
template <class A>
constexpr bool low_rank_term() {
  using T = std::remove_cvref_t<decltype(unwrap(std::declval<const A&>()))>;
  if constexpr (is_scaled<T> || is_transposed<T>)
    return low_rank_term<std::remove_cvref_t<decltype(std::declval<const T&>().inner())>>();
  else
    return requires(const T& t) {
      t.left();
      t.right();
      t.rank();
      requires !requires { t.main(); };  // diagonal plus low rank has more
    };
}

template <class S>
struct Closed {
  const char* method = nullptr;  // none if null
  LogDeterminant<S> value;
};

template <bool compute, class... As>
auto closed_logdet_sum(Context& ctx, const Sum<As...>& sum);

/// The closed form of a square A, or that there is none; without `compute` only which.
template <bool compute, class A>
Closed<scalar_of<A>> closed_logdet(Context& ctx, const A& a) {
  using S = scalar_of<A>;
  Closed<S> out;
  if (a.rows() != a.cols()) return out;
  if (a.rows() == 0) {
    out.method = "the empty product";
    return out;
  }
  if constexpr (is_ref<A>) {
    return closed_logdet<compute>(ctx, a.get());
  } else if constexpr (requires { a.log_determinant(); }) {
    if (!knows(a, Form::log_determinant)) return out;
    constexpr bool hides = requires { a.held_properties(); };
    out.method = hides ? "the held operator's" : "the type's log_determinant()";
    if constexpr (compute) out.value = a.log_determinant();
  } else if constexpr (is_transposed<A> || is_tagged<A>) {
    return closed_logdet<compute>(ctx, a.inner());
  } else if constexpr (is_scaled<A>) {
    out = closed_logdet<compute>(ctx, a.inner());
    if constexpr (compute) out.value = out.value * LogDeterminant<S>::of(a.factor()).power(a.rows());
  } else if constexpr (is_inverse<A>) {
    out = closed_logdet<compute>(ctx, a.inner());
    out.value.log_abs = -out.value.log_abs;
  } else if constexpr (is_product<A>) {
    bool all = true;
    std::apply(
        [&](const auto&... factor) {
          const auto one = [&](const auto& f) {
            if (!all) return;
            const auto c = closed_logdet<compute>(ctx, f);
            all = c.method != nullptr;
            out.value = out.value * c.value;
          };
          (one(factor), ...);
        },
        a.factors());
    if (all) out.method = "the sum over the factors";
  } else if constexpr (is_sum<A>) {
    return closed_logdet_sum<compute>(ctx, a);
  } else if constexpr (TriangularOperator<A> && requires { a.diagonal(); }) {
    out.method = "the sum over the diagonal";
    if constexpr (compute) out.value = log_determinant_of_diagonal(a.diagonal());
  } else if constexpr (StoredDense<A>) {
    out.method = "LU";
    if constexpr (compute) out.value = lu_log_determinant(Eigen::MatrixX<S>(a.to_dense()));
  }
  return out;
}

/// One term with a closed form and an inverse, the others of low rank: the matrix determinant lemma.
template <bool compute, class... As>
auto closed_logdet_sum(Context& ctx, const Sum<As...>& sum) {
  using S = scalar_of<Sum<As...>>;
  using Matrix = Eigen::MatrixX<S>;
  constexpr std::array<bool, sizeof...(As)> low = {low_rank_term<As>()...};
  constexpr std::size_t others = (std::size_t(!low_rank_term<As>()) + ...);
  if constexpr (others == 1) {
    constexpr std::size_t other = static_cast<std::size_t>(std::find(low.begin(), low.end(), false) - low.begin());
    const auto& main = std::get<other>(sum.terms());
    using Main = std::remove_cvref_t<decltype(main)>;
    if constexpr (invertible<Main>()) {
      auto out = closed_logdet<compute>(ctx, main);
      if (out.method == nullptr || !knows(main, Form::inverse)) return Closed<S>{};
      out.method = "the matrix determinant lemma";
      if constexpr (compute) {
        std::vector<Matrix> lefts, rights;
        Index rank = 0;
        const auto collect = [&](auto& self, const auto& term, S factor, bool flipped) -> void {
          using T = std::remove_cvref_t<decltype(term)>;
          if constexpr (is_ref<T>)
            self(self, term.get(), factor, flipped);
          else if constexpr (is_scaled<T>)
            self(self, term.inner(), factor * term.factor(), flipped);
          else if constexpr (is_transposed<T>)
            self(self, term.inner(), factor, !flipped);
          else if constexpr (low_rank_term<T>()) {
            lefts.push_back(factor * tessera::to_dense(flipped ? term.right() : term.left()));
            rights.push_back(tessera::to_dense(flipped ? term.left() : term.right()));
            rank += term.rank();
          }
        };
        std::apply([&](const As&... term) { (collect(collect, term, S(1), false), ...); }, sum.terms());
        Matrix U(sum.rows(), rank), V(sum.rows(), rank);
        Index at = 0;
        for (std::size_t i = 0; i < lefts.size(); at += lefts[i++].cols()) {
          U.middleCols(at, lefts[i].cols()) = lefts[i];
          V.middleCols(at, lefts[i].cols()) = rights[i];
        }
        if constexpr (has(properties_of<Main>, Property::diagonal) && has_diagonal<Main>) {
          out.value = Bordered<S>(main.diagonal(), U, V, Bordered<S>::for_solutions).log_determinant();
          return out;
        } else if constexpr (StoredDense<std::remove_cvref_t<decltype(unwrap(main))>>) {
          if (out.value.sign == 0) {  // a singular one says nothing of the sum
            out.value = lu_log_determinant(Matrix(tessera::to_dense(main) + U * V.transpose()));
            return out;
          }
        }
        Matrix AU(U.rows(), rank);
        invert_held(Ref<Main>(main)).apply(ctx, Op::none, S(1), view(U), S(0), view(AU));
        out.value = out.value * lu_log_determinant(Matrix(Matrix::Identity(rank, rank) + V.transpose() * AU));
      }
      return out;
    } else {
      return Closed<S>{};
    }
  } else {
    return Closed<S>{};
  }
}

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

template <class A>
void check_square_for(const char* what, const A& a) {
  if (a.rows() != a.cols())
    throw shape_error(
        concat("tessera: ", what, " of (", text_of(a), "): ", a.rows(), " rows != ", a.cols(), " columns"));
}

}  // namespace detail

/// The determinant of A if its structure tells it; without `compute` only whether. Throws shape_error where it is to
/// compute that of an A that is not square.
template <LinearOperator A>
std::optional<LogDeterminant<scalar_of<A>>> closed_log_determinant(const A& a, bool compute) {
  if (compute) detail::check_square_for("determinant", a);
  const auto closed =
      compute ? detail::closed_logdet<true>(default_context(), a) : detail::closed_logdet<false>(default_context(), a);
  if (closed.method == nullptr) return std::nullopt;
  return closed.value;
}

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
