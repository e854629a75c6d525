/// Depthwise 3x3 convolutions, stride 1 and zeros around, of channels (C, H·W), and their kernels' gradients: a channel
/// with a border of zeros makes each of the nine taps one shifted vector, over all rows at once. The library's
/// depthwise_conv takes any shape at the unit's own flags: 4 to 7 times slower here (AVX2 against SSE2, 14² to 112²).
#pragma once

#include <algorithm>

#include <tessera/core/context.hpp>
#include <tessera/kernels/gemv/gemv.hpp>
#include <tessera/kernels/map/map.hpp>

namespace tessera::inline TESSERA_ABI::nn::detail {

template <class T>
struct FirstTaps {
  T bias, k0, k1, k2, k3, k4;
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& x0, const V& x1, const V& x2, const V& x3, const V& x4) const {
    y = fma(V(k4), x4, fma(V(k3), x3, fma(V(k2), x2, fma(V(k1), x1, fma(V(k0), x0, V(bias))))));
  }
};
template <class T>
struct LastTaps {
  bool relu;
  T k5, k6, k7, k8;
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& x5, const V& x6, const V& x7, const V& x8) const {
    const V zero(T(0));
    y = fma(V(k8), x8, fma(V(k7), x7, fma(V(k6), x6, fma(V(k5), x5, y))));
    if (relu) y = select(y < zero, zero, y);
  }
};

/// body(worker, c, plane, other, length) for each channel c of X: its plane (H+2, W+2), room for (H, W+2) with zeros
/// beyond W, and how many of that shifts (e/3, e%3) of the plane reach.
template <class T, class Body>
void for_each_plane(Context& ctx, MatrixView<const T> X, Index W, Body&& body) {
  const Index H = X.cols() / W, line = W + 2;
  for_each_chunk(ctx, X.rows(), 4, [&](Context& worker, Index first, Index last) {
    Workspace::Scope scope(worker.workspace);
    T* const plane = scope.take<T>((H + 2) * line);
    T* const other = scope.take<T>(H * line);
    std::fill_n(plane, (H + 2) * line, T(0));
    std::fill_n(other, H * line, T(0));
    for (Index c = first; c < last; ++c) {
      for (Index y = 0; y < H; ++y) std::copy_n(&X(c, y * W), W, plane + (y + 1) * line + 1);
      body(worker, c, plane, other, (H - 1) * line + W);
    }
  });
}

/// Y(c, y, x) = bias_c + Σ K(c, 3i + j) X(c, y + i - 1, x + j - 1), not below 0 where relu. X, Y (C, H·W) with
/// contiguous rows, K (C, 9) of any strides, bias (C) or {}.
template <class T>
void depthwise3x3(Context& ctx, MatrixView<const T> K, VectorView<const T> bias, MatrixView<const T> X, Index W,
                  MatrixView<T> Y, bool relu) {
  for_each_plane<T>(ctx, X, W, [&](Context& worker, Index c, const T* plane, T* sums, Index length) {
    const auto k = K.row(c);
    const auto tap = [&](Index e) { return VectorView<const T>(plane + e / 3 * (W + 2) + e % 3, length); };
    const VectorView<T> y(sums, length);
    const T b = bias.data() == nullptr ? T(0) : bias[c];
    map(worker, FirstTaps<T>{b, k[0], k[1], k[2], k[3], k[4]}, y, tap(0), tap(1), tap(2), tap(3), tap(4));
    map(worker, LastTaps<T>{relu, k[5], k[6], k[7], k[8]}, y, tap(5), tap(6), tap(7), tap(8));
    for (Index at = 0; at * W < X.cols(); ++at) std::copy_n(sums + at * (W + 2), W, &Y(c, at * W));
  });
}

/// dK = beta·dK + Σ dY(c, y, x) X(c, y + i - 1, x + j - 1), one dot product an entry.
template <class T>
void depthwise3x3_gradient(Context& ctx, MatrixView<const T> X, MatrixView<const T> dY, Index W, T beta,
                           MatrixView<T> dK) {
  for_each_plane<T>(ctx, X, W, [&](Context& worker, Index c, const T* plane, T* dy, Index length) {
    for (Index at = 0; at * W < X.cols(); ++at) std::copy_n(&dY(c, at * W), W, dy + at * (W + 2));
    for (Index e = 0; e < 9; ++e)
      gemv<T>(worker, T(1), MatrixView<const T>(plane + e / 3 * (W + 2) + e % 3, 1, length),
              VectorView<const T>(dy, length), beta, VectorView<T>(&dK(c, e), 1));
  });
}

}  // namespace tessera::inline TESSERA_ABI::nn::detail
