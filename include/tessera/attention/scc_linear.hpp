/// Attention by the spectral correlation coefficient, linear in the tokens, forward and backward.
#pragma once

#include <algorithm>
#include <cmath>

#include <tessera/kernels/attention/attention.hpp>
#include <tessera/nn/attention_backward.hpp>
#include <tessera/nn/gdn.hpp>
#include <tessera/nn/norm.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// Keys' features are normalised token by token, as the queries' are, or each channel's over all tokens, as in the
/// authors' program.
enum class SccKeys { per_token, over_tokens };

namespace detail {

inline constexpr Index scc_block = 512;  // tokens at a time

/// dx = 2 x dy
struct SquareBackward {
  template <class V>
  TESSERA_INLINE void operator()(V& dx, const V& x, const V& dy) const {
    dx = (x + x) * dy;
  }
};
/// y -= a b
struct SubtractProduct {
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& a, const V& b) const {
    y = fnma(a, b, y);
  }
};

/// Features of a block of tokens: x̂ = layernorm(x), then rmsnorm(x̂²) = √d φ(x), which cancels what the layernorm's eps
/// takes from the scale; or x̂² itself.
template <class T>
struct SccFeatures {
  static constexpr T eps = T(1e-12);
  Context& ctx;
  bool unit;
  T *centred, *squared, *features, *vectors;
  Index d;

  SccFeatures(Context& c, Workspace::Scope& scope, Index width, bool normalised)
      : ctx(c),
        unit(normalised),
        centred(scope.take<T>(scc_block * width)),
        squared(scope.take<T>(scc_block * width)),
        features(scope.take<T>(scc_block * width)),
        vectors(scope.take<T>(3 * scc_block)),
        d(width) {}
  VectorView<T> vector(Index i, Index rows) const { return {vectors + i * scc_block, rows}; }

  MatrixView<T> forward(MatrixView<const T> X) const {  // (rows, d)
    const Index rows = X.rows();
    const MatrixView<T> x(centred, rows, d), s(squared, rows, d), f(features, rows, d);
    layernorm<T>(ctx, X, {}, {}, eps, x, vector(0, rows), vector(1, rows));
    map_matrices(ctx, "scc features", Square{}, s, MatrixView<const T>(x));
    if (!unit) return s;
    rmsnorm<T>(ctx, s, {}, eps, f, vector(2, rows));
    return f;
  }
  /// dX of df, after forward(X). Overwrites df.
  void backward(MatrixView<const T> X, MatrixView<T> df, MatrixView<T> dX) const {
    const Index rows = X.rows();
    const MatrixView<T> x(centred, rows, d), s(squared, rows, d);
    if (unit) rmsnorm_backward<T>(ctx, s, {}, vector(2, rows), df, T(0), df, T(0), {});
    map_matrices(ctx, "scc features", SquareBackward{}, df, MatrixView<const T>(x), MatrixView<const T>(df));
    layernorm_backward<T>(ctx, X, {}, vector(0, rows), vector(1, rows), df, T(0), dX, T(0), {}, {});
  }
};

/// One head. F, G are the features of K, Q: M = Fᵀ V, its rows divided by the norms of F's columns where these are over
/// all tokens, out = V + scale · G M.
template <class T>
struct SccHead {
  Context& ctx;
  SccKeys kind;
  MatrixView<const T> Q, K, V;  // (n, d), (n, d), (n, dv)

