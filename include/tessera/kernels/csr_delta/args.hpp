/// What a product of rows in units of 16-bit distances is given.
#pragma once

#include <cstdint>

#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>
#include <tessera/kernels/spmm/gathers.hpp>

namespace tessera::inline TESSERA_ABI {

/// y (M) = alpha * A * x (K) + beta * y; row i of A is units row_ptr[i] to row_ptr[i + 1], unit u holds values[e] at
/// column base[u] + distances[e] for e from unit_ptr[u] to unit_ptr[u + 1]. beta == 0 never reads y. A RowRange is one
/// of rows.
template <class T>
struct CsrDeltaArgs : KernelArgs {
  using S = accum_t<T>;
  const std::int32_t *row_ptr = nullptr, *unit_ptr = nullptr, *base = nullptr;
  const std::uint16_t* distances = nullptr;
  const T* values = nullptr;
  S alpha = 1, beta = 0;
  const S* x = nullptr;
  VectorView<S> y;
  Index entries = 0;                              // of all rows
  Index gathers_above = detail::gathers_above();  // bytes of entries

  bool gathers() const { return entries * static_cast<Index>(sizeof(T) + sizeof(std::uint16_t)) > gathers_above; }
  void put(Index i, S sum) const { y(i) = beta == S(0) ? alpha * sum : alpha * sum + beta * y(i); }
};

}  // namespace tessera::inline TESSERA_ABI
