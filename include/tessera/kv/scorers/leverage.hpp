/// Tokens whose keys the others cannot replace stay.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <Eigen/Cholesky>

#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kv/row_math.hpp>
#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {
/// Rows by a (d, rank) matrix of N(0, 1/rank), or copies where rank is 0 or at least d; divided by their greatest
/// magnitude, zeros where a row is not finite. The result, in `scope`, is (n, rank or d).
template <class T>
MatrixView<T> sketched(Context& ctx, Workspace::Scope& scope, MatrixView<const T> rows, Index rank,
                       std::uint64_t seed) {
  const Index n = rows.rows(), d = rows.cols();
  const MatrixView<T> copy(scope.take<T>(n * d), n, d);
  T most = 0;
  for (Index t = 0; t < n; ++t) {
    T size = 0, poison = 0;
    for (Index c = 0; c < d; ++c) {
      copy(t, c) = rows(t, c);
      size = std::max(size, std::abs(rows(t, c)));
      poison += rows(t, c) * 0;
    }
    if (poison == 0)
      most = std::max(most, size);
    else
      std::fill_n(copy.data() + t * d, d, T(0));
  }
  for (Index i = 0; most > 0 && i < n * d; ++i) copy.data()[i] /= most;
  if (rank <= 0 || rank >= d) return copy;
  const MatrixView<T> directions(scope.take<T>(d * rank), d, rank);
  const Philox draws(seed);
  for (Index i = 0; i < d * rank; ++i)
    directions.data()[i] = static_cast<T>(draws.normal(static_cast<std::uint64_t>(i)) / std::sqrt(double(rank)));
  const MatrixView<T> out(scope.take<T>(n * rank), n, rank);
  gemm<T>(ctx, T(1), MatrixView<const T>(copy), MatrixView<const T>(directions), T(0), out);
  return out;
}
}  // namespace detail

/// Ridge leverage scores of keys, x_t (XᵀX + λI)⁻¹ x_tᵀ with λ = ridge · trace(XᵀX) / columns, in [0, 1]: how far x_t
/// is from what the other rows span. X is the keys seen through `sketch` random directions; 0, or as many as channels:
/// the keys themselves.
/// V. Chari, B. Van Durme, "Compactor: Calibrated Query-Agnostic KV Cache Compression with Approximate Leverage Scores"
/// (2025), §3; ridge: A. Alaoui, M. Mahoney, "Fast Randomized Kernel Methods With Statistical Guarantees" (2015).
/// Needs keys; preserves positions. O(n·d·sketch + n·sketch² + sketch³), 4·(d + 2·sketch) bytes a token while it runs.
/// Keys that are not finite score NaN and touch no other.
struct Leverage {
  Index sketch = 48;
  double ridge = 1e-3;
  std::uint64_t seed = 0;
  static constexpr Needs needs = Needs::keys;

  /// Throws unsupported_error unless sketch >= 0 and the ridge is finite and at least 0.
  void check(const KvCacheBase&) const {
    if (sketch < 0 || !(ridge >= 0 && std::isfinite(ridge)))
      throw unsupported_error(tessera::detail::concat("tessera: Leverage by ", sketch, " directions and a ridge of ",
                                                      ridge, "; expected at least 0 of each"));
  }
  template <std::same_as<KvTokens> Tokens>  // a template: matrix products are compiled where it is used
  void operator()(Context& ctx, const Tokens& tokens, std::span<float> score) const {  // (n)
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<float> X = detail::sketched<float>(ctx, scope, tokens.keys, sketch, seed);
    const Index n = X.rows(), k = X.cols();
    const MatrixView<float> gram(scope.take<float>(k * k), k, k), root(scope.take<float>(k * k), k, k);
    const MatrixView<const float> x = X, r = root;
    gemm<float>(ctx, 1, x.transposed(), x, 0, gram);
    Eigen::MatrixXd G(k, k);
    for (Index i = 0; i < k; ++i)
      for (Index j = 0; j < k; ++j) G(i, j) = static_cast<double>(gram(i, j));
    const double shift = std::max(ridge, 1e-6) * G.trace() / static_cast<double>(k);  // f32 holds no less
    for (Index i = 0; i < k; ++i) G(i, i) += shift > 0 ? shift : 1;
    const Eigen::LLT<Eigen::MatrixXd> factor(G);  // G = L Lᵀ: the score is |L⁻¹ x|²
    const Eigen::MatrixXd inverse = factor.matrixL().solve(Eigen::MatrixXd::Identity(k, k));
    for (Index i = 0; i < k; ++i)
      for (Index j = 0; j < k; ++j) root(i, j) = static_cast<float>(inverse(i, j));
    const MatrixView<float> Y(scope.take<float>(n * k), n, k);
    gemm<float>(ctx, 1, x, r.transposed(), 0, Y);
    for (Index t = 0; t < n; ++t) {
      const float* const key = tokens.keys.data() + t * tokens.keys.row_stride();
      score[static_cast<std::size_t>(t)] =
          detail::dot(Y.data() + t * k, Y.data() + t * k, k) + 0 * detail::inverse_norm(key, tokens.keys.cols());
    }
  }
};

/// score_t = |k_t G|² |v_t G|² over the sums of either, G of `rank` random directions; 0: the norms themselves.
/// A. Sengupta et al., "Value-Guided KV Compression for LLMs via Approximated CUR Decomposition" (2025), CurDKV, §3:
/// row leverage of keys times that of values. Needs keys and values; preserves positions. O(n·d·rank), 4·(d + rank)
/// bytes a token while it runs.
struct CurDkv {
  Index rank = 20;
  std::uint64_t seed = 0;
  static constexpr Needs needs = Needs::keys | Needs::values;

  /// Throws unsupported_error unless rank >= 0.
  void check(const KvCacheBase&) const {
    if (rank < 0)
      throw unsupported_error(tessera::detail::concat("tessera: CurDkv by ", rank, " directions; expected at least 0"));
  }
  template <std::same_as<KvTokens> Tokens>
  void operator()(Context& ctx, const Tokens& tokens, std::span<float> score) const {  // (n)
    std::fill(score.begin(), score.end(), 1.0f);
    for (const auto& rows : {tokens.keys, tokens.values}) {
      Workspace::Scope scope(ctx.workspace);
      const MatrixView<float> X = detail::sketched<float>(ctx, scope, rows, rank, seed);
      double sum = 0;
      for (Index t = 0; t < X.rows(); ++t) {
        const float square = detail::dot(X.data() + t * X.cols(), X.data() + t * X.cols(), X.cols());
        score[static_cast<std::size_t>(t)] *=
            square + 0 * detail::inverse_norm(rows.data() + t * rows.row_stride(), rows.cols());
        sum += static_cast<double>(square);
      }
      for (float& x : score) x *= sum > 0 ? static_cast<float>(1 / sum) : 0.0f;
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
