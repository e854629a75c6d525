/// A layer's parameters as views into one span, so that gradients and optimizers see them as one vector.
#pragma once

#include <initializer_list>
#include <span>

#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>

namespace tessera::inline TESSERA_ABI::nn::detail {

/// Matrices and vectors one after another from a span.
template <class T>
class Parts {
 public:
  /// Throws shape_error unless the span holds `expected` numbers.
  Parts(const char* what, std::span<T> all, Index expected) : at_(all.data()) {
    if (static_cast<Index>(all.size()) != expected)
      throw shape_error(
          tessera::detail::concat("tessera: ", what, " of ", all.size(), " parameters: expected ", expected));
  }
  MatrixView<T> matrix(Index rows, Index cols) {
    const MatrixView<T> part(at_, rows, cols);
    at_ += rows * cols;
    return part;
  }
  VectorView<T> vector(Index n) {
    at_ += n;
    return {at_ - n, n};
  }

 private:
  T* at_;
};

/// Throws shape_error unless every size is from 1 to 2^24, so that products of two can be counted.
inline void check_sizes(const char* what, std::initializer_list<Index> sizes) {
  for (const Index size : sizes)
    if (size < 1 || size > Index{1} << 24)
      throw shape_error(
          tessera::detail::concat("tessera: ", what, " with a size of ", size, ": expected 1 to ", Index{1} << 24));
}

}  // namespace tessera::inline TESSERA_ABI::nn::detail
