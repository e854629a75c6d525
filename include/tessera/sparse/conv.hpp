/// Convolutions of channels (C,H,W) as products with weights that may be sparse. E. Elsen, M. Dukhan, T. Gale & K.
/// Simonyan, "Fast Sparse ConvNets" (CVPR 2020): a 1x1 convolution is a sparse matrix times the channels as they lie in
/// memory, some pixels at a time, bias and ReLU while these are in cache. Deviations: the tile is packed for the cache
/// by the library's spmm instead of read in place, and depthwise products are vectors at the unit's own flags.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <string>

#include <tessera/core/context.hpp>
#include <tessera/core/workspace.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

/// (C,H,W), or its gradient, gapless.
template <class T>
using Channels = View<T, 3>;

/// What is convolved and how: square kernels, zeros around.
struct ConvShape {
  Index channels = 1, height = 1, width = 1;
  Index kernel = 1, stride = 1, pad = 0;

  Index out_height() const { return (height + 2 * pad - kernel) / stride + 1; }
  Index out_width() const { return (width + 2 * pad - kernel) / stride + 1; }
  Index pixels() const { return out_height() * out_width(); }
  Index patch() const { return channels * kernel * kernel; }
  bool pointwise() const { return kernel == 1 && stride == 1 && pad == 0; }
  /// Throws shape_error unless the kernel fits, and all that is counted here can be.
  void check() const {
    constexpr Index most = Index{1} << 20;
    const auto in = [](Index x, Index least) { return x >= least && x <= most; };
    Index entries = 0;
    if (!(in(channels, 1) && in(height, 1) && in(width, 1) && in(kernel, 1) && in(stride, 1) && in(pad, 0) &&
          kernel <= height + 2 * pad && kernel <= width + 2 * pad && kernel <= 1024) ||
        __builtin_mul_overflow(patch() * Index{16}, pixels(), &entries))
      throw shape_error(detail::concat("tessera: convolution of (", channels, ", ", height, ", ", width,
                                       ") with kernel ", kernel, ", stride ", stride, ", pad ", pad,
                                       ": expected sizes from 1 to ", most,
                                       ", a kernel that fits, at most 1024, and patches that can be counted"));
  }
};

/// What is done to sums before they leave the cache: y = relu(y + bias of its channel).
template <class S>
struct ConvEpilogue {
  std::span<const S> bias;  // (M), or none
  bool relu = false;
};

namespace detail {

template <class T>
std::string channels_text(const Channels<T>& X) {
  return concat(X.extent(0), ", ", X.extent(1), ", ", X.extent(2));
}
template <class T>
void check_channels(const char* what, const Channels<T>& X, Index channels, Index height, Index width) {
  const bool gapless = X.stride(2) == 1 && X.stride(1) == width && X.stride(0) == height * width;
  if (X.extent(0) != channels || X.extent(1) != height || X.extent(2) != width || !(gapless || X.empty()))
    throw shape_error(concat("tessera: ", what, " (", channels_text(X), "): expected (", channels, ", ", height, ", ",
                             width, ") without gaps"));
}
template <class S>
void check_epilogue(const ConvEpilogue<S>& e, Index channels) {
  if (!e.bias.empty() && static_cast<Index>(e.bias.size()) != channels)
    throw shape_error(concat("tessera: convolution to ", channels, " channels with a bias of ", e.bias.size()));
}
/// Channel c's pixels y (n).
template <class S>
void finish_channel(const ConvEpilogue<S>& e, Index c, S* y, Index n) {
  if (e.bias.empty() && !e.relu) return;
  using V = simd::Vec<S, simd::Portable<>>;
  const V bias(e.bias.empty() ? S(0) : e.bias[static_cast<std::size_t>(c)]), zero(S(0));
  const auto f = [&](const V& x) { return e.relu ? max(zero, x + bias) : x + bias; };  // NaN stays
  Index i = 0;
  for (; i + V::width <= n; i += V::width) f(V::load(y + i)).store(y + i);
  if (i < n) f(V::load(y + i, n - i)).store(y + i, n - i);
}

/// Y (M,P) = finished W X, X (K,P): 256 bytes of each row at a time.
template <LinearOperator A, class S>
void apply_to_pixels(Context& ctx, const A& W, MatrixView<const S> X, const ConvEpilogue<S>& e, MatrixView<S> Y) {
  for_each_chunk(ctx, Y.cols(), 256 / static_cast<Index>(sizeof(S)), [&](Context& worker, Index begin, Index end) {
    const auto tile = Y.slice(1, begin, end - begin);
    W.apply(worker, Op::none, S(1), X.slice(1, begin, end - begin), S(0), tile);
    for (Index c = 0; c < tile.rows(); ++c) finish_channel(e, c, &tile(c, 0), tile.cols());
  });
}

}  // namespace detail

