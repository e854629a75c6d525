/// Monarch Mixer: a layer that mixes a sequence and its channels by structured matrices alone.
#pragma once

#include <span>
#include <utility>

#include <tessera/matrix/dense.hpp>
#include <tessera/nn/elementwise.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// X̃ = M2 (K ∘ (M1 X)), Y = X̃ M3ᵀ → ReLU → M4ᵀ for X (n,d): M1 and M2 (n,n) mix tokens, K (n,d) is a learned kernel
/// in between, M3 (h,d) and M4 (d,h) mix channels. Any trainable operators; Monarch ones make it sub-quadratic in n and
/// d. Parameters: M1's, K's by rows, M2's, M3's, M4's. D. Fu et al., "Monarch Mixer: A Simple Sub-Quadratic GEMM-Based
/// Architecture" (2023), §3.2, figure 1.
template <Trainable Sequence, Trainable Channel>
struct MonarchMixer {
  using Scalar = typename Sequence::Scalar;

  Sequence M1;      // (n,n)
  Dense<Scalar> K;  // (n,d)
  Sequence M2;      // (n,n)
  Channel M3;       // (h,d)
  Channel M4;       // (d,h)

  Index tokens() const { return M1.cols(); }
  Index channels() const { return K.cols(); }
  Index hidden() const { return M3.rows(); }
  Index parameter_count() const {
    return M1.parameter_count() + K.parameter_count() + M2.parameter_count() + M3.parameter_count() +
           M4.parameter_count();
  }
};

/// What the backward pass needs of a forward one.
template <class T>
struct MonarchMixerState {
  Buffer<T> mixed, sequence, hidden;  // M1 X and X̃ (n,d), X̃ M3ᵀ (n,h)
};

namespace detail {
struct Hadamard {
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& a, const V& b) const {
    y = a * b;
  }
};
struct HadamardBackward {
  template <class V>
  TESSERA_INLINE void operator()(V& da, V& db, const V& a, const V& b, const V& dy) const {
    da = dy * b;
    db = dy * a;
  }
};
struct Relu {
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& x) const {
    y = select(x < V(typename V::value_type(0)), V(typename V::value_type(0)), x);
  }
};
struct ReluBackward {
  template <class V>
  TESSERA_INLINE void operator()(V& dx, const V& x, const V& dy) const {
    dx = select(V(typename V::value_type(0)) < x, dy, V(typename V::value_type(0)));
  }
};
template <class T>
MatrixView<T> sized(Buffer<T>& buffer, Index rows, Index cols) {
  if (buffer.size() != rows * cols) buffer = Buffer<T>(rows * cols, uninitialized);
  return {buffer.data(), rows, cols};
}
template <class Layer, class T>
void check_mixer(const Layer& layer, MatrixView<const T> X, MatrixView<const T> Y) {
  const Index n = layer.tokens(), d = layer.channels(), h = layer.hidden();
  if (layer.M1.rows() != n || layer.M2.rows() != n || layer.M2.cols() != n || layer.K.rows() != n ||
      layer.M3.cols() != d || layer.M4.rows() != d || layer.M4.cols() != h)
    throw shape_error(tessera::detail::concat("tessera: MonarchMixer of (", describe(layer.M1), "), K (",
                                              tessera::detail::shape_text(layer.K.rows(), d), "), (",
                                              describe(layer.M2), "), (", describe(layer.M3), "), (",
                                              describe(layer.M4), "): expected (n,n), (n,d), (n,n), (h,d), (d,h)"));
  if (X.rows() != n || X.cols() != d || Y.rows() != n || Y.cols() != d)
    throw shape_error(tessera::detail::concat("tessera: MonarchMixer of ", n, " tokens and ", d, " channels: X ",
                                              tessera::detail::shape_text(X.rows(), X.cols()), ", Y ",
                                              tessera::detail::shape_text(Y.rows(), Y.cols())));
}
}  // namespace detail

