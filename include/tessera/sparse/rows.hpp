/// What every function of this module takes: anything that is held by compressed rows, and its arrays.
#pragma once

#include <algorithm>
#include <concepts>
#include <string>
#include <type_traits>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/kernels/spgemm/args.hpp>
#include <tessera/matrix/csr.hpp>

namespace tessera::inline TESSERA_ABI {

/// Csr, CsrView, or a type of one's own with these members and columns that rise within a row.
template <class A>
concept CompressedRows = requires(const A& a) {
  { a.rows() } -> std::convertible_to<Index>;
  { a.cols() } -> std::convertible_to<Index>;
  a.row_ptr().data();
  a.col_idx().data();
  a.values().data();
};

template <CompressedRows A>
using element_of = std::remove_cvref_t<decltype(*std::declval<const A&>().values().data())>;
template <CompressedRows A>
using index_of = std::remove_cvref_t<decltype(*std::declval<const A&>().col_idx().data())>;

template <CompressedRows A>
CsrArrays<element_of<A>, index_of<A>> sparse_rows(const A& a) {
  return {a.rows(), a.cols(), a.row_ptr().data(), a.col_idx().data(), a.values().data()};
}

namespace detail {

inline std::string csr_text(Index rows, Index cols) { return concat("Csr ", shape_text(rows, cols)); }

/// A copy of A's pattern with other values.
template <CompressedRows A, class T>
Csr<T, index_of<A>> with_values(const A& a, Buffer<T> values) {
  using I = index_of<A>;
  Buffer<I> row_ptr(a.rows() + 1, uninitialized), col_idx(values.size(), uninitialized);
  std::copy_n(a.row_ptr().data(), row_ptr.size(), row_ptr.data());
  std::copy_n(a.col_idx().data(), col_idx.size(), col_idx.data());
  return {trusted, a.rows(), a.cols(), std::move(row_ptr), std::move(col_idx), std::move(values)};
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
