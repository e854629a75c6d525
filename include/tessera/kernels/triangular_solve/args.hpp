/// What kernels that solve with a sparse triangle are given.
#pragma once

#include <concepts>
#include <cstdint>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// X (N,R) := T⁻¹ X in place, row by row, T a triangle of which row i has values[e] at col_idx[e] for e from row_ptr[i]
/// to row_ptr[i + 1] beside its diagonal. A RowRange is one of turns, counted from `first`; a row's turn comes after
/// those of the rows that it names.
template <std::floating_point T, class I>
struct TriangularSolveArgs : KernelArgs {
  const I* row_ptr = nullptr;
  const I* col_idx = nullptr;
  const T* values = nullptr;
  const T* diagonal = nullptr;  // (N), or nullptr: all 1
  MatrixView<T> X;
  Index first = 0;
  const I* order = nullptr;  // whose turn it is, or nullptr: rows from the first on, or from the last
  bool forwards = true;

  static constexpr bool in_vectors = std::same_as<T, float> || std::same_as<T, double>;

  Index row(Index turn) const {
    if (order != nullptr) return order[turn];
    return forwards ? turn : X.rows() - 1 - turn;
  }
};

/// The same of one column x, by slices of up to 16 rows that do not name each other. Rows of slice s are order[p] for p
/// from position[s] to position[s + 1], those of more entries first. The k-th entries of its rows, of the first
/// held[step[s] + k] rows, stand side by side, from entry[s] on. A RowRange is one of slices, counted from `first`.
template <std::floating_point T, class I>
struct TriangularSlicesArgs : KernelArgs {
  static constexpr Index width = 16;
  static constexpr bool in_vectors = (std::same_as<T, float> || std::same_as<T, double>)&&std::same_as<I, std::int32_t>;
  const I* order = nullptr;
  const T* diagonal = nullptr;  // in the same order, or nullptr: all 1
  const I* col_idx = nullptr;
  const T* values = nullptr;
  const Index *position = nullptr, *step = nullptr, *entry = nullptr;
  const std::uint8_t* held = nullptr;
  T* x = nullptr;
  Index stride = 1;
  Index first = 0;
};

}  // namespace tessera::inline TESSERA_ABI
