/// Gradients of an attention loss with respect to LoRA factors of its projections: exact, and through polynomials.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <concepts>
#include <type_traits>

#include <tessera/attention/polynomial_features.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/nn/attention.hpp>
#include <tessera/nn/elementwise.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// y = (W + alpha/r · B A) x, W as it was and A, B in training.
/// E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021), §4.1.
template <class T>
struct LoraProjection {
  MatrixView<const T> W;  // (out, in)
  MatrixView<const T> A;  // (r, in)
  MatrixView<const T> B;  // (out, r)
};
template <class T>
struct LoraGradient {
  MatrixView<T> dA;  // (r, in)
  MatrixView<T> dB;  // (out, r)
};
/// Of queries, keys and values.
template <class T>
struct LoraAttention {
  LoraProjection<T> q, k, v;
  double alpha = 1;
  Index batch = 1, heads = 1;
  AttentionOptions attention = {};
};
template <class T>
struct LoraAttentionGradient {
  LoraGradient<T> q, k, v;
};

namespace detail {

template <class T>
void check_lora(const char* what, MatrixView<const T> X, const LoraAttention<T>& layer, MatrixView<const T> dO) {
  const auto one = [&](const char* name, const LoraProjection<T>& p) {
    if (p.W.rows() != dO.cols() || p.W.cols() != X.cols() || p.A.cols() != X.cols() || p.B.rows() != dO.cols() ||
        p.A.rows() != p.B.cols() || dO.rows() != X.rows())
      throw shape_error(concat("tessera: ", what, " of X (", shape_text(X.rows(), X.cols()), ") and the result (",
                               shape_text(dO.rows(), dO.cols()), "): W", name, " (", shape_text(p.W.rows(), p.W.cols()),
                               "), B", name, " (", shape_text(p.B.rows(), p.B.cols()), ") A", name, " (",
                               shape_text(p.A.rows(), p.A.cols()), "); expected W and B A of ",
                               shape_text(dO.cols(), X.cols()), " and as many tokens on both sides"));
  };
  one("q", layer.q);
  one("k", layer.k);
  one("v", layer.v);
}

template <class T>
T lora_factor(const LoraAttention<T>& layer, const LoraProjection<T>& p) {
  return static_cast<T>(layer.alpha / static_cast<double>(std::max<Index>(1, p.A.rows())));
}

/// Y = X Wᵀ + factor·(X Aᵀ) Bᵀ
template <class T>
void lora_project(Context& ctx, MatrixView<const T> X, const LoraProjection<T>& p, T factor, MatrixView<T> Y) {
  Workspace::Scope scope(ctx.workspace);
  const MatrixView<T> low(scope.take<T>(X.rows() * p.A.rows()), X.rows(), p.A.rows());
  gemm<T>(ctx, T(1), X, p.A.transposed(), T(0), low);
  gemm<T>(ctx, T(1), X, p.W.transposed(), T(0), Y);
  gemm<T>(ctx, factor, low, p.B.transposed(), T(1), Y);
}

/// dB = factor·dYᵀ (X Aᵀ), dA = factor·(dY B)ᵀ X: no matrix of W's size.
template <class T>
void lora_project_backward(Context& ctx, MatrixView<const T> X, const LoraProjection<T>& p, T factor,
                           MatrixView<const T> dY, const LoraGradient<T>& to) {
  if (to.dA.extents() != p.A.extents() || to.dB.extents() != p.B.extents())
    throw shape_error(concat("tessera: gradient of LoRA factors B (", shape_text(p.B.rows(), p.B.cols()), ") A (",
                             shape_text(p.A.rows(), p.A.cols()), ") into dB (", shape_text(to.dB.rows(), to.dB.cols()),
                             ") and dA (", shape_text(to.dA.rows(), to.dA.cols()), "): expected the same shapes"));
  Workspace::Scope scope(ctx.workspace);
  const MatrixView<T> low(scope.take<T>(X.rows() * p.A.rows()), X.rows(), p.A.rows());
  gemm<T>(ctx, T(1), X, p.A.transposed(), T(0), low);
  gemm<T>(ctx, factor, dY.transposed(), low, T(0), to.dB);
  gemm<T>(ctx, T(1), dY, p.B, T(0), low);
  gemm<T>(ctx, factor, low.transposed(), X, T(0), to.dA);
}

/// Q, K, V, and a place for their gradients, all (n, heads·d).
template <class T>
struct LoraActivations {
  MatrixView<T> Q, K, V, dQ, dK, dV;

