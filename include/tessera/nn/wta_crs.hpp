/// Products from a sample of their column-row pairs, for weight gradients that remember few activations.
/// Z. Liu et al., "Winner-Take-All Column Row Sampling for Memory Efficient Adaptation of Language Model" (NeurIPS
/// 2023). XY = Σ_i X_i Y_i over columns of X and rows of Y, p_i ∝ |X_i|·|Y_i|. Of k pairs the |C| most probable are
/// taken as they are, the others drawn from the rest with probability p_j / (1 - P_C), so that (eq. 6)
///   E[Σ_{i∈C} X_i Y_i + (1 - P_C) / (k - |C|) Σ_j X_j Y_j / p_j] = XY,
/// with |C| where (1 - P_C) / (k - |C|) is least (theorem 2). Its variance is below that of drawing all k where
/// P_C > |C| / k.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include <tessera/core/rng.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// Pairs and what each counts: Σ_s scale(s) · X_{index(s)} Y_{index(s)} estimates XY. The first `exact` have scale 1.
struct ColumnRowSample {
  std::vector<Index> index;
  std::vector<double> scale;
  Index exact = 0;
};

/// k of n pairs of weights |X_i|·|Y_i| (or any estimate of them: the result is unbiased whatever they are, as long as
/// no pair that matters has weight 0). All of them, exactly, if k >= n or at most k have weight. Draw s uses block
/// `first_draw + s` of the generator. O(n log n). Throws shape_error for k < 1 and weights that are negative or not
/// finite.
inline ColumnRowSample wta_crs(std::span<const double> weights, Index k, const Philox& draws,
                               std::uint64_t first_draw = 0) {
  const auto n = static_cast<Index>(weights.size());
  if (k < 1)
    throw shape_error(tessera::detail::concat("tessera: wta_crs of ", n, " pairs: k is ", k, "; expected 1 or more"));
  for (Index i = 0; i < n; ++i)
    if (const double w = weights[static_cast<std::size_t>(i)]; !(w >= 0) || !std::isfinite(w))
      throw shape_error(
          tessera::detail::concat("tessera: wta_crs: weight ", i, " is ", w, "; expected a finite one, 0 or more"));
  const auto weight = [&](Index i) { return weights[static_cast<std::size_t>(i)]; };
  std::vector<Index> order(weights.size());
  std::iota(order.begin(), order.end(), Index{0});
  std::sort(order.begin(), order.end(),
            [&](Index a, Index b) { return weight(a) != weight(b) ? weight(a) > weight(b) : a < b; });
  std::vector<double> rest(order.size() + 1, 0.0);  // the weight that the first c leave
  for (std::size_t c = order.size(); c-- > 0;) rest[c] = rest[c + 1] + weight(order[c]);
  if (!std::isfinite(rest[0]))
    throw shape_error(
        tessera::detail::concat("tessera: wta_crs: the weights of ", n, " pairs overflow; expected a sum"));
  ColumnRowSample sample;
  const auto weighty = static_cast<Index>(std::find(rest.begin(), rest.end() - 1, 0.0) - rest.begin());
  const auto share = [&](Index c) { return rest[static_cast<std::size_t>(c)]; };
  if (k >= n || weighty <= k) {
    sample.exact = k >= n ? n : weighty;
  } else {
    double least = share(0) / static_cast<double>(k);
    for (Index c = 1; c < k; ++c)
      if (const double value = share(c) / static_cast<double>(k - c); value < least) {
        least = value;
        sample.exact = c;
      }
  }
  sample.index.assign(order.begin(), order.begin() + sample.exact);
  sample.scale.assign(static_cast<std::size_t>(sample.exact), 1.0);
  if (k >= n || weighty <= k) return sample;
  const double mass = share(sample.exact), drawn = static_cast<double>(k - sample.exact);
  for (Index s = sample.exact; s < k; ++s) {
    // The pair whose part of the remaining mass holds the draw; rest falls.
    const auto words = draws.block(first_draw + static_cast<std::uint64_t>(s));
    const std::uint64_t bits = (std::uint64_t{words[0]} << 32 | words[1]) >> 11;
    const double point = mass * (1 - static_cast<double>(bits) * 0x1p-53);
    const auto end = rest.begin() + weighty + 1;
    const auto past =
        std::lower_bound(rest.begin() + sample.exact + 1, end, point, [](double r, double p) { return r >= p; });
    const Index at = std::min<Index>(past - rest.begin(), weighty) - 1;
    const Index pair = order[static_cast<std::size_t>(at)];
    sample.index.push_back(pair);
    sample.scale.push_back(mass / drawn / weight(pair));
  }
  return sample;
}

