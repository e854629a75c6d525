/// What a rotation of pairs is given.
#pragma once

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// Each row of X is `heads` vectors of d numbers, d even; pair (2i, 2i+1) of every vector turns, in place, by the angle
/// whose cosine stands in columns 2i and 2i+1 of the tables, row `angle(r)`. A RowRange is one of X's rows.
template <class T>
struct RopeArgs : KernelArgs {
  using value_type = T;
  MatrixView<T> X;  // (n, heads*d), columns contiguous
  Index heads = 0, d = 0;
  const T* cos = nullptr;  // (positions, d)
  const T* sin = nullptr;
  const Index* positions = nullptr;  // (n), or null: offset + r % period
  Index offset = 0, period = 1;
  T sign = T(1);  // -1 turns back

  Index angle(Index r) const { return positions != nullptr ? positions[r] : offset + r % period; }
};

}  // namespace tessera::inline TESSERA_ABI
