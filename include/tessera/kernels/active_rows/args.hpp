/// What a sum of some rows of a matrix is given.
#pragma once

#include <algorithm>
#include <cstdint>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// y (N) = Σ_k factor[k] · W[row[k], :], k < count in order, W (C,N) of contiguous rows. A RowRange is one of blocks of
/// `block` entries of y.
template <class T>
struct ActiveRowsArgs : KernelArgs {
  MatrixView<const T> W;
  const std::int32_t* row = nullptr;
  const T* factor = nullptr;
  Index count = 0;
  Index block = 4096;  // 16 kB of y; no bit depends on it
  T* y = nullptr;

  Index blocks() const { return (W.cols() + block - 1) / block; }
};

}  // namespace tessera::inline TESSERA_ABI
