/// The dense parts of structures, quantized.
#pragma once

#include <concepts>
#include <utility>

#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/quantized_rows.hpp>

namespace tessera::inline TESSERA_ABI::detail {

template <class A>
concept DensePart = DenseFactor<A> && std::same_as<typename A::Scalar, float>;

/// Blocks of F, or codes with a scale a row where F has none of its own.
template <PanelFormat F, class T>
auto quantized_part(Context& ctx, MatrixView<const T> W, Activations mode) {
  if constexpr (!std::same_as<T, float>) {
    const Dense<float> wide(W);
    return quantized_part<F>(ctx, wide.view(), mode);
  } else if constexpr (PanelLayout<F>::scale == PanelScale::one) {
    return quantize_rows<F>(ctx, W).activations(mode);
  } else {
    return quantize<F>(ctx, W).activations(mode);
  }
}
template <PanelFormat F, DensePart A>
auto quantized_part(Context& ctx, const A& a, Activations mode) {
  return quantized_part<F>(ctx, MatrixView<const typename A::Element>(a.view()), mode);
}
template <PanelFormat F>
using QuantizedPart =
    decltype(quantized_part<F>(std::declval<Context&>(), std::declval<MatrixView<const float>>(), Activations::int8));

}  // namespace tessera::inline TESSERA_ABI::detail
