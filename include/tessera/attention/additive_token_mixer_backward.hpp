/// Gradients of the additive token mixer.
#pragma once

#include <tessera/attention/additive_token_mixer.hpp>
#include <tessera/nn/linear.hpp>

namespace tessera::inline TESSERA_ABI::nn {

namespace detail {

template <class T>
struct MixerBackward {
  static constexpr T one = T(1);
  const MixerPass<T>& at;
  const AdditiveMixer<T>& grads;
  T beta;                           // of the parameters' gradients
  MatrixView<T> dz, scratch, dqkv;  // (C,P), (C,P), (3C,P)
  VectorView<T> ds, dg, dmean;      // (P), (C), (C)

  /// Gradients of a convolution's kernel and bias; dX, by the kernel turned around.
  void convolution(MatrixView<const T> kernel, MatrixView<const T> X, MatrixView<const T> dY, MatrixView<T> dX,
                   MatrixView<T> dkernel, VectorView<T> dbias) const {
    depthwise3x3_gradient<T>(at.ctx, X, dY, at.shape.width, beta, dkernel);
    gemv<T>(at.ctx, T(1), dY, VectorView<const T>(&one, {at.P}, {0}), beta, dbias);
    const MatrixView<const T> turned(kernel.data() + 8, {at.C, 9}, {kernel.row_stride(), -1});
    at.convolve(turned, {}, dY, dX);
  }
  /// d of q or k into dx, and of its gates' parameters, from dz.
  void path(const typename MixerPass<T>::Gates& u, const typename MixerPass<T>::Path& p,
            const typename AdditiveMixer<T>::Gates& du, MatrixView<T> dx) const {
    Context& ctx = at.ctx;
    map_matrices(ctx, "additive_token_mixer_backward", Product{}, scratch, MatrixView<const T>(dz),
                 MatrixView<const T>(p.x));
    gemv<T>(ctx, T(1), scratch, p.s, T(0), dg);
    map(ctx, SigmoidBackward{}, dg, at.read(p.g));
    gemm<T>(ctx, T(1), as_column(dg), as_column(p.mean).transposed(), beta, du.channel);
    gemv<T>(ctx, 1 / static_cast<T>(at.P), u.channel.transposed(), dg, T(0), dmean);
    gemv<T>(ctx, T(1), scratch.transposed(), p.g, T(0), ds);
    gemv<T>(ctx, T(1), p.x.transposed(), dmean, T(1), ds);
    map(ctx, SigmoidBackward{}, ds, at.read(p.s));
    gemv<T>(ctx, T(1), p.hidden, ds, beta, du.gate);
    at.each_channel([&](Context& worker, Index c) {
      map(worker, GateBackward<T>{p.g[c], dmean[c], u.gate[c]}, dx.row(c), scratch.row(c), at.read(dz.row(c)),
          at.read(p.s), at.read(ds), at.read(p.hidden.row(c)));
    });
    convolution(u.kernel, p.x, scratch, p.hidden, du.kernel, du.bias);  // the hidden layer is done with
    add<T>(ctx, p.hidden, dx);
  }
  void run(MatrixView<const T> X, MatrixView<const T> dY, MatrixView<T> dX) const {
    const AdditiveMixer<const T>& w = at.w;
    const MatrixView<T> dv = dqkv.slice(0, 2 * at.C, at.C);
    map_matrices(at.ctx, "additive_token_mixer_backward", Product{}, scratch, MatrixView<const T>(at.a),
                 MatrixView<const T>(at.v));
    convolution(w.proj, scratch, dY, dz, grads.proj, grads.proj_bias);
    map_matrices(at.ctx, "additive_token_mixer_backward", ProductBackward{}, dz, dv, MatrixView<const T>(at.a),
                 MatrixView<const T>(at.v));
    copy<T>(at.ctx, dz, scratch);
    convolution(w.dwc, at.z, scratch, dz, grads.dwc, grads.dwc_bias);
    path(w.q, at.q, grads.q, dqkv.slice(0, 0, at.C));
    path(w.k, at.k, grads.k, dqkv.slice(0, at.C, at.C));
    gemm<T>(at.ctx, T(1), dqkv, X.transposed(), beta, grads.Wqkv);
    gemm<T>(at.ctx, T(1), w.Wqkv.transposed(), dqkv, T(0), dX);
  }
};

}  // namespace detail

/// dX (may be dY or X) and dparameters = beta·dparameters + ∂L/∂parameters, of dY = ∂L/∂Y; the forward pass is computed
/// again. 18·C²·N + O(C·N) flops, 12·C·N numbers of scratch, N = H·W. Throws shape_error.
template <class T>
void additive_token_mixer_backward(Context& ctx, std::type_identity_t<std::span<const T>> parameters,
                                   std::type_identity_t<Channels<const T>> X,     // (C,H,W)
                                   std::type_identity_t<Channels<const T>> dY,    // (C,H,W)
                                   Channels<T> dX, std::type_identity_t<T> beta,  // (C,H,W)
                                   std::type_identity_t<std::span<T>> dparameters) {
  const AdditiveMixer<const T> w(X.extent(0), parameters);
  const AdditiveMixer<T> grads(X.extent(0), dparameters);
  Workspace::Scope scope(ctx.workspace);
  const detail::MixerPass<T> pass(ctx, scope, w, X);
  const Index C = pass.C, P = pass.P;
  tessera::detail::check_channels("additive_token_mixer_backward of", dY, C, pass.shape.height, pass.shape.width);
  tessera::detail::check_channels("additive_token_mixer_backward to", dX, C, pass.shape.height, pass.shape.width);
  const MatrixView<const T> x(X.data(), C, P);
  pass.forward(x);
  const auto take = [&](Index rows) { return MatrixView<T>(scope.take<T>(rows * P), rows, P); };
  const auto vector = [&](Index n) { return VectorView<T>(scope.take<T>(n), n); };
  const detail::MixerBackward<T> backward{pass,        grads,     beta,      take(C),  take(C),
                                          take(3 * C), vector(P), vector(C), vector(C)};
  backward.run(x, MatrixView<const T>(dY.data(), C, P), MatrixView<T>(dX.data(), C, P));
}

}  // namespace tessera::inline TESSERA_ABI::nn
