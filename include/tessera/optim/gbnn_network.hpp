/// A hidden layer of stages, each with some of the units.
#pragma once

#include <algorithm>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/kernels/map/map.hpp>
#include <tessera/nn/linear.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
struct TanhInPlace {
  template <class V>
  TESSERA_INLINE void operator()(V& h) const {
    h = tanh(h);
  }
};
/// H (n, J) = tanh(X Wᵀ + b).
template <class T>
void tanh_layer(Context& ctx, MatrixView<const T> X, MatrixView<const T> W, VectorView<const T> b, MatrixView<T> H) {
  gemm<T>(ctx, T(1), X, W.transposed(), T(0), H);
  nn::add_bias<T>(ctx, b, H);
  map(ctx, TanhInPlace{}, VectorView<T>(H.data(), H.size()));
}
}  // namespace detail

/// out(x) = start + Σ_t (offset_t + Σ_j output_tj·tanh(W_tj·x + bias_tj)): one hidden layer of T·J units, of which any
/// number of stages from the first on is a network, too.
template <class T>
struct Gbnn {
  Index features = 0, stages = 0, units = 0;
  T start{};
  Buffer<T> W, bias, output, offset;  // (T·J, features), (T·J), (T·J), (T)
  std::vector<double> history;        // mean loss at the start and after each stage

  /// y (n) ← what the first `used` stages say of X (n, features), all by default. Throws shape_error.
  /// 2·n·used·J·features flops, no more than 512 rows' hidden units at a time.
  void predict(Context& ctx, MatrixView<const T> X, VectorView<T> y, Index used = -1) const {
    if (used < 0) used = stages;
    if (X.cols() != features || X.rows() != y.extent(0) || used > stages)
      throw shape_error(tessera::detail::concat(
          "tessera: gbnn of ", features, " features and ", stages, " stages: predict of X ",
          tessera::detail::shape_text(X.rows(), X.cols()), " into ", y.extent(0), " numbers by ", used, " stages"));
    const Index hidden = used * units;
    T first = start;
    for (Index t = 0; t < used; ++t) first += offset[t];
    for (Index i = 0; i < X.rows(); i += 512) {
      const Index n = std::min<Index>(512, X.rows() - i);
      const VectorView<T> part(y.data() + i * y.stride(0), {n}, {y.stride(0)});
      for (Index k = 0; k < n; ++k) part[k] = first;
      if (hidden == 0) continue;
      Workspace::Scope scope(ctx.workspace);
      const MatrixView<T> H(scope.take<T>(n * hidden), n, hidden);
      detail::tanh_layer<T>(ctx, X.block(i, 0, n, features), {W.data(), hidden, features}, {bias.data(), hidden}, H);
      gemv<T>(ctx, T(1), H, VectorView<const T>(output.data(), hidden), T(1), part);
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI::optim
