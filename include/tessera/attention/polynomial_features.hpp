/// exp of bounded scores as a polynomial, and the polynomial of a dot product as a product of features: what turns
/// softmax attention into chains of low-rank products.
/// J. Alman, Z. Song, "Fast Attention Requires Bounded Entries" (2023); of triples, "How to Capture Higher-order
/// Correlations? Generalizing Matrix Softmax Attention to Kronecker Computation" (2023).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <optional>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

/// What stands for exp: its Taylor polynomial, or, where scores are known to lie in [-bound, bound], its Chebyshev
/// series there, whose largest error is about 2^degree times smaller.
struct ExpPolynomial {
  static constexpr Index most = 32;
  Index degree = 4;
  std::optional<double> bound = {};

  /// c_0 to c_degree of Σ c_t x^t ≈ e^x. `what` opens the message. Throws unsupported_error for a degree outside
  /// [0, 32] or a bound outside (0, 100].
  std::vector<double> coefficients(const char* what) const {
    if (degree < 0 || degree > most)
      throw unsupported_error(
          detail::concat("tessera: ", what, ": polynomial of degree ", degree, "; expected 0 to ", most));
    std::vector<double> c(static_cast<std::size_t>(degree) + 1, 1.0);
    if (!bound) {
      for (std::size_t t = 1; t < c.size(); ++t) c[t] = c[t - 1] / static_cast<double>(t);
      return c;
    }
    const double b = *bound;
    if (!(b > 0 && b <= 100))
      throw unsupported_error(detail::concat("tessera: ", what, ": bound ", b, " of the scores; expected (0, 100]"));
    // Series by the midpoint rule in the angle, exact up to aliases of order I_{256 - k}(b); T_k by its recurrence.
    constexpr int nodes = 256;
    std::vector<double> before(c.size(), 0.0), chebyshev(c.size(), 0.0), next(c.size(), 0.0);
    std::fill(c.begin(), c.end(), 0.0);
    chebyshev[0] = 1;
    for (std::size_t k = 0; k < c.size(); ++k) {
      double sum = 0;
      for (int j = 0; j < nodes; ++j) {
        const double angle = std::numbers::pi * (j + 0.5) / nodes;
        sum += std::exp(b * std::cos(angle)) * std::cos(static_cast<double>(k) * angle);
      }
      for (std::size_t t = 0; t <= k; ++t) c[t] += sum * (k == 0 ? 1.0 : 2.0) / nodes * chebyshev[t];
      for (std::size_t t = 0; t < c.size(); ++t)
        next[t] = (t == 0 ? 0.0 : (k == 0 ? 1.0 : 2.0) * chebyshev[t - 1]) - before[t];
      before.swap(chebyshev);
      chebyshev.swap(next);
    }
    double power = 1;
    for (std::size_t t = 1; t < c.size(); ++t) c[t] /= power *= b;
    return c;
  }
};

namespace detail {

/// Σ_t c_t (scale Σ_j x_j y_j)^t = Σ_a w_a x^a y^a over the monomials a of degree at most g in d variables, C(d + g, g)
/// of them; so with any number of factors x_j y_j z_j …. In order of degree, within one by the least variable: those of
/// degree t whose least is c are x_c times a tail of degree t - 1, so that a row of features is one multiplication a
/// feature over contiguous runs.
class PolynomialFeatures {
 public:
  static constexpr Index most = Index{1} << 18;

  /// C(d + degree, degree), or the largest Index where it is more.
  static Index count_of(Index d, Index degree) {
    Index count = 1;
    for (Index t = 1; t <= degree; ++t) {  // C(d + t, t) = C(d + t - 1, t - 1) (d + t) / t, without a remainder
      if (d > std::numeric_limits<Index>::max() - t || count > std::numeric_limits<Index>::max() / (d + t))
        return std::numeric_limits<Index>::max();
      count = count * (d + t) / t;
    }
    return count;
  }

