/// Convolutional additive self-attention of channels (C,H,W), forward and backward.
#pragma once

#include <algorithm>
#include <span>

#include <tessera/attention/detail/additive_mixer_maps.hpp>
#include <tessera/attention/detail/depthwise3x3.hpp>
#include <tessera/attention/detail/parts.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/nn/elementwise.hpp>
#include <tessera/sparse/conv.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// Parameters of a mixer of C channels, or their gradients, in one span in this order.
template <class T>
struct AdditiveMixer {
  struct Gates {
    MatrixView<T> kernel;      // (C, 9), depthwise, of the spatial gate
    VectorView<T> bias, gate;  // (C), (C): its bias, its 1x1 convolution to one channel
    MatrixView<T> channel;     // (C, C), the channel gate's
  };
  MatrixView<T> Wqkv;  // (3C, C)
  Gates q, k;
  MatrixView<T> dwc;        // (C, 9), Γ
  VectorView<T> dwc_bias;   // (C)
  MatrixView<T> proj;       // (C, 9)
  VectorView<T> proj_bias;  // (C)

  static Index parameter_count(Index C) {
    detail::check_sizes("AdditiveMixer", {C});
    return C * (5 * C + 42);
  }
  /// Throws shape_error.
  AdditiveMixer(Index C, std::span<T> parameters) {
    detail::Parts<T> parts("AdditiveMixer", parameters, parameter_count(C));
    Wqkv = parts.matrix(3 * C, C);
    for (Gates* g : {&q, &k}) {
      g->kernel = parts.matrix(C, 9);
      g->bias = parts.vector(C);
      g->gate = parts.vector(C);
      g->channel = parts.matrix(C, C);
    }
    dwc = parts.matrix(C, 9);
    dwc_bias = parts.vector(C);
    proj = parts.matrix(C, 9);
    proj_bias = parts.vector(C);
  }
};

namespace detail {

/// A forward pass up to Γ(Φ(Q) + Φ(K)), Φ(x) = x · s(pixel) · g(channel).
template <class T>
struct MixerPass {
  using Gates = typename AdditiveMixer<const T>::Gates;
  struct Path {
    MatrixView<T> x, hidden;   // (C,P): q or k, ReLU(dwconv(x))
    VectorView<T> s, mean, g;  // (P), (C), (C): mean of x s over pixels
  };
  Context& ctx;
  const AdditiveMixer<const T>& w;
  ConvShape shape;
  Index C, P;
  MatrixView<T> qkv, v, z, a;  // (3C,P), (C,P): V, Φ(Q) + Φ(K), Γ of it
  Path q, k;

  MixerPass(Context& c, Workspace::Scope& scope, const AdditiveMixer<const T>& weights, const Channels<const T>& X)
      : ctx(c), w(weights), shape{X.extent(0), X.extent(1), X.extent(2), 3, 1, 1} {
    shape.check();
    tessera::detail::check_channels("additive_token_mixer of", X, shape.channels, shape.height, shape.width);
    C = shape.channels;
    P = shape.pixels();
    qkv = MatrixView<T>(scope.take<T>(3 * C * P), 3 * C, P);
    v = qkv.slice(0, 2 * C, C);
    z = MatrixView<T>(scope.take<T>(C * P), C, P);
    a = MatrixView<T>(scope.take<T>(C * P), C, P);
    for (Path* p : {&q, &k}) {
      p->x = qkv.slice(0, p == &q ? 0 : C, C);
      p->hidden = MatrixView<T>(scope.take<T>(C * P), C, P);
      p->s = {scope.take<T>(P), P};
      p->mean = {scope.take<T>(C), C};
      p->g = {scope.take<T>(C), C};
    }
  }
  void convolve(MatrixView<const T> kernel, VectorView<const T> bias, MatrixView<const T> X, MatrixView<T> Y,
                bool relu = false) const {
    depthwise3x3<T>(ctx, kernel, bias, X, shape.width, Y, relu);
  }
  void gates(const Gates& u, const Path& p) const {
    convolve(u.kernel, u.bias, p.x, p.hidden, true);
    gemv<T>(ctx, T(1), p.hidden.transposed(), u.gate, T(0), p.s);
    map(ctx, Sigmoid{}, p.s);
    gemv<T>(ctx, 1 / static_cast<T>(P), p.x, p.s, T(0), p.mean);
    gemv<T>(ctx, T(1), u.channel, p.mean, T(0), p.g);
    map(ctx, Sigmoid{}, p.g);
  }
  void forward(MatrixView<const T> X) const {
    gemm<T>(ctx, T(1), w.Wqkv, X, T(0), qkv);
    gates(w.q, q);
    gates(w.k, k);
    each_channel([&](Context& worker, Index c) {
      map(worker, AddGated<T>{q.g[c], k.g[c]}, z.row(c), read(q.x.row(c)), read(q.s), read(k.x.row(c)), read(k.s));
    });
    convolve(w.dwc, w.dwc_bias, z, a);
  }
  template <class F>
  void each_channel(F&& f) const {
    for_each_chunk(ctx, C, std::max<Index>(1, 32768 / P), [&](Context& worker, Index first, Index last) {
      for (Index c = first; c < last; ++c) f(worker, c);
    });
  }
  static VectorView<const T> read(VectorView<T> x) { return x; }
};

}  // namespace detail

/// Y = proj(Γ(Φ(Q) + Φ(K)) ∘ V), (Q, K, V) = Wqkv X, Γ and proj depthwise 3x3 convolutions. Φ is a spatial gate, x
/// times σ(1x1 to one channel(ReLU(depthwise 3x3(x)))), then a channel gate, x times σ(1x1(mean of x)). Γ(Φ(Q) + Φ(K))
/// stands where other attentions have their N × N similarities, N = H·W: here 6·C²·N + O(C·N) flops and 7·C·N numbers
/// of scratch. Y may be X. Throws shape_error.
/// T. Zhang et al., "CAS-ViT: Convolutional Additive Self-attention Vision Transformers for Efficient Mobile
/// Applications" (2024), §3.2; the gates' parts as in their program. Deviation: batch normalization of the spatial gate
/// is in its kernel and bias.
template <class T>
void additive_token_mixer(Context& ctx, std::type_identity_t<std::span<const T>> parameters,
                          std::type_identity_t<Channels<const T>> X, Channels<T> Y) {  // (C,H,W) both
  const AdditiveMixer<const T> w(X.extent(0), parameters);
  Workspace::Scope scope(ctx.workspace);
  const detail::MixerPass<T> pass(ctx, scope, w, X);
  tessera::detail::check_channels("additive_token_mixer to", Y, pass.C, pass.shape.height, pass.shape.width);
  pass.forward(MatrixView<const T>(X.data(), pass.C, pass.P));
  detail::map_matrices(ctx, "additive_token_mixer", detail::Multiply{}, pass.a, MatrixView<const T>(pass.v));
  pass.convolve(w.proj, w.proj_bias, pass.a, MatrixView<T>(Y.data(), pass.C, pass.P));
}

}  // namespace tessera::inline TESSERA_ABI::nn
