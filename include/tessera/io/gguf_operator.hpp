/// Tensors of GGUF files as operators, where they lie.
#pragma once

#include <string_view>
#include <type_traits>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/io/gguf.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/quantized.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
template <class F>
concept Quantizable = requires {
  typename QuantizedView<F>;
};
}  // namespace detail

/// `f(A)`, A the (rows, cols) matrix of `tensor` as an operator without a copy: DenseView<T> for numbers and
/// QuantizedView<F> for the block formats that the kernels multiply. A is valid while the tensor's bytes are. Throws
/// unsupported_error for tensors of other types or that are not aligned: read() decodes them. O(1).
template <class Visit>
void visit_operator(const GgufTensor& tensor, Visit&& f) {
  visit_gguf_type(tensor.type, tensor.name, [&]<class T>(std::type_identity<T>) {
    if constexpr (DenseElement<T>) {
      GgufTensor matrix = tensor;
      matrix.shape = {tensor.rows(), tensor.cols()};
      f(DenseView<T>(matrix.template view<T, 2>()));
    } else if constexpr (detail::Quantizable<T>) {
      f(QuantizedView<T>(tensor.rows(), tensor.cols(), tensor.template blocks<T>()));
    } else {
      throw unsupported_error(detail::concat("tessera: tensor ", detail::quote(tensor.name), " of ",
                                             gguf_type_name(tensor.type),
                                             " as an operator: no kernel multiplies it as it lies; read() decodes it"));
    }
  });
}

}  // namespace tessera::inline TESSERA_ABI
