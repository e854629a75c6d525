/// What a product of compressed rows with a matrix over a semiring is given.
#pragma once

#include <concepts>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>
#include <tessera/kernels/semiring/semirings.hpp>

namespace tessera::inline TESSERA_ABI {

/// Y (M,N) = ⊕_k A_mk ⊗ X_kn, A by rows; each sum in the order of A's entries, from zero(). A RowRange is one of rows.
template <class T, class I, class S>
struct SemiringArgs : KernelArgs {
  const I* row_ptr = nullptr;
  const I* col_idx = nullptr;
  const T* values = nullptr;
  MatrixView<const T> X;
  MatrixView<T> Y;
  S semiring;

  /// Those of this library of floating-point numbers can be computed in vectors.
  static constexpr bool known =
      std::floating_point<T> && (std::same_as<S, PlusTimes<T>> || std::same_as<S, MinPlus<T>> ||
                                 std::same_as<S, MaxPlus<T>> || std::same_as<S, OrAnd<T>>);
  const char* reject_vectors() const {
    if (!known) return "vectors know this library's semirings of f32 and f64";
    return X.col_stride() == 1 && Y.col_stride() == 1 && Y.cols() > 1 ? nullptr : "no rows of contiguous columns";
  }
};

}  // namespace tessera::inline TESSERA_ABI
