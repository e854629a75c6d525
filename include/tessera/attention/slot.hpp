/// Slot attention: a few slots compete for many inputs.
#pragma once

#include <cmath>
#include <span>

#include <tessera/attention/detail/parts.hpp>
#include <tessera/attention/detail/slot_maps.hpp>
#include <tessera/nn/elementwise.hpp>
#include <tessera/nn/linear.hpp>
#include <tessera/nn/norm.hpp>

namespace tessera::inline TESSERA_ABI::nn {

struct SlotShape {
  Index inputs, width, hidden;  // of an input, of a slot, of the MLP

  Index parameter_count() const {
    detail::check_sizes("SlotShape", {inputs, width, hidden});
    return 2 * inputs + 4 * width + width * (width + 2 * inputs) + 6 * width * (width + 1) + 2 * width * hidden +
           hidden + width;
  }
};
struct SlotOptions {
  Index iterations = 3;
  double eps = 1e-8;  // added to every attention weight before they are normalised over inputs
  double norm_eps = 1e-5;
};

/// Parameters, or their gradients, in one span in this order.
template <class T>
struct SlotParameters {
  VectorView<T> input_gain, input_bias, slot_gain, slot_bias, mlp_gain, mlp_bias;  // (inputs) twice, (width)
  MatrixView<T> Wq, Wk, Wv;  // (width, width), (width, inputs) twice
  MatrixView<T> Wi, Wh;      // (3·width, width): reset, update, candidate of a GRU, for updates and for states
  VectorView<T> bi, bh;      // (3·width)
  MatrixView<T> W1;          // (hidden, width)
  VectorView<T> b1;          // (hidden)
  MatrixView<T> W2;          // (width, hidden)
  VectorView<T> b2;          // (width)

  /// Throws shape_error.
  SlotParameters(const SlotShape& s, std::span<T> all) {
    detail::Parts<T> parts("SlotParameters", all, s.parameter_count());
    input_gain = parts.vector(s.inputs);
    input_bias = parts.vector(s.inputs);
    for (auto* x : {&slot_gain, &slot_bias, &mlp_gain, &mlp_bias}) *x = parts.vector(s.width);
    Wq = parts.matrix(s.width, s.width);
    for (auto* x : {&Wk, &Wv}) *x = parts.matrix(s.width, s.inputs);
    for (auto* x : {&Wi, &Wh}) *x = parts.matrix(3 * s.width, s.width);
    for (auto* x : {&bi, &bh}) *x = parts.vector(3 * s.width);
    W1 = parts.matrix(s.hidden, s.width);
    b1 = parts.vector(s.hidden);
    W2 = parts.matrix(s.width, s.hidden);
    b2 = parts.vector(s.width);
  }
};

namespace detail {

/// What every iteration reads, and the memory of one of them.
template <class T>
struct SlotPass {
  static constexpr T one = T(1);
  Context& ctx;
  const SlotParameters<const T>& w;
  SlotOptions options;
  Index S, N, d, h;
  VectorView<T> input_mean, input_inv;                  // (N)
  MatrixView<T> X, K, V;                                // (N, inputs) normalised, (N, d) twice
  VectorView<T> value_sum;                              // (d)
  MatrixView<T> normal, q, A, U, gi, gh, next, m, mid;  // (S,d) twice, (S,N), (S,d), (S,3d) twice, (S,d) twice, (S,h)
  VectorView<T> mean, inv, mlp_mean, mlp_inv, mass;     // (S)

