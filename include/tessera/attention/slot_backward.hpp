/// Gradients of slot attention through its iterations.
#pragma once

#include <algorithm>

#include <tessera/attention/slot.hpp>
#include <tessera/nn/attention_backward.hpp>

namespace tessera::inline TESSERA_ABI::nn {

namespace detail {

template <class T>
struct SlotBackward {
  using Const = MatrixView<const T>;
  const SlotPass<T>& at;
  const SlotParameters<T>& grads;         // added to
  MatrixView<T> dA, dK, dV;               // (S,N); (N,d) twice, added to
  MatrixView<T> dnext, dm, dU, dq, dmid;  // (S,d) four times, (S,h)
  VectorView<T> shift, dU_sum;            // (S), (d)

  /// Y = X Wᵀ + b: dW, db, and dX over beta·dX.
  void affine(Const X, Const W, Const dY, T beta, MatrixView<T> dX, MatrixView<T> dW, VectorView<T> db) const {
    gemm<T>(at.ctx, T(1), dY, W, beta, dX);
    gemm<T>(at.ctx, T(1), dY.transposed(), X, T(1), dW);
    if (db.data() != nullptr) bias_backward<T>(at.ctx, dY, T(1), db);
  }
  /// After at.step(before, …): dslots of its result becomes that of `before`.
  void step(Const before, MatrixView<T> dslots) const {
    Context& ctx = at.ctx;
    affine(at.mid, at.w.W2, dslots, T(0), dmid, grads.W2, grads.b2);
    map_matrices(ctx, "slot_attention_backward", PassPositive{}, dmid, Const(at.mid));
    affine(at.m, at.w.W1, dmid, T(0), dm, grads.W1, grads.b1);
    copy<T>(ctx, dslots, dnext);
    layernorm_backward<T>(ctx, at.next, at.w.mlp_gain, at.mlp_mean, at.mlp_inv, dm, T(1), dnext, T(1), grads.mlp_gain,
                          grads.mlp_bias);

    map_matrices(ctx, "slot_attention_backward", UpdateBackward{}, at.part(at.gi, 1), at.part(at.gi, 2), dslots,
                 Const(dnext), before);
    map_matrices(ctx, "slot_attention_backward", ResetBackward{}, at.part(at.gi, 0), at.part(at.gh, 2),
                 Const(at.part(at.gi, 2)));
    copy<T>(ctx, at.part(at.gi, 0, 2), at.part(at.gh, 0, 2));
    affine(at.U, at.w.Wi, at.gi, T(0), dU, grads.Wi, grads.bi);
    affine(before, at.w.Wh, at.gh, T(1), dslots, grads.Wh, grads.bh);

    for (Index s = 0; s < at.S; ++s) {
      map(ctx, Scale<T>{1 / at.mass[s]}, dU.row(s));
      shift[s] = dot<T>(dU.row(s), at.U.row(s));
    }
    bias_backward<T>(ctx, dU, T(0), dU_sum);
    map(ctx, Scale<T>{at.eps()}, dU_sum);
    add_bias<T>(ctx, dU_sum, dV);
    gemm<T>(ctx, T(1), at.A.transposed(), dU, T(1), dV);
    gemm<T>(ctx, T(1), dU, at.V.transposed(), T(0), dA);
    softmax_over_slots_backward<T>(ctx, at.A, shift.data(), dA);
    gemm<T>(ctx, at.scale(), dA.transposed(), at.q, T(1), dK);
    gemm<T>(ctx, at.scale(), dA, at.K, T(0), dq);
    affine(at.normal, at.w.Wq, dq, T(0), dm, grads.Wq, {});
    layernorm_backward<T>(ctx, before, at.w.slot_gain, at.mean, at.inv, dm, T(1), dslots, T(1), grads.slot_gain,
                          grads.slot_bias);
  }
  /// dX of the inputs, once all steps have added to dK and dV.
  void inputs(Const X, MatrixView<T> normal, MatrixView<T> dX) const {
    affine(at.X, at.w.Wk, dK, T(0), normal, grads.Wk, {});
    affine(at.X, at.w.Wv, dV, T(1), normal, grads.Wv, {});
    layernorm_backward<T>(at.ctx, X, at.w.input_gain, at.input_mean, at.input_inv, normal, T(0), dX, T(1),
                          grads.input_gain, grads.input_bias);
  }
};

}  // namespace detail

/// dX, dslots and dparameters = beta·dparameters + ∂L/∂parameters of dresult = ∂L/∂result. Every iteration is computed
/// again from the slots before it; dslots may be dresult. Twice the forward pass's flops for that, twice for gradients;
/// scratch O(N·(inputs + width + S) + iterations·S·width). Throws shape_error.
template <class T>
void slot_attention_backward(Context& ctx, const SlotShape& shape, std::type_identity_t<std::span<const T>> parameters,
                             std::type_identity_t<MatrixView<const T>> X,        // (N, inputs)
                             std::type_identity_t<MatrixView<const T>> slots,    // (S, width)
                             std::type_identity_t<MatrixView<const T>> dresult,  // (S, width)
                             MatrixView<T> dX,                                   // (N, inputs)
                             std::type_identity_t<MatrixView<T>> dslots,         // (S, width)
                             std::type_identity_t<T> beta, std::type_identity_t<std::span<T>> dparameters,
                             const SlotOptions& options = {}) {
  const SlotParameters<const T> w(shape, parameters);
  const SlotParameters<T> grads(shape, dparameters);
  detail::check_slots<T>("slot_attention_backward", shape, X, slots, dresult, options);
  detail::check_slots<T>("slot_attention_backward to", shape, dX, slots, dslots, options);
  Workspace::Scope scope(ctx.workspace);
  const detail::SlotPass<T> pass(ctx, scope, shape, w, X, slots.rows(), options);
  const Index S = pass.S, N = pass.N, d = pass.d, steps = options.iterations;
  const auto take = [&](Index rows, Index cols) { return MatrixView<T>(scope.take<T>(rows * cols), rows, cols); };
  const auto vector = [&](Index n) { return VectorView<T>(scope.take<T>(n), n); };
  const detail::SlotBackward<T> back{pass,       grads,      take(S, N), take(N, d),      take(N, d), take(S, d),
                                     take(S, d), take(S, d), take(S, d), take(S, pass.h), vector(S),  vector(d)};
  const View<T, 3> states(scope.take<T>((steps + 1) * S * d), {steps + 1, S, d});  // before each iteration
  if (beta == T(0))
    std::fill(dparameters.begin(), dparameters.end(), T(0));
  else
    map(ctx, detail::Scale<T>{beta}, VectorView<T>(dparameters.data(), shape.parameter_count()));
  detail::zero(back.dK);
  detail::zero(back.dV);
  copy<T>(ctx, slots, states[0]);
  for (Index t = 0; t + 1 < steps; ++t) pass.step(states[t], states[t + 1]);
  copy<T>(ctx, dresult, dslots);
  for (Index t = steps; t-- > 0;) {
    pass.step(states[t], states[steps]);
    back.step(states[t], dslots);
  }
  back.inputs(X, take(N, shape.inputs), dX);
}

}  // namespace tessera::inline TESSERA_ABI::nn
