/// What a product with one vector that also takes the norm is given.
#pragma once

#include <algorithm>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// Rows [first, last) of G, whose rows are contiguous. `down`: r (n) += Σ p_i·G_i:, a RowRange is one of panels of
/// columns; else r_i = G_i:·p, a RowRange is one of tiles of rows. squares[c] = Σ G_ij² of panel or tile c.
template <class T>
struct ProjectOneArgs : KernelArgs {
  static constexpr Index panel = 2048;
  MatrixView<const T> G;  // (m, n)
  const T* p = nullptr;   // (m) or (n)
  T* r = nullptr;         // (n) or (m)
  Index first = 0, last = 0, tile = 1;
  bool down = true;
  double* squares = nullptr;

  Index pieces() const { return down ? (G.cols() + panel - 1) / panel : (last - first + tile - 1) / tile; }
  Index begin(Index c) const { return down ? c * panel : first + c * tile; }
  Index end(Index c) const {
    return down ? std::min(G.cols(), (c + 1) * panel) : std::min(last, first + (c + 1) * tile);
  }
};

}  // namespace tessera::inline TESSERA_ABI
