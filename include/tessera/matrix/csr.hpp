/// Compressed sparse rows: owning (`Csr`) and not (`CsrView`), conversions from and to lists of entries and Eigen.
#pragma once

#include <Eigen/SparseCore>
#include <algorithm>
#include <concepts>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/io/coo.hpp>
#include <tessera/matrix/detail/csr_operator.hpp>

namespace tessera::inline TESSERA_ABI {

/// Someone else's compressed rows, checked once. Copies refer to the same arrays, which must outlive them.
template <class T, SparseIndex I = std::int32_t>
class CsrView : public detail::CsrOperator<CsrView<T, I>, T, I> {
 public:
  static constexpr bool is_view = true;

  CsrView() = default;
  /// Row i is values[e] at column col_idx[e] for e from row_ptr[i] to row_ptr[i + 1]. Throws format_error by the name
  /// of the array that is not sound, and where. O(rows + nonzeros).
  CsrView(Index rows, Index cols, std::span<const I> row_ptr, std::span<const I> col_idx, std::span<const T> values)
      : CsrView(trusted, rows, cols, row_ptr, col_idx, values) {
    detail::check_compressed<I>(detail::by_rows, rows, cols, rows, cols, row_ptr, col_idx, values.size());
  }
  CsrView(trusted_t, Index rows, Index cols, std::span<const I> row_ptr, std::span<const I> col_idx,
          std::span<const T> values)
      : rows_(rows), cols_(cols), row_ptr_(row_ptr), col_idx_(col_idx), values_(values) {}

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  std::span<const I> row_ptr() const { return row_ptr_; }  // (rows + 1)
  std::span<const I> col_idx() const { return col_idx_; }  // (nnz)
  std::span<const T> values() const { return values_; }    // (nnz)

 private:
  static constexpr I none[1] = {0};
  Index rows_ = 0, cols_ = 0;
  std::span<const I> row_ptr_{none}, col_idx_;
  std::span<const T> values_;
};

/// A sparse (M,N) by rows, columns ascending; T is float, double, bf16, int8 or another number, sums are accum_t<T>.
template <class T, SparseIndex I = std::int32_t>
class Csr : public detail::CsrOperator<Csr<T, I>, T, I> {
 public:
  Csr() : Csr(0, 0) {}
  /// Without nonzeros. Throws shape_error for negative sizes.
  Csr(Index rows, Index cols) : rows_(rows), cols_(cols), row_ptr_(check_sizes(rows, cols) + 1) {}
  /// Row i is values[e] at column col_idx[e] for e from row_ptr[i] to row_ptr[i + 1]. Throws format_error by the name
  /// of the array that is not sound, and where. O(rows + nonzeros).
  Csr(Index rows, Index cols, Buffer<I> row_ptr, Buffer<I> col_idx, Buffer<T> values)
      : Csr(trusted, rows, cols, std::move(row_ptr), std::move(col_idx), std::move(values)) {
    detail::check_compressed<I>(detail::by_rows, rows, cols, rows, cols, this->row_ptr(), this->col_idx(),
                                this->values().size());
  }
  Csr(trusted_t, Index rows, Index cols, Buffer<I> row_ptr, Buffer<I> col_idx, Buffer<T> values)
      : rows_(rows),
        cols_(cols),
        row_ptr_(std::move(row_ptr)),
        col_idx_(std::move(col_idx)),
        values_(std::move(values)) {}
  explicit Csr(const CsrView<T, I>& A)
      : Csr(trusted, A.rows(), A.cols(), copy(A.row_ptr()), copy(A.col_idx()), copy(A.values())) {}

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  std::span<const I> row_ptr() const { return row_ptr_; }  // (rows + 1)
  std::span<const I> col_idx() const { return col_idx_; }  // (nnz)
  std::span<const T> values() const { return values_; }    // (nnz)
  std::span<T> values() { return values_; }
  std::span<T> parameters() requires std::floating_point<T> { return values_; }
  CsrView<T, I> view() const& { return {trusted, rows_, cols_, row_ptr(), col_idx(), values()}; }

  /// Aᵀ by rows, which is A by columns. Counting: O(rows + cols + nonzeros), the same order for equal columns.
  Csr transposed() const {
    if (rows_ > 0 && rows_ - 1 > static_cast<Index>(std::numeric_limits<I>::max()))
      throw format_error(detail::concat("tessera: transposing (", describe(*this), "): ", rows_,
                                        " rows do not fit an index that counts to ", std::numeric_limits<I>::max()));
    detail::check_starts("transposing", cols_);
    Buffer<I> starts(cols_ + 1), indices(this->nnz(), uninitialized);
    Buffer<T> values(this->nnz(), uninitialized);
    for (const I c : col_idx_) ++starts[static_cast<Index>(c) + 1];
    for (Index c = 0; c < cols_; ++c) starts[c + 1] = static_cast<I>(starts[c + 1] + starts[c]);
    for (Index i = 0; i < rows_; ++i)
      for (Index e = row_ptr_[i]; e < row_ptr_[i + 1]; ++e) {
        const Index at = starts[col_idx_[e]]++;
        indices[at] = static_cast<I>(i);
        values[at] = values_[e];
      }
    for (Index c = cols_; c > 0; --c) starts[c] = starts[c - 1];
    starts[0] = 0;
    return {trusted, cols_, rows_, std::move(starts), std::move(indices), std::move(values)};
  }