  template <class Body>
  void blocks(Body&& body) const {
    for (Index at = 0; at < Q.rows(); at += scc_block) body(at, std::min(scc_block, Q.rows() - at));
  }
  T scale() const {
    const double n = static_cast<double>(Q.rows()), d = static_cast<double>(Q.cols());
    return static_cast<T>(1 / (std::sqrt(n) * (kind == SccKeys::per_token ? d : std::sqrt(d))));
  }
  /// M, and what its rows were multiplied by into inverse, where over tokens.
  void summary(const SccFeatures<T>& key, MatrixView<T> M, VectorView<T> inverse) const {
    static constexpr T one = T(1);
    blocks([&](Index at, Index rows) {
      const auto F = key.forward(K.slice(0, at, rows));
      gemm<T>(ctx, T(1), F.transposed(), V.slice(0, at, rows), at == 0 ? T(0) : T(1), M);
      if (kind == SccKeys::per_token) return;
      map_matrices(ctx, "scc features", Square{}, MatrixView<T>(key.features, rows, key.d), MatrixView<const T>(F));
      gemv<T>(ctx, T(1), MatrixView<const T>(key.features, rows, key.d).transposed(),
              VectorView<const T>(&one, {rows}, {0}), at == 0 ? T(0) : T(1), inverse);
    });
    for (Index c = 0; c < M.rows() && kind == SccKeys::over_tokens; ++c) {
      inverse[c] = inverse[c] == T(0) ? T(0) : 1 / std::sqrt(inverse[c]);
      map(ctx, Scale<T>{inverse[c]}, M.row(c));
    }
  }
  void forward(MatrixView<T> out) const {
    const Index d = Q.cols(), dv = V.cols();
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> M(scope.take<T>(d * dv), d, dv);
    summary({ctx, scope, d, kind == SccKeys::per_token}, M, {scope.take<T>(d), d});
    const SccFeatures<T> query(ctx, scope, d, true);
    map_matrices(ctx, "scc_linear_attention", Copy{}, out, V);
    blocks([&](Index at, Index rows) {
      gemm<T>(ctx, scale(), query.forward(Q.slice(0, at, rows)), M, T(1), out.slice(0, at, rows));
    });
  }
  void backward(MatrixView<const T> dO, MatrixView<T> dQ, MatrixView<T> dK, MatrixView<T> dV) const {
    const Index d = Q.cols(), dv = V.cols();
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> M(scope.take<T>(d * dv), d, dv), dM(scope.take<T>(d * dv), d, dv);
    const VectorView<T> inverse(scope.take<T>(d), d), pull(scope.take<T>(d), d);
    const SccFeatures<T> query(ctx, scope, d, true), key(ctx, scope, d, kind == SccKeys::per_token);
    T* const gradient = scope.take<T>(scc_block * d);
    summary(key, M, inverse);
    blocks([&](Index at, Index rows) {
      gemm<T>(ctx, scale(), query.forward(Q.slice(0, at, rows)).transposed(), dO.slice(0, at, rows),
              at == 0 ? T(0) : T(1), dM);
    });
    for (Index c = 0; c < d && kind == SccKeys::over_tokens; ++c) {  // F_c / |F_c| turns with F_c, |F_c| stays
      pull[c] = dot<T>(M.row(c), dM.row(c)) * inverse[c] * inverse[c];
      map(ctx, Scale<T>{inverse[c]}, dM.row(c));
    }
    blocks([&](Index at, Index rows) {
      const MatrixView<T> df(gradient, rows, d);
      const auto part = [&](const auto& X) { return X.slice(0, at, rows); };
      query.forward(part(Q));
      gemm<T>(ctx, scale(), part(dO), M.transposed(), T(0), df);
      query.backward(part(Q), df, part(dQ));
      const auto F = key.forward(part(K));
      gemm<T>(ctx, T(1), part(V), dM.transposed(), T(0), df);
      if (kind == SccKeys::over_tokens)
        for (Index i = 0; i < rows; ++i)
          map(ctx, SubtractProduct{}, df.row(i), VectorView<const T>(F.row(i)), VectorView<const T>(pull));
      map_matrices(ctx, "scc_linear_attention_backward", Copy{}, part(dV), part(dO));
      gemm<T>(ctx, T(1), F, dM, T(1), part(dV));
      key.backward(part(K), df, part(dK));
    });
  }
};

