/// Convolutions in dynamic fixed point, forward and backward.
/// D. Das et al., "Mixed Precision Training of Convolutional Neural Networks using Integer Operations" (2018), §3-4.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include <tessera/core/workspace.hpp>
#include <tessera/quant/dynamic_fixed_point.hpp>

namespace tessera::inline TESSERA_ABI {

/// A batch of images, a row a pixel, (batch·height·width, channels), and filters (outputs, kernel_height·kernel_width·
/// channels) in the same order; outputs are (batch·out_height·out_width, outputs). Zeros stand around the images.
struct Conv2dShape {
  Index batch, height, width, channels, outputs, kernel_height, kernel_width;
  Index stride = 1, padding = 0;

  Index out_height() const { return (height + 2 * padding - kernel_height) / stride + 1; }
  Index out_width() const { return (width + 2 * padding - kernel_width) / stride + 1; }
  Index pixels() const { return batch * height * width; }
  Index positions() const { return batch * out_height() * out_width(); }
  Index patch() const { return kernel_height * kernel_width * channels; }
};

namespace detail {

/// Patches of rows of an image: the one of output (y, x) begins at (y, x)·step - (top, left) of the image whose pixels
/// are `spread` apart, with zeros between and around.
struct PatchGather {
  MatrixView<const std::int16_t> image;  // (batch·height·width, channels)
  Index height, width, out_height, out_width, kernel_height, kernel_width;
  Index step, spread, top, left;