 private:
  static Index check_sizes(Index rows, Index cols) {
    if (rows < 0 || cols < 0 || rows == std::numeric_limits<Index>::max())
      throw shape_error(detail::concat("tessera: Csr(", rows, ", ", cols, "): expected sizes from 0 that can be held"));
    return rows;
  }
  template <class E>
  static Buffer<E> copy(std::span<const E> from) {
    Buffer<E> to(static_cast<Index>(from.size()), uninitialized);
    std::copy(from.begin(), from.end(), to.begin());
    return to;
  }

  Index rows_, cols_;
  Buffer<I> row_ptr_, col_idx_;
  Buffer<T> values_;
};

/// What becomes of several entries at one place.
enum class Duplicates { sum, error };

namespace detail {

/// A list's entries, implied ones too, which go into `all`. Throws format_error for one outside the shape, for lists of
/// different lengths, for more entries, rows or columns than I counts.
template <SparseIndex I, class T>
const Coo<T>& checked_entries(const char* what, const Coo<T>& list, Coo<T>& all) {
  const auto refuse = [&](const auto&... why) {
    throw format_error(concat("tessera: Coo ", shape_text(list.rows, list.cols), ": ", why...));
  };
  if (list.row.size() != list.value.size() || list.col.size() != list.value.size())
    refuse(list.row.size(), " rows, ", list.col.size(), " columns and ", list.value.size(), " values");
  if (list.rows < 0 || list.cols < 0) refuse("expected sizes of 0 or more");
  for (std::size_t k = 0; k < list.value.size(); ++k)
    if (list.row[k] < 0 || list.row[k] >= list.rows || list.col[k] < 0 || list.col[k] >= list.cols)
      refuse("entry ", k, " is at (", list.row[k], ", ", list.col[k], ")");
  if (list.symmetry != Symmetry::general) {
    if (list.rows != list.cols) refuse("a symmetric matrix is square");
    all = expand(list);
  }
  const Coo<T>& entries = list.symmetry == Symmetry::general ? list : all;
  checked_count<I>(what, static_cast<Index>(entries.value.size()));
  if (list.cols > 0) checked_count<I>(what, list.cols - 1, "columns after the first");
  if (list.rows > 0) checked_count<I>(what, list.rows - 1, "rows after the first");
  check_starts(what, list.cols);
  check_starts(what, list.rows);
  return entries;
}

/// Rows whose columns ascend or repeat, those of one place added up or refused.
template <class T, class I>
Csr<T, I> without_duplicates(Index rows, Index cols, const I* starts, const I* columns, const T* values,
                             Duplicates duplicates) {
  const auto refuse = [&](Index i, I c, const auto&... why) {
    throw format_error(concat("tessera: Coo ", shape_text(rows, cols), ": (", i, ", ", c, ") ", why...));
  };
  const Index nnz = static_cast<Index>(starts[rows]);
  Buffer<I> row_ptr(rows + 1), col_idx(nnz, uninitialized);
  Buffer<T> sums(nnz, uninitialized);
  Index to = 0;
  for (Index i = 0; i < rows; ++i) {
    const Index first = to;
    for (auto e = static_cast<Index>(starts[i]); e < static_cast<Index>(starts[i + 1]); ++e) {
      const I c = columns[e];
      if (to > first && col_idx[to - 1] == c) {
        if (duplicates == Duplicates::error) refuse(i, c, "is listed more than once");
        const auto sum = sums[to - 1] + values[e];
        if constexpr (std::integral<T>)
          if (sum < std::numeric_limits<T>::min() || sum > std::numeric_limits<T>::max())
            refuse(i, c, "adds up to ", sum, ", which its values cannot hold");
        sums[to - 1] = static_cast<T>(sum);
        continue;
      }
      col_idx[to] = c;
      sums[to++] = values[e];
    }
    row_ptr[i + 1] = static_cast<I>(to);
  }
  if (to == nnz) return {trusted, rows, cols, std::move(row_ptr), std::move(col_idx), std::move(sums)};
  return Csr<T, I>(CsrView<T, I>(trusted, rows, cols, row_ptr, {col_idx.data(), static_cast<std::size_t>(to)},
                                 {sums.data(), static_cast<std::size_t>(to)}));
}

}  // namespace detail

/// Entries in any order, symmetric ones expanded. Throws format_error for one outside the shape, for lists of different
/// lengths, for more than I counts, for integers whose sum T cannot hold and, if asked, for a place that is listed
/// twice. O(rows + cols + entries).
template <class T, SparseIndex I = std::int32_t>
Csr<T, I> csr_from_coo(const Coo<T>& list, Duplicates duplicates = Duplicates::sum) {
  Coo<T> all;
  const Coo<T>& coo = detail::checked_entries<I>("csr_from_coo", list, all);
  const auto nnz = static_cast<Index>(coo.value.size());
  // Sorted by columns as rows of the transpose, then transposed: two counting sorts, stable.
  Buffer<I> starts(list.cols + 1), rows(nnz, uninitialized);
  Buffer<T> values(nnz, uninitialized);
  for (const Index c : coo.col) ++starts[c + 1];
  for (Index c = 0; c < list.cols; ++c) starts[c + 1] = static_cast<I>(starts[c + 1] + starts[c]);
  for (std::size_t k = 0; k < coo.value.size(); ++k) {
    const Index at = starts[coo.col[k]]++;
    rows[at] = static_cast<I>(coo.row[k]);
    values[at] = coo.value[k];
  }
  for (Index c = list.cols; c > 0; --c) starts[c] = starts[c - 1];
  starts[0] = 0;
  const Csr<T, I> sorted =
      Csr<T, I>(trusted, list.cols, list.rows, std::move(starts), std::move(rows), std::move(values)).transposed();
  return detail::without_duplicates(list.rows, list.cols, sorted.row_ptr().data(), sorted.col_idx().data(),
                                    sorted.values().data(), duplicates);
}

/// The entries row by row. O(nonzeros).
template <class D, class T, class I>
Coo<T> to_coo(const detail::CsrOperator<D, T, I>& matrix) {
  const D& A = static_cast<const D&>(matrix);
  Coo<T> list;
  list.rows = A.rows();
  list.cols = A.cols();
  list.row.reserve(A.values().size());
  for (std::size_t i = 0; i + 1 < A.row_ptr().size(); ++i)
    list.row.insert(list.row.end(), static_cast<std::size_t>(A.row_ptr()[i + 1] - A.row_ptr()[i]),
                    static_cast<Index>(i));
  list.col.assign(A.col_idx().begin(), A.col_idx().end());
  list.value.assign(A.values().begin(), A.values().end());
  return list;
}

/// Everything but zeros of a dense (M,N). Throws format_error for more than I counts. O(M*N).
template <class T, SparseIndex I = std::int32_t>
Csr<std::remove_const_t<T>, I> csr_from_dense(MatrixView<T> dense) {
  using V = std::remove_const_t<T>;
  Index nnz = 0;
  for (Index i = 0; i < dense.rows(); ++i)
    for (Index j = 0; j < dense.cols(); ++j) nnz += dense(i, j) != V(0);
  detail::checked_count<I>("csr_from_dense", nnz);
  if (dense.cols() > 0) detail::checked_count<I>("csr_from_dense", dense.cols() - 1, "columns after the first");
  Buffer<I> row_ptr(dense.rows() + 1), col_idx(nnz, uninitialized);
  Buffer<V> values(nnz, uninitialized);
  Index to = 0;
  for (Index i = 0; i < dense.rows(); ++i) {
    for (Index j = 0; j < dense.cols(); ++j) {
      if (dense(i, j) == V(0)) continue;
      col_idx[to] = static_cast<I>(j);
      values[to++] = dense(i, j);
    }
    row_ptr[i + 1] = static_cast<I>(to);
  }
  return {trusted, dense.rows(), dense.cols(), std::move(row_ptr), std::move(col_idx), std::move(values)};
}

/// Eigen's row-major sparse matrix or map as it lies in memory, checked once. Throws unsupported_error unless it is
/// compressed, format_error unless its rows are sorted.
template <class E>
requires(std::is_base_of_v<Eigen::SparseCompressedBase<E>, E>&& bool(E::IsRowMajor)) auto csr_view(const E& A) {
  using T = typename E::Scalar;
  using I = typename E::StorageIndex;
  if (!A.isCompressed())
    throw unsupported_error(detail::concat("tessera: csr_view of a sparse Eigen ",
                                           detail::shape_text(A.rows(), A.cols()),
                                           " with room between its rows: call makeCompressed() first"));
  const auto nnz = static_cast<std::size_t>(A.nonZeros());
  return CsrView<T, I>(A.rows(), A.cols(), {A.outerIndexPtr(), static_cast<std::size_t>(A.rows()) + 1},
                       {A.innerIndexPtr(), nnz}, {A.valuePtr(), nnz});
}

/// A copy of any sparse Eigen object, by rows.
template <class E>
auto csr_from_eigen(const Eigen::SparseMatrixBase<E>& A) {
  using I = std::conditional_t<sizeof(typename E::StorageIndex) == 8, std::int64_t, std::int32_t>;
  Eigen::SparseMatrix<typename E::Scalar, Eigen::RowMajor, I> rows(A);
  rows.makeCompressed();
  return Csr<typename E::Scalar, I>(csr_view(rows));
}

/// As Eigen sees it, without a copy; it refers to A.
template <class D, class T, class I>
Eigen::Map<const Eigen::SparseMatrix<T, Eigen::RowMajor, I>> eigen_map(const detail::CsrOperator<D, T, I>& matrix) {
  const D& A = static_cast<const D&>(matrix);
  return {A.rows(), A.cols(), A.nnz(), A.row_ptr().data(), A.col_idx().data(), A.values().data()};
}

}  // namespace tessera::inline TESSERA_ABI
