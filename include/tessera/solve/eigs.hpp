/// `eigs(A, k)` and `svd(A, k)`: extremal eigenvalues and singular values from products with A. Needs Spectra (headers
/// only; Debian: libspectra-dev), which no other header of the library includes; without it their use does not compile.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <exception>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Eigenvalues>
#include <tessera/expr/tagged.hpp>
#include <tessera/solve/closed.hpp>
#include <tessera/solve/logdet.hpp>

#if __has_include(<Spectra/SymEigsSolver.h>)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuse-after-free"  // g++ 12 at -O2, inside Spectra
#endif
#include <Spectra/GenEigsSolver.h>
#include <Spectra/SymEigsSolver.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#define TESSERA_HAS_SPECTRA 1
#else
#define TESSERA_HAS_SPECTRA 0
#endif

namespace tessera::inline TESSERA_ABI {

enum class Which { largest_magnitude, largest, smallest };

struct EigsOptions {
  Which which = Which::largest_magnitude;
  bool vectors = true;
  double tolerance = 1e-10;
  Index max_restarts = 1000;
};

/// Values sorted as asked for, the most wanted first. vectors is empty where it was not asked for. All are NaN where
/// the iteration broke off, with status.converged false.
template <class V, class M>
struct Spectrum {
  V values;
  M vectors;
  Status status;
};
/// A ≈ U diag(values) Vᵀ
template <class S>
struct SingularValues {
  Eigen::VectorX<S> values;
  Eigen::MatrixX<S> U, V;
  Status status;
};

namespace detail {

/// What Spectra multiplies by.
template <class S>
struct SpectraMap {
  using Scalar = S;
  const LinearMap<S>* map;
  mutable Index products = 0;
  Eigen::Index rows() const { return map->rows(); }
  Eigen::Index cols() const { return map->cols(); }
  void perform_op(const S* x, S* y) const {
    ++products;
    const Index n = rows();
    map->apply(Op::none, S(1), MatrixView<const S>(x, {n, 1}, {1, n}), S(0), MatrixView<S>(y, {n, 1}, {1, n}));
  }
};

#if TESSERA_HAS_SPECTRA
inline Spectra::SortRule sort_rule(Which which, bool symmetric) {
  if (which == Which::largest_magnitude) return Spectra::SortRule::LargestMagn;
  if (symmetric) return which == Which::largest ? Spectra::SortRule::LargestAlge : Spectra::SortRule::SmallestAlge;
  return which == Which::largest ? Spectra::SortRule::LargestReal : Spectra::SortRule::SmallestReal;
}
#endif

template <class V>
void sort_values(V& values, Which which) {
  using T = typename V::Scalar;
  const auto key = [which](const T& x) {
    const auto r = std::real(x);
    return which == Which::largest_magnitude ? -std::abs(x) : which == Which::largest ? -r : r;
  };
  if (values.hasNaN()) return;
  std::sort(values.data(), values.data() + values.size(), [&](const T& a, const T& b) {
    if (key(a) != key(b)) return key(a) < key(b);
    if (std::real(a) != std::real(b)) return std::real(a) > std::real(b);
    return std::imag(a) > std::imag(b);
  });
}

/// Of few rows: all of it, dense. Spectra wants k + 1 < N.
template <bool is_symmetric, class S>
auto spectrum(const LinearMap<S>& unscaled, Index k, const EigsOptions& options) {
  using T = std::conditional_t<is_symmetric, S, std::complex<S>>;
  using V = Eigen::VectorX<T>;
  using M = Eigen::MatrixX<T>;
  Spectrum<V, M> out;
  const Index n = unscaled.rows();
  k = std::min(k, n);
  if (k == 0) return out;
  const S scale = binary_scale(unscaled);
  const LinearMap<S> map = unscaled.scaled(S(1) / scale);
  const bool dense = n <= 64 || k + 2 > n;
  V values;
  M vectors;
  if (dense) {
    const Eigen::MatrixX<S> A = map.times(Eigen::MatrixX<S>::Identity(n, n));
    out.status = {"dense eigenvalues", true, n + 1};
    if constexpr (is_symmetric) {
      const Eigen::SelfAdjointEigenSolver<Eigen::MatrixX<S>> solver(A);
      out.status.converged = solver.info() == Eigen::Success;
      values = solver.eigenvalues();
      vectors = solver.eigenvectors();
    } else {
      const Eigen::EigenSolver<Eigen::MatrixX<S>> solver(A);
      out.status.converged = solver.info() == Eigen::Success;
      values = solver.eigenvalues();
      vectors = solver.eigenvectors();
    }
  } else {
#if TESSERA_HAS_SPECTRA
    SpectraMap<S> products{&map};
    using Solver =
        std::conditional_t<is_symmetric, Spectra::SymEigsSolver<SpectraMap<S>>, Spectra::GenEigsSolver<SpectraMap<S>>>;
    const Index width = std::min(n, std::max<Index>(2 * k + 2, 20));
    Solver solver(products, k, width);
    const Eigen::VectorX<S> start = random_normal<S>(n, 11);
    const auto tolerance = std::max(static_cast<S>(options.tolerance), 8 * std::numeric_limits<S>::epsilon());
    out.status.method =
        is_symmetric ? "Lanczos with implicit restarts (Spectra)" : "Arnoldi with implicit restarts (Spectra)";
    out.status.error = options.tolerance;
    try {
      solver.init(start.data());
      solver.compute(sort_rule(options.which, is_symmetric), options.max_restarts, tolerance);
      out.status.converged = solver.info() == Spectra::CompInfo::Successful;
      values = solver.eigenvalues();
      vectors = solver.eigenvectors();
    } catch (const std::exception&) {  // it breaks off where A is zero or not finite
      out.status.converged = (map.times(start).array() == S(0)).all();
      values.setConstant(k, out.status.converged ? T(0) : T(std::numeric_limits<S>::quiet_NaN()));
      vectors = M::Identity(n, k);
    }
    out.status.iterations = products.products + 1;
#else
    static_assert(!std::is_same_v<S, S>, "tessera: eigs() and svd() need Spectra (Debian: libspectra-dev)");
#endif
  }
  if (values.hasNaN() || (dense && !out.status.converged)) {
    out.status.converged = false;
    out.values.setConstant(std::min<Index>(k, values.size()), T(std::numeric_limits<S>::quiet_NaN()));
    if (options.vectors) out.vectors.setConstant(n, out.values.size(), T(std::numeric_limits<S>::quiet_NaN()));
    return out;
  }
  // In the order asked for, the first k of them.
  std::vector<Index> order(static_cast<std::size_t>(values.size()));
  V sorted = values;
  sort_values(sorted, options.which);
  std::vector<bool> taken(order.size());
  for (Index i = 0; i < sorted.size(); ++i)
    for (Index j = 0; j < values.size(); ++j)
      if (!taken[static_cast<std::size_t>(j)] && values[j] == sorted[i]) {
        taken[static_cast<std::size_t>(j)] = true;
        order[static_cast<std::size_t>(i)] = j;
        break;
      }
  const Index count = std::min<Index>(k, values.size());
  out.values = scale * sorted.head(count);
  if (options.vectors) {
    out.vectors.resize(n, count);
    for (Index i = 0; i < count; ++i) out.vectors.col(i) = vectors.col(order[static_cast<std::size_t>(i)]);
  }
  return out;
}

inline void check_wanted(const char* what, Index k) {
  if (k < 0) throw shape_error(concat("tessera: ", k, " ", what, ": expected 0 or more"));
}

}  // namespace detail

/// k eigenvalues, and eigenvectors unless options.vectors is false, of a square A: real ones of a symmetric type,
/// complex ones of another. Values alone come from the type's eigenvalues() where it has them; up to 64 rows are solved
/// densely. Throws shape_error. R. Lehoucq, D. Sorensen, C. Yang, "ARPACK Users' Guide" (1998).
template <LinearOperator A>
auto eigs(Context& ctx, const A& a, Index k, EigsOptions options = {}) {
  using S = scalar_of<A>;
  constexpr bool is_symmetric = SymmetricOperator<A>;
  using T = std::conditional_t<is_symmetric, S, std::complex<S>>;
  detail::check_square_for("eigenvalues", a);
  detail::check_wanted("eigenvalues", k);
  if (!options.vectors)
    if (const auto closed = closed_eigenvalues(a, true)) {
      Spectrum<Eigen::VectorX<T>, Eigen::MatrixX<T>> out;
      Eigen::VectorX<T> values;
      if constexpr (is_symmetric)
        values = closed->real();
      else
        values = *closed;
      detail::sort_values(values, options.which);
      out.values = values.head(std::min<Index>(k, values.size()));
      out.status.method = "the type's eigenvalues()";
      out.status.converged = !values.hasNaN();
      return out;
    }
  const LinearMap<S> map(ctx, a);
  return detail::spectrum<is_symmetric>(map, k, options);
}
template <LinearOperator A>
auto eigs(const A& a, Index k, EigsOptions options = {}) {
  return eigs(default_context(), a, k, options);
}

/// The k largest singular values with U and V, by eigs of AᵀA: values below √ε of the largest are not told from zero.
/// Values alone, with options.vectors false, come from the type's singular_values() where it has them.
template <LinearOperator A>
SingularValues<scalar_of<A>> svd(Context& ctx, const A& a, Index k, EigsOptions options = {}) {
  using S = scalar_of<A>;
  detail::check_wanted("singular values", k);
  SingularValues<S> out;
  k = std::min({k, a.rows(), a.cols()});
  if (!options.vectors)
    if (const auto closed = closed_singular_values(a, true)) {
      out.values = closed->head(k);
      out.status.method = "the type's singular_values()";
      out.status.converged = !closed->hasNaN();
      return out;
    }
  const S scale = detail::binary_scale(LinearMap<S>(ctx, a));
  const detail::GramOf<A> gram{&a, scale};
  options.which = Which::largest;
  const auto of_gram = detail::spectrum<true>(LinearMap<S>(ctx, gram), k, options);
  out.status = of_gram.status;
  out.status.iterations = 2 * of_gram.status.iterations + 1;
  out.values = of_gram.values.unaryExpr([scale](S x) { return x < S(0) ? S(0) : scale * std::sqrt(x); });
  if (options.vectors && k > 0) {
    out.V = of_gram.vectors;
    out.U = LinearMap<S>(ctx, a).times(out.V);
    for (Index i = 0; i < out.values.size(); ++i)
      if (out.values[i] > S(0)) out.U.col(i) /= out.values[i];
  }
  return out;
}
template <LinearOperator A>
auto svd(const A& a, Index k, EigsOptions options = {}) {
  return svd(default_context(), a, k, options);
}

/// Which method eigs(A, k) takes and why.
template <LinearOperator A>
Methods explain_eigs(const A& a, EigsOptions options = {}) {
  Methods m{detail::concat("eigs (", detail::text_of(a), ")"), {}};
  m.consider("the type's eigenvalues()", !closed_eigenvalues(a, false) ? "the type has none"
                                         : options.vectors             ? "vectors are wanted"
                                                                       : "")
      .consider("dense eigenvalues", a.rows() <= 64 ? "" : "more than 64 rows")
      .consider("Lanczos with implicit restarts (Spectra)", SymmetricOperator<A> ? "" : "not known to be symmetric")
      .consider("Arnoldi with implicit restarts (Spectra)", "");
  return m;
}

/// The same of svd(A, k).
template <LinearOperator A>
Methods explain_svd(const A& a, EigsOptions options = {}) {
  Methods m{detail::concat("svd (", detail::text_of(a), ")"), {}};
  m.consider("the type's singular_values()", !closed_singular_values(a, false) ? "the type has none"
                                             : options.vectors                 ? "vectors are wanted"
                                                                               : "")
      .consider("dense eigenvalues of AᵀA", a.cols() <= 64 ? "" : "more than 64 columns")
      .consider("Lanczos on AᵀA with implicit restarts (Spectra)", "");
  return m;
}

}  // namespace tessera::inline TESSERA_ABI