/// Patches (C·k·k, pixels) of X (C,H,W), zeros beyond its edges: row (c·k + i)·k + j, column y·out_width + x is X(c,
/// y·stride + i - pad, x·stride + j - pad). O(C·k²·pixels). Throws shape_error.
template <std::floating_point T>
void im2col(Context& ctx, const ConvShape& s, Channels<const T> X, MatrixView<T> patches) {
  s.check();
  detail::check_channels("im2col of", X, s.channels, s.height, s.width);
  if (patches.rows() != s.patch() || patches.cols() != s.pixels())
    throw shape_error(detail::concat("tessera: im2col into (", detail::shape_text(patches.rows(), patches.cols()),
                                     "); expected ", detail::shape_text(s.patch(), s.pixels())));
  const Index kk = s.kernel * s.kernel, OW = s.out_width();
  for_each_chunk(ctx, s.patch(), 8, [&](Context&, Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const Index c = r / kk, i = r % kk / s.kernel, j = r % s.kernel;
      for (Index y = 0; y < s.out_height(); ++y) {
        const Index at = y * s.stride + i - s.pad;
        for (Index x = 0; x < OW; ++x) {
          const Index across = x * s.stride + j - s.pad;
          const bool inside = at >= 0 && at < s.height && across >= 0 && across < s.width;
          patches(r, y * OW + x) = inside ? X(c, at, across) : T(0);
        }
      }
    }
  });
}
/// dX (C,H,W) = the sums of what im2col made of each pixel: its adjoint. Throws shape_error.
template <std::floating_point T>
void col2im(Context& ctx, const ConvShape& s, MatrixView<const T> patches, Channels<T> dX) {
  s.check();
  detail::check_channels("col2im to", dX, s.channels, s.height, s.width);
  if (patches.rows() != s.patch() || patches.cols() != s.pixels())
    throw shape_error(detail::concat("tessera: col2im of (", detail::shape_text(patches.rows(), patches.cols()),
                                     "); expected ", detail::shape_text(s.patch(), s.pixels())));
  const Index kk = s.kernel * s.kernel, OW = s.out_width();
  for_each_chunk(ctx, s.channels, 1, [&](Context&, Index c, Index) {
    std::fill_n(&dX(c, 0, 0), s.height * s.width, T(0));
    for (Index r = 0; r < kk; ++r)
      for (Index y = 0; y < s.out_height(); ++y) {
        const Index at = y * s.stride + r / s.kernel - s.pad;
        if (at < 0 || at >= s.height) continue;
        for (Index x = 0; x < OW; ++x) {
          const Index across = x * s.stride + r % s.kernel - s.pad;
          if (across >= 0 && across < s.width) dX(c, at, across) += patches(c * kk + r, y * OW + x);
        }
      }
  });
}

/// Y (M,H,W) = relu(W X + bias), W (M,C) a Csr, Bsr or any operator, X (C,H,W). 2 flops a weight and pixel. Throws
/// shape_error.
template <LinearOperator A>
void sparse_conv1x1(Context& ctx, const A& W, Channels<const scalar_of<A>> X, Channels<scalar_of<A>> Y,
                    const ConvEpilogue<scalar_of<A>>& e = {}) {
  using S = scalar_of<A>;
  detail::check_channels("sparse_conv1x1 of", X, W.cols(), X.extent(1), X.extent(2));
  detail::check_channels("sparse_conv1x1 to", Y, W.rows(), X.extent(1), X.extent(2));
  detail::check_epilogue(e, W.rows());
  const Index P = X.extent(1) * X.extent(2);
  detail::apply_to_pixels(ctx, W, MatrixView<const S>(X.data(), W.cols(), P), e, MatrixView<S>(Y.data(), W.rows(), P));
}

/// Y (M,out_height,out_width) = relu(W patches + bias), W (M, C·k·k): the dense first layer with a Dense. The patches
/// are written out, C·k²·pixels numbers of scratch. Throws shape_error.
template <LinearOperator A>
void conv_im2col(Context& ctx, const A& W, const ConvShape& s, Channels<const scalar_of<A>> X, Channels<scalar_of<A>> Y,
                 const ConvEpilogue<scalar_of<A>>& e = {}) {
  using S = scalar_of<A>;
  s.check();
  if (W.cols() != s.patch())
    throw shape_error(detail::concat("tessera: conv_im2col of (", describe(W), ") with patches of ", s.patch()));
  detail::check_channels("conv_im2col to", Y, W.rows(), s.out_height(), s.out_width());
  detail::check_epilogue(e, W.rows());
  Workspace::Scope scope(ctx.workspace);
  const MatrixView<S> patches(scope.take<S>(s.patch() * s.pixels()), s.patch(), s.pixels());
  im2col<S>(ctx, s, X, patches);
  detail::apply_to_pixels(ctx, W, MatrixView<const S>(patches), e, MatrixView<S>(Y.data(), W.rows(), s.pixels()));
}