/// What a layer remembers of X (n, d) instead of all of it: the sampled tokens (k, d), scaled. k/n of the bytes.
template <class T>
class SampledRows {
 public:
  SampledRows(MatrixView<const T> X, ColumnRowSample sample)
      : sample_(std::move(sample)),
        rows_(static_cast<Index>(sample_.index.size()) * X.cols(), uninitialized),
        cols_(X.cols()) {
    const MatrixView<T> rows(rows_.data(), size(), cols_);
    for (Index s = 0; s < size(); ++s) {
      const Index i = sample_.index[static_cast<std::size_t>(s)];
      if (i < 0 || i >= X.rows())
        throw shape_error(tessera::detail::concat(
            "tessera: SampledRows of (", tessera::detail::shape_text(X.rows(), X.cols()), "): row ", i, " was drawn"));
      const T by = static_cast<T>(sample_.scale[static_cast<std::size_t>(s)]);
      for (Index j = 0; j < cols_; ++j) rows(s, j) = by * X(i, j);
    }
  }
  Index size() const { return static_cast<Index>(sample_.index.size()); }
  std::size_t bytes() const { return rows_.bytes() + sample_.index.size() * sizeof(Index); }

  /// dW (m, d) = beta·dW + the estimate of dYᵀ X, of dY (n, m). 2·k·m·d flops. Throws shape_error.
  void weight_gradient(Context& ctx, std::type_identity_t<MatrixView<const T>> dY, std::type_identity_t<T> beta,
                       MatrixView<T> dW) const {
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> picked(scope.take<T>(size() * dY.cols()), size(), dY.cols());
    for (Index s = 0; s < size(); ++s) {
      const Index i = sample_.index[static_cast<std::size_t>(s)];
      if (i >= dY.rows())
        throw shape_error(tessera::detail::concat("tessera: weight gradient of row ", i, " of the activations with dY ",
                                                  tessera::detail::shape_text(dY.rows(), dY.cols())));
      for (Index j = 0; j < dY.cols(); ++j) picked(s, j) = dY(i, j);
    }
    gemm<T>(ctx, T(1), MatrixView<const T>(picked).transposed(), MatrixView<const T>(rows_.data(), size(), cols_), beta,
            dW);
  }

 private:
  ColumnRowSample sample_;
  Buffer<T> rows_;
  Index cols_;
};

/// |X_i|·|Y_i| of columns of X (m, n) and rows of Y (n, q).
template <class T>
std::vector<double> column_row_weights(std::type_identity_t<MatrixView<const T>> X, MatrixView<T> Y) {
  if (X.cols() != Y.rows())
    throw shape_error(tessera::detail::concat(
        "tessera: column_row_weights of (", tessera::detail::shape_text(X.rows(), X.cols()), ") and (",
        tessera::detail::shape_text(Y.rows(), Y.cols()), "): columns ", X.cols(), " != rows ", Y.rows()));
  std::vector<double> weights(static_cast<std::size_t>(X.cols()));
  const auto norm = [](auto v) {
    double sum = 0;
    for (Index i = 0; i < v.extent(0); ++i) sum += static_cast<double>(v[i]) * static_cast<double>(v[i]);
    return std::sqrt(sum);
  };
  for (Index i = 0; i < X.cols(); ++i) weights[static_cast<std::size_t>(i)] = norm(X.col(i)) * norm(Y.row(i));
  return weights;
}

/// Z (m, q) = an unbiased estimate of X (m, n) Y (n, q) from k pairs. 2·m·k·q flops. Throws shape_error.
template <class T>
void wta_crs_matmul(Context& ctx, std::type_identity_t<MatrixView<const T>> X,
                    std::type_identity_t<MatrixView<const T>> Y, Index k, const Philox& draws, MatrixView<T> Z,
                    std::uint64_t first_draw = 0) {
  const SampledRows<T> sampled(X.transposed(), wta_crs(column_row_weights<const T>(X, Y), k, draws, first_draw));
  sampled.weight_gradient(ctx, Y, T(0), Z.transposed());
}

}  // namespace tessera::inline TESSERA_ABI::nn