template <class T>
void check_scc(const char* what, View<const T, 3> Q, View<const T, 3> K, View<const T, 3> V, View<const T, 3> out) {
  const auto text = [](const auto& x) { return concat('(', x.extent(0), ", ", x.extent(1), ", ", x.extent(2), ')'); };
  if (Q.extents() != K.extents() || V.extent(0) != Q.extent(0) || V.extent(1) != Q.extent(1) ||
      out.extents() != V.extents())
    throw shape_error(concat("tessera: ", what, " of queries ", text(Q), ", keys ", text(K), ", values ", text(V),
                             " and ", text(out), ": expected twice (heads, n, d) and twice (heads, n, dv)"));
}

}  // namespace detail

/// out = V + φ(Q) (φ(K)ᵀ V) / √n in each head, φ(x) = (x - x̄)² / |(x - x̄)²| by channels: the numerator and denominator
/// of the correlation coefficient, squared and taken apart, so that φ(Q) φ(K)ᵀ is never formed. φ(a·x + b) = φ(x); that
/// of a constant token is 0, where its mean is exact. out may be V.
/// 4·n·d·dv flops a head, scratch O(d·dv) whatever n. Throws shape_error. M. Zhang et al., "ESSAformer: Efficient
/// Transformer for Hyperspectral Image Super-resolution" (ICCV 2023), §3.2; the residual V and √n are their program's.
template <class T>
void scc_linear_attention(Context& ctx, std::type_identity_t<View<const T, 3>> Q,  // (heads, n, d)
                          std::type_identity_t<View<const T, 3>> K,                // (heads, n, d)
                          std::type_identity_t<View<const T, 3>> V,                // (heads, n, dv)
                          View<T, 3> out, SccKeys keys = SccKeys::per_token) {     // (heads, n, dv)
  detail::check_scc<T>("scc_linear_attention", Q, K, V, out);
  if (out.empty() || Q.extent(2) == 0) {
    for (Index h = 0; h < out.extent(0); ++h) copy<T>(ctx, V[h], out[h]);
    return;
  }
  tessera::detail::for_each_sequence(ctx, Q.extent(0), [&](Context& worker, Index h) {
    detail::SccHead<T>{worker, keys, Q[h], K[h], V[h]}.forward(out[h]);
  });
}

/// dQ, dK, dV of dO = ∂L/∂out; they overlap nothing else. Features are computed again. 12·n·d·dv flops a head, scratch
/// O(d·dv). Throws shape_error.
template <class T>
void scc_linear_attention_backward(Context& ctx, std::type_identity_t<View<const T, 3>> Q,  // (heads, n, d)
                                   std::type_identity_t<View<const T, 3>> K,                // (heads, n, d)
                                   std::type_identity_t<View<const T, 3>> V,                // (heads, n, dv)
                                   std::type_identity_t<View<const T, 3>> dO,               // (heads, n, dv)
                                   View<T, 3> dQ, std::type_identity_t<View<T, 3>> dK,      // (heads, n, d)
                                   std::type_identity_t<View<T, 3>> dV,                     // (heads, n, dv)
                                   SccKeys keys = SccKeys::per_token) {
  detail::check_scc<T>("scc_linear_attention_backward", Q, K, V, dO);
  detail::check_scc<T>("scc_linear_attention_backward", dQ, dK, dV, V);
  detail::check_scc<T>("scc_linear_attention_backward", Q, dQ, V, dV);
  if (Q.empty() || V.empty()) {
    for (Index h = 0; h < Q.extent(0); ++h) {
      detail::zero(dQ[h]);
      detail::zero(dK[h]);
      copy<T>(ctx, dO[h], dV[h]);
    }
    return;
  }
  tessera::detail::for_each_sequence(ctx, Q.extent(0), [&](Context& worker, Index h) {
    detail::SccHead<T>{worker, keys, Q[h], K[h], V[h]}.backward(dO[h], dQ[h], dK[h], dV[h]);
  });
}

}  // namespace tessera::inline TESSERA_ABI::nn
