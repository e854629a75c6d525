/// What a sum of squares is given.
#pragma once

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// partial[c] = Σ x_i² over piece c of `piece` elements, in double. A RowRange is one of pieces.
template <class T>
struct SumSquaresArgs : KernelArgs {
  static constexpr Index piece = Index{1} << 14;
  VectorView<const T> x;  // (n)
  double* partial = nullptr;

  Index pieces() const { return (x.extent(0) + piece - 1) / piece; }
  Index begin(Index c) const { return c * piece; }
  Index end(Index c) const { return (c + 1) * piece < x.extent(0) ? (c + 1) * piece : x.extent(0); }
};

}  // namespace tessera::inline TESSERA_ABI