/// Y (n,d) of X (n,d); `state` takes what m2_mixer_backward needs. Throws shape_error.
template <class Layer, class T = typename Layer::Scalar>
void m2_mixer(Context& ctx, const Layer& layer, std::type_identity_t<MatrixView<const T>> X,
              std::type_identity_t<MatrixView<T>> Y, MonarchMixerState<T>& state) {
  detail::check_mixer<Layer, T>(layer, X, Y);
  const Index n = layer.tokens(), d = layer.channels(), h = layer.hidden();
  const auto U = detail::sized(state.mixed, n, d), Z = detail::sized(state.sequence, n, d),
             H = detail::sized(state.hidden, n, h);
  Workspace::Scope scope(ctx.workspace);
  const MatrixView<T> gated(scope.template take<T>(n * d), n, d), active(scope.template take<T>(n * h), n, h);
  layer.M1.apply(ctx, Op::none, T(1), X, T(0), U);
  detail::map_matrices(ctx, "m2_mixer", detail::Hadamard{}, gated, U, layer.K.view());
  layer.M2.apply(ctx, Op::none, T(1), gated, T(0), Z);
  layer.M3.apply(ctx, Op::none, T(1), MatrixView<const T>(Z).transposed(), T(0), H.transposed());
  detail::map_matrices(ctx, "m2_mixer", detail::Relu{}, active, H);
  layer.M4.apply(ctx, Op::none, T(1), MatrixView<const T>(active).transposed(), T(0), Y.transposed());
}

/// dX (n,d), where it has data, and dparams = beta·dparams + ∂L/∂parameters, of dY (n,d) and the forward pass's X and
/// state. Throws shape_error.
template <class Layer, class T = typename Layer::Scalar>
void m2_mixer_backward(Context& ctx, const Layer& layer, std::type_identity_t<MatrixView<const T>> X,
                       std::type_identity_t<MatrixView<const T>> dY, const MonarchMixerState<T>& state,
                       std::type_identity_t<MatrixView<T>> dX, std::type_identity_t<T> beta,
                       std::type_identity_t<std::span<T>> dparams) {
  detail::check_mixer<Layer, T>(layer, X, dY);
  if (static_cast<Index>(dparams.size()) != layer.parameter_count() ||
      state.hidden.size() != layer.tokens() * layer.hidden())
    throw shape_error(tessera::detail::concat("tessera: m2_mixer_backward into ", dparams.size(), " values, it has ",
                                              layer.parameter_count(),
                                              " parameters; the state must be that of the forward pass"));
  const Index n = layer.tokens(), d = layer.channels(), h = layer.hidden();
  const MatrixView<const T> U(state.mixed.data(), n, d), Z(state.sequence.data(), n, d), H(state.hidden.data(), n, h);
  Workspace::Scope scope(ctx.workspace);
  const auto take = [&](Index cols) { return MatrixView<T>(scope.template take<T>(n * cols), n, cols); };
  auto part = [&, at = std::size_t{0}](Index count) mutable {
    const auto some = dparams.subspan(at, static_cast<std::size_t>(count));
    at += some.size();
    return some;
  };
  const auto dM1 = part(layer.M1.parameter_count()), dK = part(n * d), dM2 = part(layer.M2.parameter_count()),
             dM3 = part(layer.M3.parameter_count()), dM4 = part(layer.M4.parameter_count());
  const auto active = take(h), dH = take(h), dZ = take(d), gated = take(d), dgated = take(d), dU = take(d),
             dkernel = take(d);

  detail::map_matrices(ctx, "m2_mixer_backward", detail::Relu{}, active, H);
  layer.M4.grad(ctx, MatrixView<const T>(active).transposed(), dY.transposed(), beta, dM4);
  layer.M4.apply(ctx, Op::transpose, T(1), dY.transposed(), T(0), active.transposed());
  detail::map_matrices(ctx, "m2_mixer_backward", detail::ReluBackward{}, dH, H, active);
  layer.M3.grad(ctx, Z.transposed(), MatrixView<const T>(dH).transposed(), beta, dM3);
  layer.M3.apply(ctx, Op::transpose, T(1), MatrixView<const T>(dH).transposed(), T(0), dZ.transposed());

  detail::map_matrices(ctx, "m2_mixer_backward", detail::Hadamard{}, gated, U, layer.K.view());
  layer.M2.grad(ctx, gated, dZ, beta, dM2);
  layer.M2.apply(ctx, Op::transpose, T(1), dZ, T(0), dgated);
  detail::map_matrices(ctx, "m2_mixer_backward", detail::HadamardBackward{}, dU, dkernel, U, layer.K.view(), dgated);
  tessera::detail::add_scaled<T>(ctx, T(1), dkernel, beta, MatrixView<T>(dK.data(), n, d));
  layer.M1.grad(ctx, X, dU, beta, dM1);
  if (dX.data() != nullptr) layer.M1.apply(ctx, Op::transpose, T(1), dU, T(0), dX);
}

}  // namespace tessera::inline TESSERA_ABI::nn