  Index size() const { return kernel_height * kernel_width * image.cols(); }
  void operator()(Index position, std::int16_t* patch) const {
    const Index c = image.cols(), out = position / out_width, n = out / out_height;
    const Index x0 = position % out_width * step - left, y0 = out % out_height * step - top;
    if (c == 0) return;
    const bool dense = spread == 1 && image.contiguous();
    for (Index ky = 0; ky < kernel_height; ++ky, patch += kernel_width * c) {
      const Index y = y0 + ky;
      std::fill_n(patch, kernel_width * c, std::int16_t{0});
      if (y < 0 || y % spread != 0 || y / spread >= height) continue;
      const Index row = (n * height + y / spread) * width;
      if (dense) {
        const Index first = std::clamp<Index>(-x0, 0, kernel_width), last = std::clamp(width - x0, first, kernel_width);
        if (first < last) std::copy_n(&image(row + x0 + first, 0), (last - first) * c, patch + first * c);
        continue;
      }
      for (Index kx = 0; kx < kernel_width; ++kx) {
        const Index x = x0 + kx;
        if (x < 0 || x % spread != 0 || x / spread >= width) continue;
        for (Index i = 0; i < c; ++i) patch[kx * c + i] = image(row + x / spread, i);
      }
    }
  }
};

/// f(first position, patches (positions, size)) of tiles of them, whose size depends on shapes alone.
template <class F>
void for_each_tile(Context& ctx, const PatchGather& gather, Index positions, F&& f) {
  const Index size = gather.size(),
              most = std::min(positions, std::max<Index>(64, (Index{1} << 20) / std::max<Index>(size, 1)));
  Workspace::Scope scope(ctx.workspace);
  auto* const patches = scope.take<std::int16_t>(most * size);
  for (Index first = 0; first < positions; first += most) {
    const Index count = std::min(most, positions - first), grain = std::max<Index>(1, 65536 / std::max<Index>(size, 1));
    ctx.run((count + grain - 1) / grain, [&](Index piece, Index) {
      for (Index i = piece * grain; i < std::min(count, (piece + 1) * grain); ++i)
        gather(first + i, patches + i * size);
    });
    f(first, MatrixView<const std::int16_t>(patches, count, size));
  }
}

/// Throws shape_error.
template <class A, class B, class C>
void check_conv2d(std::string_view what, const Conv2dShape& s, MatrixView<A> X, MatrixView<B> W, MatrixView<C> Y) {
  bool good = s.stride >= 1 && s.padding >= 0 && s.padding < std::max(s.kernel_height, s.kernel_width);
  for (const Index n : {s.batch, s.height, s.width, s.channels, s.outputs, s.kernel_height, s.kernel_width, s.stride})
    good = good && n >= 0 && n < Index{1} << 31;
  good = good && s.kernel_height >= 1 && s.kernel_width >= 1 && s.kernel_height <= s.height + 2 * s.padding &&
         s.kernel_width <= s.width + 2 * s.padding;
  if (good) {
    const auto size = [](Index a, Index b, Index c) {
      Index product = 0;
      return __builtin_mul_overflow(a * b, c, &product) ? Index{-1} : product;
    };
    good = X.rows() == size(s.batch, s.height, s.width) && X.cols() == s.channels && W.rows() == s.outputs &&
           W.cols() == size(s.kernel_height, s.kernel_width, s.channels) &&
           Y.rows() == size(s.batch, s.out_height(), s.out_width()) && Y.cols() == s.outputs;
  }
  if (!good)
    throw shape_error(
        concat("tessera: ", what, " of ", s.batch, " images ", shape_text(s.height, s.width), " of ", s.channels,
               " channels by ", s.outputs, " filters ", shape_text(s.kernel_height, s.kernel_width), ", stride ",
               s.stride, ", padding ", s.padding, ": images ", shape_text(X.rows(), X.cols()), ", filters ",
               shape_text(W.rows(), W.cols()), ", outputs ", shape_text(Y.rows(), Y.cols()), "; see Conv2dShape"));
}

}  // namespace detail

/// Y = conv(X, W) + beta·Y in f32: 16-bit mantissas are multiplied and summed in integers, of patches copied to scratch
/// a tile at a time (up to 2 MiB). 2·positions·outputs·patch operations. Same bits for any number of threads. Throws
/// shape_error.
inline void fixed_point_conv2d(Context& ctx, const Conv2dShape& s, const FixedPointView& X, const FixedPointView& W,
                               float beta, MatrixView<float> Y) {
  detail::check_conv2d("fixed_point_conv2d", s, X.mantissas, W.mantissas, Y);
  if (Y.empty()) return;
  const detail::PatchGather gather{X.mantissas,    s.height, s.width, s.out_height(), s.out_width(), s.kernel_height,
                                   s.kernel_width, s.stride, 1,       s.padding,      s.padding};
  detail::for_each_tile(ctx, gather, Y.rows(), [&](Index first, MatrixView<const std::int16_t> patches) {
    fixed_point_gemm(ctx, 1, {patches, X.exponent, X.largest}, W.transposed(), beta, Y.slice(0, first, patches.rows()));
  });
}

/// dW = the gradient for filters + beta·dW, of dY (positions, outputs).
inline void fixed_point_conv2d_grad_weights(Context& ctx, const Conv2dShape& s, const FixedPointView& X,
                                            const FixedPointView& dY, float beta, MatrixView<float> dW) {
  detail::check_conv2d("fixed_point_conv2d_grad_weights", s, X.mantissas, dW, dY.mantissas);
  if (dW.empty()) return;
  const detail::PatchGather gather{X.mantissas,    s.height, s.width, s.out_height(), s.out_width(), s.kernel_height,
                                   s.kernel_width, s.stride, 1,       s.padding,      s.padding};
  if (s.positions() == 0) fixed_point_gemm(ctx, 1, dY.transposed(), {{nullptr, 0, s.patch()}}, beta, dW);
  detail::for_each_tile(ctx, gather, s.positions(), [&](Index first, MatrixView<const std::int16_t> patches) {
    const FixedPointView part{dY.mantissas.slice(0, first, patches.rows()), dY.exponent, dY.largest};
    fixed_point_gemm(ctx, 1, part.transposed(), {patches, X.exponent, X.largest}, first == 0 ? beta : 1.0f, dW);
  });
}

/// dX = the gradient for images + beta·dX: a convolution of dY, its pixels a stride apart, by the turned filters. A
/// stride multiplies zeros: stride² times the operations of the forward pass.
inline void fixed_point_conv2d_grad_input(Context& ctx, const Conv2dShape& s, const FixedPointView& dY,
                                          const FixedPointView& W, float beta, MatrixView<float> dX) {
  detail::check_conv2d("fixed_point_conv2d_grad_input", s, dX, W.mantissas, dY.mantissas);
  if (dX.empty()) return;
  const Index taps = s.kernel_height * s.kernel_width;
  Workspace::Scope scope(ctx.workspace);
  const MatrixView<std::int16_t> turned(scope.take<std::int16_t>(W.mantissas.size()), taps * s.outputs, s.channels);
  for (Index t = 0; t < taps; ++t)
    for (Index o = 0; o < s.outputs; ++o)
      for (Index c = 0; c < s.channels; ++c)
        turned((taps - 1 - t) * s.outputs + o, c) = W.mantissas(o, t * s.channels + c);
  const detail::PatchGather gather{dY.mantissas,
                                   s.out_height(),
                                   s.out_width(),
                                   s.height,
                                   s.width,
                                   s.kernel_height,
                                   s.kernel_width,
                                   1,
                                   s.stride,
                                   s.kernel_height - 1 - s.padding,
                                   s.kernel_width - 1 - s.padding};
  detail::for_each_tile(ctx, gather, dX.rows(), [&](Index first, MatrixView<const std::int16_t> patches) {
    fixed_point_gemm(ctx, 1, {patches, dY.exponent, dY.largest}, {turned, W.exponent, W.largest}, beta,
                     dX.slice(0, first, patches.rows()));
  });
}

}  // namespace tessera::inline TESSERA_ABI
