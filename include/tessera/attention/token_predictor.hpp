/// A small predictor of which tokens are kept, in place of a full pass over scores, and its training.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include <tessera/attention/detail/parts.hpp>
#include <tessera/core/context.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/gemv/gemv.hpp>
#include <tessera/kernels/map/map.hpp>
#include <tessera/simd/math.hpp>

namespace tessera::inline TESSERA_ABI::nn {

enum class PredictorUnit { silu, relu };

struct PredictorShape {
  Index channels, rank;
  PredictorUnit unit = PredictorUnit::silu;

  Index parameter_count() const {
    detail::check_sizes("PredictorShape", {channels, rank});
    return rank * (channels + 1) + 1;
  }
};

/// Parameters, or their gradients, in one span in this order.
template <class T>
struct PredictorParameters {
  MatrixView<T> A;        // (rank, channels)
  VectorView<T> b, bias;  // (rank), (1)

  /// Throws shape_error.
  PredictorParameters(const PredictorShape& s, std::span<T> all) {
    detail::Parts<T> parts("PredictorParameters", all, s.parameter_count());
    A = parts.matrix(s.rank, s.channels);
    b = parts.vector(s.rank);
    bias = parts.vector(1);
  }
};

namespace detail {

/// h becomes unit(h), slope its derivative.
struct SiluSlope {
  template <class V>
  TESSERA_INLINE void operator()(V& h, V& slope) const {
    const V s = sigmoid(h), y = h * s;
    slope = fma(y, V(typename V::value_type(1)) - s, s);
    h = y;
  }
};
struct ReluSlope {
  template <class V>
  TESSERA_INLINE void operator()(V& h, V& slope) const {
    const V zero(typename V::value_type(0)), one(typename V::value_type(1));
    slope = select(zero < h, one, zero);
    h = select(h < zero, zero, h);
  }
};

inline constexpr Index predictor_tile = 256;  // tokens

/// What reads X (rows, channels), a tile: H = unit(X Aᵀ), its slope, z = H b + bias.
template <class T>
struct PredictorTile {
  const PredictorParameters<const T>& w;
  MatrixView<T> H, slope;  // (rows, rank)
  VectorView<T> z;         // (rows)