  LoraActivations(Context& ctx, Workspace::Scope& scope, MatrixView<const T> X, const LoraAttention<T>& layer,
                  Index width) {
    for (auto* m : {&Q, &K, &V, &dQ, &dK, &dV}) *m = MatrixView<T>(scope.take<T>(X.rows() * width), X.rows(), width);
    lora_project<T>(ctx, X, layer.q, lora_factor(layer, layer.q), Q);
    lora_project<T>(ctx, X, layer.k, lora_factor(layer, layer.k), K);
    lora_project<T>(ctx, X, layer.v, lora_factor(layer, layer.v), V);
  }
  void finish(Context& ctx, MatrixView<const T> X, const LoraAttention<T>& layer,
              const LoraAttentionGradient<T>& to) const {
    lora_project_backward<T>(ctx, X, layer.q, lora_factor(layer, layer.q), dQ, to.q);
    lora_project_backward<T>(ctx, X, layer.k, lora_factor(layer, layer.k), dK, to.k);
    lora_project_backward<T>(ctx, X, layer.v, lora_factor(layer, layer.v), dV, to.v);
  }
};

/// Gradients of one head's attention with the softmax P ≈ diag(1/total) U1 U2ᵀ in every place, never formed:
/// dS = P ∘ (dO Vᵀ - D 1ᵀ) = Σ_c diag(g_c) P diag(v_c) over columns of g = [dO, -D] and v = [V, 1], each a chain of
/// products with U1 and U2.
template <class T>
struct PolynomialAttentionBackward {
  Context& ctx;
  const tessera::detail::PolynomialFeatures& features;
  T scale;
  MatrixView<const T> Q, K, V, dO;  // (n, d), (m, d)
  MatrixView<T> dQ, dK, dV;

  /// False unless all sums of rows of U1 U2ᵀ are positive.
  bool run() {
    const Index n = Q.rows(), m = K.rows(), d = Q.cols(), r = features.count();
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> M(scope.take<T>(r * (d + 1)), r, d + 1);
    const MatrixView<T> g(scope.take<T>(n * (d + 1)), n, d + 1), v(scope.take<T>(m * (d + 1)), m, d + 1);
    std::atomic<bool> positive = true;
    for (Index j = 0; j < m; ++j) {
      for (Index c = 0; c < d; ++c) v(j, c) = V(j, c);
      v(j, d) = T(1);
    }
    features.gather<T>(ctx, K, true, M, [&](Index j, T* to) { std::copy_n(&v(j, 0), d + 1, to); });
    features.scatter<T>(ctx, Q, M, [&](Index i, const T* y) {  // y / y_d is the output
      if (!(y[d] > T(0))) positive.store(false, std::memory_order_relaxed);
      T D = T(0);
      for (Index c = 0; c < d; ++c) D += dO(i, c) * (y[c] / y[d]);
      for (Index c = 0; c < d; ++c) g(i, c) = dO(i, c) / y[d];
      g(i, d) = -D / y[d];
    });
    const MatrixView<T> of_values = M.slice(1, 0, d);
    features.gather<T>(ctx, Q, true, of_values, [&](Index i, T* to) { std::copy_n(&g(i, 0), d, to); });
    features.scatter<T>(ctx, K, of_values, [&](Index j, const T* y) {
      for (Index c = 0; c < d; ++c) dV(j, c) = y[c];
    });
    chain(Q, g, K, v, dQ);
    chain(K, v, Q, g, dK);
    return positive;
  }

 private:
  /// to_i = scale Σ_j (U(X) U(Z)ᵀ)_ij (x_i·z_j) Z_j, a group of columns c of x and z at a time:
  /// scale Σ_c x_ic (U(X) (U(Z)ᵀ diag(z_c) Z))_i.
  void chain(MatrixView<const T> X, MatrixView<const T> x, MatrixView<const T> Z, MatrixView<const T> z,
             MatrixView<T> to) {
    const Index d = X.cols(), r = features.count(), columns = x.cols();
    if (d == 0) return;
    const Index group = std::clamp<Index>((Index{1} << 22) / (r * d), 1, columns);
    Workspace::Scope scope(ctx.workspace);
    T* const sums = scope.take<T>(r * group * d);
    for (Index first = 0; first < columns; first += group) {
      const Index count = std::min(group, columns - first);
      const MatrixView<T> M(sums, r, count * d);
      features.gather<T>(ctx, Z, true, M, [&](Index j, T* row) {
        for (Index c = first; c < first + count; ++c)
          for (Index e = 0; e < d; ++e) *row++ = z(j, c) * Z(j, e);
      });
      features.scatter<T>(ctx, X, M, [&](Index i, const T* y) {
        for (Index e = 0; e < d; ++e) {
          T sum = first == 0 ? T(0) : to(i, e);
          for (Index c = 0; c < count; ++c) sum += scale * x(i, first + c) * y[c * d + e];
          to(i, e) = sum;
        }
      });
    }
  }
};

}  // namespace detail

/// out = attention of X Wqᵀ, X Wkᵀ, X Wvᵀ with each W + alpha/r · B A, as nn::attention of `batch` sequences and
/// `heads` heads of out/heads. out must not overlap X. Throws shape_error.
template <class T>
void attention_lora(Context& ctx, std::type_identity_t<MatrixView<const T>> X,  // (batch·n, in)
                    const LoraAttention<T>& layer, MatrixView<T> out) {         // (batch·n, heads·d)
  detail::check_lora<T>("attention_lora", X, layer, out);
  Workspace::Scope scope(ctx.workspace);
  const detail::LoraActivations<T> on(ctx, scope, X, layer, out.cols());
  const auto split = [&](MatrixView<T> m) { return split_heads(m, layer.batch, layer.heads); };
  attention<T>(ctx, split(on.Q), split(on.K), split(on.V), split(out), layer.attention);
}

