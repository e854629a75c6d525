/// A sparse matrix as a list of its entries: what readers of sparse files return.
#pragma once

#include <complex>
#include <concepts>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>

namespace tessera::inline TESSERA_ABI {

/// Which entries a list leaves out because others imply them: a(j,i) is a(i,j), -a(i,j) or its conjugate.
enum class Symmetry { general, symmetric, skew_symmetric, hermitian };

/// Entry k is `value[k]` at (row[k], col[k]), from 0, in any order. Unless the symmetry is general, only row >= col
/// (skew-symmetric: row > col) is listed.
template <class T>
struct Coo {
  Index rows = 0, cols = 0;
  std::vector<Index> row, col;  // (entries)
  std::vector<T> value;         // (entries)
  Symmetry symmetry = Symmetry::general;

  Index entries() const { return static_cast<Index>(value.size()); }
};

namespace detail {

/// The entry that a listed one implies on the other side of the diagonal.
template <class T>
T mirrored(T value, Symmetry symmetry) {
  if (symmetry == Symmetry::skew_symmetric) {
    if constexpr (std::integral<T>)
      if (value == std::numeric_limits<T>::min())
        throw unsupported_error(
            concat("tessera: a skew-symmetric matrix of integers holds ", value, ", whose negative does not fit"));
    return static_cast<T>(-value);
  }
  if constexpr (requires { value.imag(); })
    if (symmetry == Symmetry::hermitian) return std::conj(value);
  return value;
}

}  // namespace detail

/// All entries listed: the implied ones follow in the order of theirs. O(entries).
template <class T>
Coo<T> expand(Coo<T> matrix) {
  if (matrix.symmetry == Symmetry::general) return matrix;
  const std::size_t listed = matrix.value.size();
  for (std::size_t k = 0; k < listed; ++k) {
    if (matrix.row[k] == matrix.col[k]) continue;
    matrix.row.push_back(matrix.col[k]);
    matrix.col.push_back(matrix.row[k]);
    matrix.value.push_back(detail::mirrored(matrix.value[k], matrix.symmetry));
  }
  matrix.symmetry = Symmetry::general;
  return matrix;
}

/// (rows, cols) row-major, implied entries included; entries at the same place add up. O(rows*cols + entries).
/// Throws shape_error when rows*cols cannot be represented.
template <class T>
Buffer<T> to_dense(const Coo<T>& matrix) {
  Index size = 0;
  if (__builtin_mul_overflow(matrix.rows, matrix.cols, &size))
    throw shape_error(detail::concat("tessera: a dense ", detail::shape_text(matrix.rows, matrix.cols),
                                     " matrix has more elements than can be counted"));
  Buffer<T> dense(size);
  for (std::size_t k = 0; k < matrix.value.size(); ++k) {
    const Index i = matrix.row[k], j = matrix.col[k];
    dense[i * matrix.cols + j] = static_cast<T>(dense[i * matrix.cols + j] + matrix.value[k]);
    if (matrix.symmetry != Symmetry::general && i != j)
      dense[j * matrix.cols + i] =
          static_cast<T>(dense[j * matrix.cols + i] + detail::mirrored(matrix.value[k], matrix.symmetry));
  }
  return dense;
}

}  // namespace tessera::inline TESSERA_ABI