  SlotPass(Context& c, Workspace::Scope& scope, const SlotShape& shape, const SlotParameters<const T>& weights,
           MatrixView<const T> inputs, Index slots, const SlotOptions& o)
      : ctx(c), w(weights), options(o), S(slots), N(inputs.rows()), d(shape.width), h(shape.hidden) {
    const auto matrix = [&](Index rows, Index cols) { return MatrixView<T>(scope.take<T>(rows * cols), rows, cols); };
    for (auto* x : {&input_mean, &input_inv}) *x = {scope.take<T>(N), N};
    X = matrix(N, shape.inputs);
    for (auto* x : {&K, &V}) *x = matrix(N, d);
    value_sum = {scope.take<T>(d), d};
    for (auto* x : {&normal, &q, &U, &next, &m}) *x = matrix(S, d);
    for (auto* x : {&gi, &gh}) *x = matrix(S, 3 * d);
    A = matrix(S, N);
    mid = matrix(S, h);
    for (auto* x : {&mean, &inv, &mlp_mean, &mlp_inv, &mass}) *x = {scope.take<T>(S), S};
    layernorm<T>(ctx, inputs, w.input_gain, w.input_bias, norm_eps(), X, input_mean, input_inv);
    gemm<T>(ctx, T(1), X, w.Wk.transposed(), T(0), K);
    gemm<T>(ctx, T(1), X, w.Wv.transposed(), T(0), V);
    bias_backward<T>(ctx, V, T(0), value_sum);
  }
  T norm_eps() const { return static_cast<T>(options.norm_eps); }
  T eps() const { return static_cast<T>(options.eps); }
  T scale() const { return static_cast<T>(1 / std::sqrt(static_cast<double>(d))); }
  VectorView<const T> ones(Index n) const { return {&one, {n}, {0}}; }
  MatrixView<T> part(MatrixView<T> gates, Index first, Index count = 1) const {
    return gates.slice(1, first * d, count * d);
  }
  void affine(MatrixView<const T> x, MatrixView<const T> W, VectorView<const T> b, MatrixView<T> y) const {
    gemm<T>(ctx, T(1), x, W.transposed(), T(0), y);
    add_bias<T>(ctx, b, y);
  }
  /// after (S,d) of before (S,d); r, z and the candidate stay in gi, the candidate's share of the state in gh.
  void step(MatrixView<const T> before, MatrixView<T> after) const {
    using Const = MatrixView<const T>;
    layernorm<T>(ctx, before, w.slot_gain, w.slot_bias, norm_eps(), normal, mean, inv);
    gemm<T>(ctx, T(1), normal, w.Wq.transposed(), T(0), q);
    gemm<T>(ctx, scale(), q, K.transposed(), T(0), A);
    softmax_over_slots<T>(ctx, A);
    gemv<T>(ctx, T(1), A, ones(N), T(0), mass);
    gemm<T>(ctx, eps(), as_column(ones(S)), as_column(VectorView<const T>(value_sum)).transposed(), T(0), U);
    gemm<T>(ctx, T(1), A, V, T(1), U);
    for (Index s = 0; s < S; ++s) {
      mass[s] += static_cast<T>(N) * eps();
      map(ctx, Scale<T>{1 / mass[s]}, U.row(s));
    }
    affine(U, w.Wi, w.bi, gi);
    affine(before, w.Wh, w.bh, gh);
    map_matrices(ctx, "slot_attention", AddSigmoid{}, part(gi, 0, 2), Const(part(gh, 0, 2)));
    map_matrices(ctx, "slot_attention", Candidate{}, part(gi, 2), next, Const(part(gi, 0)), Const(part(gh, 2)),
                 Const(part(gi, 1)), before);
    layernorm<T>(ctx, next, w.mlp_gain, w.mlp_bias, norm_eps(), m, mlp_mean, mlp_inv);
    affine(m, w.W1, w.b1, mid);
    map_matrices(ctx, "slot_attention", ClampNegative{}, mid);
    affine(mid, w.W2, w.b2, after);
    add<T>(ctx, next, after);
  }
};

template <class T>
void check_slots(const char* what, const SlotShape& s, MatrixView<const T> X, MatrixView<const T> slots,
                 MatrixView<const T> result, const SlotOptions& options) {
  if (X.cols() != s.inputs || X.rows() < 1 || slots.cols() != s.width || slots.rows() < 1 ||
      result.rows() != slots.rows() || result.cols() != slots.cols() || options.iterations < 0)
    throw shape_error(concat("tessera: ", what, " of inputs (", shape_text(X.rows(), X.cols()), "), slots (",
                             shape_text(slots.rows(), slots.cols()), ") and (",
                             shape_text(result.rows(), result.cols()), "), ", options.iterations,
                             " iterations: expected (N,", s.inputs, "), twice (S,", s.width,
                             "), N and S at least 1, iterations at least 0"));
}

}  // namespace detail

/// `iterations` times: attention A = softmax over slots of k(X̂) q(ŝ)ᵀ/√width, update u = the means of v(X̂) weighted by
/// A + eps, s = GRU(state s, input u), s += MLP(LayerNorm(s)); X̂, ŝ are LayerNorms, q, k, v linear, the MLP has one
/// ReLU layer. `result` may be `slots`. attention, where it has data, takes the last A (S,N), columns of sum 1.
/// 4·N·inputs·width + iterations·4·S·N·width + O(S·width²) flops, scratch O(N·(inputs + width + S)). Throws
/// shape_error. F. Locatello et al., "Object-Centric Learning with Slot Attention" (NeurIPS 2020), algorithm 1; memory
/// of concepts in J. Hong et al., "Concept-Centric Transformers" (WACV 2024). The GRU is that of K. Cho et al. (2014)
/// with the reset gate after the product, as programs have it.
template <class T>
void slot_attention(Context& ctx, const SlotShape& shape, std::type_identity_t<std::span<const T>> parameters,
                    std::type_identity_t<MatrixView<const T>> X,            // (N, inputs)
                    std::type_identity_t<MatrixView<const T>> slots,        // (S, width)
                    MatrixView<T> result, const SlotOptions& options = {},  // (S, width)
                    std::type_identity_t<MatrixView<T>> attention = {}) {   // (S, N), or {}
  const SlotParameters<const T> w(shape, parameters);
  detail::check_slots<T>("slot_attention", shape, X, slots, result, options);
  Workspace::Scope scope(ctx.workspace);
  const detail::SlotPass<T> pass(ctx, scope, shape, w, X, slots.rows(), options);
  copy<T>(ctx, slots, result);
  for (Index t = 0; t < options.iterations; ++t) pass.step(result, result);
  if (attention.data() != nullptr && options.iterations > 0) copy<T>(ctx, pass.A, attention);
}

}  // namespace tessera::inline TESSERA_ABI::nn
