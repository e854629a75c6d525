/// Convolutions whose sparsity pattern is learnt by scores.
#pragma once

#include <algorithm>
#include <concepts>
#include <utility>

#include <tessera/sparse/conv.hpp>
#include <tessera/sparse/dass.hpp>

namespace tessera::inline TESSERA_ABI {

/// Y = (W ∘ mask(score)) * X with exactly `kept` weights of W (M, C·k·k), for one image X (C,H,W): DASS' SparseConv
/// (dass.hpp), by patches unless it is 1x1. Call `update` when W or the scores have changed.
template <std::floating_point T>
class ParametricSparseConv {
 public:
  /// Throws shape_error.
  ParametricSparseConv(const ConvShape& shape, MatrixView<const T> W, MatrixView<const T> score, Index kept)
      : shape_(checked(shape, W)), linear_(W, score, kept) {}

  /// Throws shape_error.
  void update(MatrixView<const T> W, MatrixView<const T> score, Index kept) {
    checked(shape_, W);
    linear_.update(W, score, kept);
  }
  const ConvShape& shape() const { return shape_; }
  const Csr<T>& weight() const { return linear_.weight(); }

  /// Y (M,out_height,out_width). 2 flops a kept weight and pixel.
  void forward(Context& ctx, Channels<const T> X, Channels<T> Y, const ConvEpilogue<T>& e = {}) const {
    if (shape_.pointwise()) {
      detail::check_channels("ParametricSparseConv of", X, shape_.channels, shape_.height, shape_.width);
      sparse_conv1x1(ctx, weight(), X, Y, e);
    } else {
      conv_im2col(ctx, weight(), shape_, X, Y, e);
    }
  }

  /// dX (C,H,W) := that of X, and the gradient of W on the pattern; dY is that of Y without an epilogue.
  Csr<T> backward(Context& ctx, Channels<const T> X, Channels<const T> dY, Channels<T> dX) const {
    detail::check_channels("ParametricSparseConv's gradient", dX, shape_.channels, shape_.height, shape_.width);
    Workspace::Scope scope(ctx.workspace);
    const auto x = patches(ctx, scope, X), dy = sums(dY);
    if (shape_.pointwise())
      return linear_.backward(ctx, x, dy, MatrixView<T>(dX.data(), shape_.channels, shape_.pixels()));
    const MatrixView<T> dpatches(scope.take<T>(x.size()), x.rows(), x.cols());
    Csr<T> dW = linear_.backward(ctx, x, dy, dpatches);
    col2im<T>(ctx, shape_, dpatches, dX);
    return dW;
  }

  /// dscore (M, C·k·k) := dW ∘ W of all entries, straight through. 2·M·C·k²·pixels flops. Throws shape_error.
  void score_gradient(Context& ctx, MatrixView<const T> W, Channels<const T> X, Channels<const T> dY,
                      MatrixView<T> dscore) const {
    Workspace::Scope scope(ctx.workspace);
    linear_.score_gradient(ctx, W, patches(ctx, scope, X), sums(dY), dscore);
  }

 private:
  static const ConvShape& checked(const ConvShape& s, MatrixView<const T> W) {
    s.check();
    if (W.cols() != s.patch())
      throw shape_error(detail::concat("tessera: ParametricSparseConv of W (", detail::shape_text(W.rows(), W.cols()),
                                       ") with patches of ", s.patch()));
    return s;
  }
  MatrixView<const T> patches(Context& ctx, Workspace::Scope& scope, Channels<const T> X) const {
    detail::check_channels("ParametricSparseConv of", X, shape_.channels, shape_.height, shape_.width);
    if (shape_.pointwise()) return {X.data(), shape_.channels, shape_.pixels()};
    const MatrixView<T> x(scope.take<T>(shape_.patch() * shape_.pixels()), shape_.patch(), shape_.pixels());
    im2col<T>(ctx, shape_, X, x);
    return x;
  }
  MatrixView<const T> sums(Channels<const T> dY) const {
    detail::check_channels("ParametricSparseConv's dY", dY, weight().rows(), shape_.out_height(), shape_.out_width());
    return {dY.data(), weight().rows(), shape_.pixels()};
  }

  ConvShape shape_;
  ParametricSparseLinear<T> linear_;
};

}  // namespace tessera::inline TESSERA_ABI