  PredictorTile(Context& ctx, Workspace::Scope& scope, const PredictorShape& s, const PredictorParameters<const T>& p,
                MatrixView<const T> X)
      : w(p),
        H(scope.take<T>(X.rows() * s.rank), X.rows(), s.rank),
        slope(scope.take<T>(X.rows() * s.rank), X.rows(), s.rank),
        z(scope.take<T>(X.rows()), X.rows()) {
    gemm<T>(ctx, T(1), X, w.A.transposed(), T(0), H);
    const VectorView<T> h(H.data(), H.size()), d(slope.data(), H.size());
    if (s.unit == PredictorUnit::silu)
      map(ctx, SiluSlope{}, h, d);
    else
      map(ctx, ReluSlope{}, h, d);
    std::fill_n(z.data(), X.rows(), w.bias[0]);
    gemv<T>(ctx, T(1), H, w.b, T(1), z);
  }
};

/// σ(z), and its error log(1 + e^z) - z where the answer is yes, log(1 + e^z) where it is no.
template <class T>
T logistic(T z) {
  const T e = std::exp(-std::abs(z));
  return (z < T(0) ? e : T(1)) / (T(1) + e);
}
template <class T>
T logistic_loss(T z, bool yes) {
  return std::max(yes ? -z : z, T(0)) + std::log1p(std::exp(-std::abs(z)));
}

template <class T>
void check_predictor(const char* what, const PredictorShape& s, MatrixView<const T> X, const char* name, Index count) {
  if (X.cols() != s.channels || count != X.rows())
    throw shape_error(tessera::detail::concat("tessera: ", what, " of (",
                                              tessera::detail::shape_text(X.rows(), X.cols()), ") with ", name, " of ",
                                              count, ": expected (n,", s.channels, ") and n"));
}

}  // namespace detail

/// probability_i = σ(unit(x_i Aᵀ)·b + bias) that token i is kept: scores for keep_top and keep_above. 2·n·channels·rank
/// flops, scratch 512·rank a thread; the same bits for any number of threads. Throws shape_error. The small predictors
/// of T. Wang et al., "LeMo" (2025), here a low-rank one of each token by itself.
template <class T>
void token_predictor(Context& ctx, const PredictorShape& shape, std::type_identity_t<std::span<const T>> parameters,
                     std::type_identity_t<MatrixView<const T>> X,  // (n, channels)
                     VectorView<T> probability) {                  // (n)
  const PredictorParameters<const T> w(shape, parameters);
  detail::check_predictor<T>("token_predictor", shape, X, "probabilities", probability.extent(0));
  for_each_chunk(ctx, X.rows(), detail::predictor_tile, [&](Context& worker, Index begin, Index end) {
    Workspace::Scope scope(worker.workspace);
    const detail::PredictorTile<T> tile(worker, scope, shape, w, X.slice(0, begin, end - begin));
    for (Index i = begin; i < end; ++i) probability[i] = detail::logistic(tile.z[i - begin]);
  });
}

/// The mean over tokens of -log p where the token was kept (mask byte not 0: keep_top of received attention), else of
/// -log(1 - p); dparameters = beta·dparameters + its gradient, and dX, where it has data, its gradient. 0 for no
/// tokens. 6·n·channels·rank flops, scratch 1024·rank. Throws shape_error.
template <class T>
T token_predictor_loss(Context& ctx, const PredictorShape& shape, std::type_identity_t<std::span<const T>> parameters,
                       MatrixView<const T> X,               // (n, channels)
                       std::span<const std::uint8_t> mask,  // (n)
                       std::type_identity_t<T> beta, std::type_identity_t<std::span<T>> dparameters,
                       std::type_identity_t<MatrixView<T>> dX = {}) {  // (n, channels), or {}
  const PredictorParameters<const T> w(shape, parameters);
  const PredictorParameters<T> grads(shape, dparameters);
  detail::check_predictor<T>("token_predictor_loss", shape, X, "a mask", static_cast<Index>(mask.size()));
  if (dX.data() != nullptr) {
    detail::check_predictor<T>("token_predictor_loss into dX", shape, dX, "a mask", static_cast<Index>(mask.size()));
  }
  if (beta == T(0))
    std::fill(dparameters.begin(), dparameters.end(), T(0));
  else
    for (auto& g : dparameters) g *= beta;
  const Index n = X.rows();
  double loss = 0;
  for (Index begin = 0; begin < n; begin += detail::predictor_tile) {  // in turn: gradients are sums over tokens
    const Index rows = std::min(detail::predictor_tile, n - begin);
    Workspace::Scope scope(ctx.workspace);
    const auto x = X.slice(0, begin, rows);
    const detail::PredictorTile<T> tile(ctx, scope, shape, w, x);
    for (Index i = 0; i < rows; ++i) {
      const bool yes = mask[static_cast<std::size_t>(begin + i)] != 0;
      loss += static_cast<double>(detail::logistic_loss(tile.z[i], yes));
      tile.z[i] = (yes ? -detail::logistic(-tile.z[i]) : detail::logistic(tile.z[i])) / static_cast<T>(n);
      grads.bias[0] += tile.z[i];
    }
    gemv<T>(ctx, T(1), tile.H.transposed(), tile.z, T(1), grads.b);
    for (Index i = 0; i < rows; ++i)
      for (Index r = 0; r < shape.rank; ++r) tile.slope(i, r) *= tile.z[i] * w.b[r];
    gemm<T>(ctx, T(1), tile.slope.transposed(), x, T(1), grads.A);
    if (dX.data() != nullptr) gemm<T>(ctx, T(1), tile.slope, w.A, T(0), dX.slice(0, begin, rows));
  }
  return n == 0 ? T(0) : static_cast<T>(loss / static_cast<double>(n));
}

}  // namespace tessera::inline TESSERA_ABI::nn
