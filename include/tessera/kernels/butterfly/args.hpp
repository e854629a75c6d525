/// What a butterfly kernel is given.
#pragma once

#include <tessera/core/op.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// X (N,columns) in place through log2 N levels, N a power of two, rows contiguous or columns contiguous. Level l pairs
/// entry i with i ^ (1 << l): x[i] = own[l][i]*x[i] + other[l][i]*x[i ^ (1 << l)], first to last level; transposed,
/// other[l][i ^ (1 << l)] is taken, last to first. A RowRange is one of columns.
template <class TA, class T>
struct ButterflyArgs : KernelArgs {
  Op op = Op::none;
  Index levels = 0;
  const TA* weights = nullptr;  // (levels, 2, N): own, other
  MatrixView<T> X;              // (N,columns)

  Index size() const { return Index{1} << levels; }
  const TA* own(Index level) const { return weights + 2 * level * size(); }
  const TA* other(Index level) const { return own(level) + size(); }
};

}  // namespace tessera::inline TESSERA_ABI