/// ∂L/∂A and ∂L/∂B of queries, keys and values, given dO = ∂L/∂out of attention_lora, exactly: attention and
/// attention_backward, so L² in tokens a sequence, and products with factors. Activations are computed again; O(L)
/// memory. Overwrites `to`. The same bits for any number of threads. Throws shape_error.
/// J. Hu et al., "Computational Limits of Low-Rank Adaptation (LoRA) for Transformer-Based Models" (2024).
template <class T>
void attention_lora_grad(Context& ctx, std::type_identity_t<MatrixView<const T>> X,  // (batch·n, in)
                         const LoraAttention<T>& layer,
                         std::type_identity_t<MatrixView<const T>> dO,  // (batch·n, heads·d)
                         const LoraAttentionGradient<T>& to) {
  detail::check_lora<T>("attention_lora_grad", X, layer, dO);
  Workspace::Scope scope(ctx.workspace);
  const detail::LoraActivations<T> on(ctx, scope, X, layer, dO.cols());
  const auto split = [&](auto m) { return split_heads(m, layer.batch, layer.heads); };
  const MatrixView<T> out(scope.take<T>(dO.rows() * dO.cols()), dO.rows(), dO.cols());
  const auto Q = split(on.Q);
  const View<T, 3> lse(scope.take<T>(layer.heads * X.rows()), {layer.batch, layer.heads, Q.extent(2)});
  attention<T>(ctx, Q, split(on.K), split(on.V), split(out), layer.attention, lse);
  attention_backward<T>(ctx, Q, split(on.K), split(on.V), split(out), lse, split(dO), split(on.dQ), split(on.dK),
                        split(on.dV), layer.attention);
  on.finish(ctx, X, layer, to);
}

/// The same with the softmax matrix replaced by a product of polynomial features in every term, so that tokens cost
/// what they cost alone: attention_lora_poly_flops, r = C(d + degree, degree) features. Good where scores are small
/// (norms of the projected tokens below o(√log L)); returns false if the polynomial made a row's sum not positive.
/// Throws as attention_lora_grad; unsupported_error if causal (a mask is not of low rank), or as PolynomialFeatures.
/// J. Hu et al. (2024), the chain of its lemmas with one column of dO at a time in place of r·d features.
template <class T>
bool attention_lora_grad_poly(Context& ctx, std::type_identity_t<MatrixView<const T>> X,  // (batch·n, in)
                              const LoraAttention<T>& layer,
                              std::type_identity_t<MatrixView<const T>> dO,  // (batch·n, heads·d)
                              const LoraAttentionGradient<T>& to, ExpPolynomial polynomial) {
  detail::check_lora<T>("attention_lora_grad_poly", X, layer, dO);
  if (layer.attention.causal)
    throw unsupported_error(
        "tessera: attention_lora_grad_poly: causal attention; a triangle of a matrix of low rank is "
        "not of low rank, expected causal = false");
  const auto split = [&](auto m) { return split_heads(m, layer.batch, layer.heads); };
  const auto upstream = split(dO);
  const Index d = upstream.extent(3);
  const double scale = layer.attention.scale.value_or(1 / std::sqrt(static_cast<double>(std::max<Index>(d, 1))));
  const tessera::detail::PolynomialFeatures features("attention_lora_grad_poly", d, polynomial, scale);
  Workspace::Scope scope(ctx.workspace);
  const detail::LoraActivations<T> on(ctx, scope, X, layer, dO.cols());
  const auto Q = split(on.Q), K = split(on.K), V = split(on.V), dQ = split(on.dQ), dK = split(on.dK), dV = split(on.dV);
  bool positive = true;
  for (Index b = 0; b < layer.batch; ++b)
    for (Index h = 0; h < layer.heads; ++h)
      positive &= detail::PolynomialAttentionBackward<T>{ctx,      features, static_cast<T>(scale), Q[b][h],
                                                         K[b][h],  V[b][h],  upstream[b][h],        dQ[b][h],
                                                         dK[b][h], dV[b][h]}
                      .run();
  on.finish(ctx, X, layer, to);
  return positive;
}

/// Flops of the attention in attention_lora_grad_poly, a head of n tokens: features and eight products with them a
/// column.
inline double attention_lora_poly_flops(Index n, Index d, Index degree) {
  const double r = static_cast<double>(tessera::detail::PolynomialFeatures::count_of(d, degree));
  const double tokens = static_cast<double>(n), width = static_cast<double>(d);
  return tokens * r * (2 * 2 * (width + 1) + 2 * 2 * width + 2 * 2 * 2 * (width + 1) * width);
}
/// Flops of that in attention_lora_grad: 4·n²·d forward, 10·n²·d backward.
inline double attention_lora_flops(Index n, Index d) {
  return 14 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(d);
}

}  // namespace tessera::inline TESSERA_ABI::nn
