/// Attention of one set to another through projections, forward and backward.
#pragma once

#include <span>

#include <tessera/attention/detail/parts.hpp>
#include <tessera/nn/attention.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// Of X (n, queries) to Y (m, keys): inputs to concepts, or concepts to inputs.
struct CrossShape {
  Index queries, keys, width, heads, outputs;  // width: of all heads together

  /// Throws shape_error unless heads divide the width.
  Index parameter_count() const {
    detail::check_sizes("CrossShape", {queries, keys, width, heads, outputs});
    if (width % heads != 0)
      throw shape_error(tessera::detail::concat("tessera: CrossShape of width ", width, " and ", heads,
                                                " heads: expected a divisor"));
    return width * (queries + 2 * keys + outputs);
  }
};

/// Parameters, or their gradients, in one span in this order.
template <class T>
struct CrossParameters {
  MatrixView<T> Wq, Wk, Wv, Wo;  // (width, queries), (width, keys) twice, (outputs, width)

  /// Throws shape_error.
  CrossParameters(const CrossShape& s, std::span<T> all) {
    detail::Parts<T> parts("CrossParameters", all, s.parameter_count());
    Wq = parts.matrix(s.width, s.queries);
    Wk = parts.matrix(s.width, s.keys);
    Wv = parts.matrix(s.width, s.keys);
    Wo = parts.matrix(s.outputs, s.width);
  }
};

namespace detail {

template <class T>
struct CrossPass {
  const CrossParameters<const T> w;
  MatrixView<T> Q, K, V, O;  // (n, width), (m, width) twice, (n, width)
  View<T, 3> lse;            // (1, heads, n)
  Index heads;

  CrossPass(Context& ctx, Workspace::Scope& scope, const CrossShape& s, std::span<const T> all, MatrixView<const T> X,
            MatrixView<const T> Y, MatrixView<const T> out)
      : w(s, all), heads(s.heads) {
    if (X.cols() != s.queries || Y.cols() != s.keys || out.rows() != X.rows() || out.cols() != s.outputs)
      throw shape_error(concat("tessera: cross_attention of (", shape_text(X.rows(), X.cols()), ") to (",
                               shape_text(Y.rows(), Y.cols()), ") with (", shape_text(out.rows(), out.cols()),
                               "): expected (n,", s.queries, "), (m,", s.keys, ") and (n,", s.outputs, ")"));
    const auto take = [&](Index rows) { return MatrixView<T>(scope.take<T>(rows * s.width), rows, s.width); };
    Q = take(X.rows());
    O = take(X.rows());
    K = take(Y.rows());
    V = take(Y.rows());
    lse = {scope.take<T>(heads * X.rows()), {1, heads, X.rows()}};
    gemm<T>(ctx, T(1), X, w.Wq.transposed(), T(0), Q);
    gemm<T>(ctx, T(1), Y, w.Wk.transposed(), T(0), K);
    gemm<T>(ctx, T(1), Y, w.Wv.transposed(), T(0), V);
    attention<T>(ctx, split(Q), split(K), split(V), split(O), AttentionOptions(), lse);
  }
  View<T, 4> split(MatrixView<T> x) const { return split_heads(x, 1, heads); }
};

}  // namespace detail

/// out = attention(X Wqᵀ, Y Wkᵀ, Y Wvᵀ) Woᵀ, heads side by side. Projections plus 4·n·m·width flops, scratch O((n + m)·
/// width). Throws shape_error. A. Vaswani et al., "Attention Is All You Need" (2017), §3.2; between inputs and concepts
/// in J. Hong et al., "Concept-Centric Transformers" (WACV 2024).
template <class T>
void cross_attention(Context& ctx, const CrossShape& shape, std::type_identity_t<std::span<const T>> parameters,
                     std::type_identity_t<MatrixView<const T>> X,  // (n, queries)
                     std::type_identity_t<MatrixView<const T>> Y,  // (m, keys)
                     MatrixView<T> out) {                          // (n, outputs)
  Workspace::Scope scope(ctx.workspace);
  const detail::CrossPass<T> pass(ctx, scope, shape, parameters, X, Y, out);
  gemm<T>(ctx, T(1), pass.O, pass.w.Wo.transposed(), T(0), out);
}

/// dX, dY and dparameters = beta·dparameters + ∂L/∂parameters of dout = ∂L/∂out; the forward pass is computed again.
/// Throws shape_error.
template <class T>
void cross_attention_backward(Context& ctx, const CrossShape& shape,
                              std::type_identity_t<std::span<const T>> parameters,
                              std::type_identity_t<MatrixView<const T>> X,     // (n, queries)
                              std::type_identity_t<MatrixView<const T>> Y,     // (m, keys)
                              std::type_identity_t<MatrixView<const T>> dout,  // (n, outputs)
                              MatrixView<T> dX,                                // (n, queries)
                              std::type_identity_t<MatrixView<T>> dY,          // (m, keys)
                              std::type_identity_t<T> beta, std::type_identity_t<std::span<T>> dparameters) {
  const CrossParameters<T> grads(shape, dparameters);
  Workspace::Scope scope(ctx.workspace);
  const detail::CrossPass<T> pass(ctx, scope, shape, parameters, X, Y, dout);
  const auto& w = pass.w;
  const auto like = [&](MatrixView<T> x) { return MatrixView<T>(scope.take<T>(x.size()), x.rows(), x.cols()); };
  const auto dO = like(pass.O), dQ = like(pass.Q), dK = like(pass.K), dV = like(pass.V);
  gemm<T>(ctx, T(1), dout, w.Wo, T(0), dO);
  gemm<T>(ctx, T(1), dout.transposed(), pass.O, beta, grads.Wo);
  attention_backward<T>(ctx, pass.split(pass.Q), pass.split(pass.K), pass.split(pass.V), pass.split(pass.O), pass.lse,
                        pass.split(dO), pass.split(dQ), pass.split(dK), pass.split(dV));
  gemm<T>(ctx, T(1), dQ.transposed(), X, beta, grads.Wq);
  gemm<T>(ctx, T(1), dK.transposed(), Y, beta, grads.Wk);
  gemm<T>(ctx, T(1), dV.transposed(), Y, beta, grads.Wv);
  gemm<T>(ctx, T(1), dQ, w.Wq, T(0), dX);
  gemm<T>(ctx, T(1), dK, w.Wk, T(0), dY);
  gemm<T>(ctx, T(1), dV, w.Wv, T(1), dY);
}

}  // namespace tessera::inline TESSERA_ABI::nn