/// Y (C,out_height,out_width): each channel by its own kernel K (C, k·k). Rows are copied apart by their place in a
/// stride, so that vectors are contiguous for any. 2·k² flops a pixel. Throws shape_error.
template <std::floating_point T>
void depthwise_conv(Context& ctx, MatrixView<const T> K, const ConvShape& s, Channels<const T> X, Channels<T> Y,
                    const ConvEpilogue<T>& e = {}) {
  s.check();
  detail::check_channels("depthwise_conv of", X, s.channels, s.height, s.width);
  detail::check_channels("depthwise_conv to", Y, s.channels, s.out_height(), s.out_width());
  if (K.rows() != s.channels || K.cols() != s.kernel * s.kernel)
    throw shape_error(detail::concat("tessera: depthwise_conv by (", detail::shape_text(K.rows(), K.cols()),
                                     "); expected ", detail::shape_text(s.channels, s.kernel * s.kernel)));
  detail::check_epilogue(e, s.channels);
  using V = simd::Vec<T, simd::Portable<>>;
  // Of each stride of rows and columns, `phases` are read; a line is one of them.
  const Index phases = std::min(s.stride, s.kernel), rows = (s.out_height() - 1) * phases + s.kernel,
              OW = s.out_width();
  const Index line = OW + (s.kernel - 1) / s.stride + V::width;
  for_each_chunk(ctx, s.channels, 4, [&](Context& worker, Index first, Index last) {
    Workspace::Scope scope(worker.workspace);
    T* const plane = scope.take<T>(rows * phases * line);
    std::fill_n(plane, rows * phases * line, T(0));
    for (Index c = first; c < last; ++c) {
      for (Index y = 0; y < s.height; ++y) {
        const Index r = (y + s.pad) / s.stride * phases + (y + s.pad) % s.stride;
        if ((y + s.pad) % s.stride >= phases || r >= rows) continue;
        for (Index x = 0; x < s.width; ++x) {
          const Index at = x + s.pad, phase = at % s.stride;
          if (phase < phases && at / s.stride < line) plane[(r * phases + phase) * line + at / s.stride] = X(c, y, x);
        }
      }
      for (Index y = 0; y < s.out_height(); ++y)
        for (Index x = 0; x < OW; x += V::width) {
          V sum(T(0));
          for (Index i = 0; i < s.kernel; ++i)
            for (Index j = 0; j < s.kernel; ++j)
              sum = fma(V(K(c, i * s.kernel + j)),
                        V::load(plane + ((y * phases + i) * phases + j % s.stride) * line + x + j / s.stride), sum);
          if (x + V::width <= OW)
            sum.store(&Y(c, y, x));
          else
            sum.store(&Y(c, y, x), OW - x);
        }
      detail::finish_channel(e, c, &Y(c, 0, 0), s.pixels());
    }
  });
}

/// A block of MobileNet with sparse 1x1 weights: Y (M,out_height,out_width) = relu(W relu(K * X)), K (C, k·k)
/// depthwise, W (M,C). C·pixels numbers of scratch. Throws shape_error. A. Howard et al., "MobileNets" (2017), without
/// batch normalization, which biases and weights take in.
template <LinearOperator A>
void sparse_mobilenet_block(Context& ctx, MatrixView<const scalar_of<A>> K, const A& W, const ConvShape& s,
                            Channels<const scalar_of<A>> X, Channels<scalar_of<A>> Y,
                            std::span<const scalar_of<A>> depthwise_bias = {},
                            std::span<const scalar_of<A>> bias = {}) {
  using S = scalar_of<A>;
  s.check();
  Workspace::Scope scope(ctx.workspace);
  const Channels<S> between(scope.take<S>(s.channels * s.pixels()), {s.channels, s.out_height(), s.out_width()});
  depthwise_conv<S>(ctx, K, s, X, between, {depthwise_bias, true});
  sparse_conv1x1(ctx, W, Channels<const S>(between), Y, {bias, true});
}

}  // namespace tessera::inline TESSERA_ABI