  /// Throws unsupported_error for more than 2^18 features, and as ExpPolynomial.
  PolynomialFeatures(const char* what, Index d, const ExpPolynomial& polynomial, double scale) {
    const auto c = polynomial.coefficients(what);
    const Index degree = polynomial.degree, features = count_of(d, degree);
    if (features > most)
      throw unsupported_error(concat("tessera: ", what, ": degree ", degree, " over d = ", d, " has ",
                                     features == std::numeric_limits<Index>::max() ? "more than " : "", features,
                                     " features; expected at most ", most, ", so a lower degree or fewer dimensions"));
    weight_.assign(static_cast<std::size_t>(features), 1.0);
    std::vector<Index> least(weight_.size(), d), power(weight_.size(), 0);  // of a's least variable
    Index begin = 0, at = 1;                                                // the last degree is [begin, at)
    for (Index t = 1; t <= degree; ++t) {
      const Index end = at;
      Index tail = begin;
      for (Index v = 0; v < d; ++v) {
        while (tail < end && least[static_cast<std::size_t>(tail)] < v) ++tail;
        runs_.push_back({v, tail, end - tail});
        for (Index parent = tail; parent < end; ++parent, ++at) {  // t!/a! from (t - 1)!/(a - e_v)!
          const auto p = static_cast<std::size_t>(parent), a = static_cast<std::size_t>(at);
          least[a] = v;
          power[a] = least[p] == v ? power[p] + 1 : 1;
          weight_[a] = weight_[p] * static_cast<double>(t) / static_cast<double>(power[a]);
        }
      }
      begin = end;
    }
    Index first = 0;
    double scales = 1;
    for (Index t = 0; t <= degree; ++t, scales *= scale) {
      const Index last = count_of(d, t);
      for (; first < last; ++first) weight_[static_cast<std::size_t>(first)] *= c[static_cast<std::size_t>(t)] * scales;
    }
  }

  Index count() const { return static_cast<Index>(weight_.size()); }

  /// Tokens whose features exist at one time.
  Index block() const { return std::clamp<Index>((Index{1} << 21) / count(), 16, 256); }

  /// f_a = x^a. x (d), f (count).
  template <class T>
  void row(VectorView<const T> x, T* f) const {
    using V = simd::Vec<T, simd::Portable<>>;
    *f++ = T(1);
    const T* const all = f - 1;
    for (const Run& run : runs_) {
      const T factor = x[run.variable];
      const T* const from = all + run.from;
      Index i = 0;
      for (; i + V::width <= run.length; i += V::width) (V(factor) * V::load(from + i)).store(f + i);
      for (; i < run.length; ++i) f[i] = factor * from[i];
      f += run.length;
    }
  }

  /// M = Σ_i x_i^a ⊗ g_i (times the weights where `weighted`); `fill(i, to)` writes g_i (N). X (n, d), M (count, N).
  /// 2·n·count·N flops, memory O(count) beside M. The same bits for any number of threads.
  template <class T, class Fill>
  void gather(Context& ctx, MatrixView<const T> X, bool weighted, MatrixView<T> M, const Fill& fill) const {
    Workspace::Scope scope(ctx.workspace);
    const Index n = X.rows(), N = M.cols(), tokens = std::min(block(), n);
    T* const f = scope.take<T>(tokens * count());
    T* const g = scope.take<T>(tokens * N);
    if (n == 0) gemm<T>(ctx, T(0), MatrixView<const T>(f, count(), 0), MatrixView<const T>(g, 0, N), T(0), M);
    for (Index i = 0; i < n; i += tokens) {
      const Index rows = std::min(tokens, n - i);
      for_each_chunk(ctx, rows, 16, [&](Context&, Index begin, Index end) {
        for (Index r = begin; r < end; ++r) {
          row<T>(X.row(i + r), f + r * count());
          fill(i + r, g + r * N);
        }
      });
      gemm<T>(ctx, T(1), MatrixView<T>(f, rows, count()).transposed(), MatrixView<T>(g, rows, N), i == 0 ? T(0) : T(1),
              M);
    }
    if (!weighted) return;
    for (Index a = 0; a < count(); ++a) {
      const T w = static_cast<T>(weight_[static_cast<std::size_t>(a)]);
      for (Index j = 0; j < N; ++j) M(a, j) *= w;
    }
  }

  /// `use(i, y)` with y (N) = Σ_a x_i^a M_a, by several threads at once. X (n, d), M (count, N). As gather.
  template <class T, class Use>
  void scatter(Context& ctx, MatrixView<const T> X, MatrixView<const T> M, const Use& use) const {
    Workspace::Scope scope(ctx.workspace);
    const Index n = X.rows(), N = M.cols(), tokens = std::min(block(), n);
    T* const f = scope.take<T>(tokens * count());
    T* const y = scope.take<T>(tokens * N);
    for (Index i = 0; i < n; i += tokens) {
      const Index rows = std::min(tokens, n - i);
      for_each_chunk(ctx, rows, 16, [&](Context&, Index begin, Index end) {
        for (Index r = begin; r < end; ++r) row<T>(X.row(i + r), f + r * count());
      });
      gemm<T>(ctx, T(1), MatrixView<T>(f, rows, count()), M, T(0), MatrixView<T>(y, rows, N));
      for_each_chunk(ctx, rows, 16, [&](Context&, Index begin, Index end) {
        for (Index r = begin; r < end; ++r) use(i + r, y + r * N);
      });
    }
  }

 private:
  struct Run {  // the next `length` features are those from `from` on, times x_variable
    Index variable, from, length;
  };
  std::vector<Run> runs_;
  std::vector<double> weight_;  // c_t scale^t t!/a!
};

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
