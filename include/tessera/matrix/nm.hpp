/// N:M sparsity: N of each M columns of a row are stored.
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include <tessera/matrix/detail/sparse_rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// A sparse (rows, cols): of columns M·g to M·g + M - 1 of a row, those at N places, ascending, are stored, zeros among
/// them where there are fewer nonzeros. values holds N a group, row by row; `codes` the places, `bits()` each, from the
/// low bits on, a row in `line()` bytes. Places beyond the last column mean nothing. Owns its arrays.
/// A. Mishra et al., "Accelerating Sparse Deep Neural Networks" (2021).
template <class T>
class Nm : public detail::SparseRows<Nm<T>, T> {
 public:
  Nm() : Nm(0, 0, 1, 2, {}, {}) {}
  /// Throws format_error unless 1 <= N <= M <= 32, the arrays have their lengths and places ascend within a group.
  Nm(Index rows, Index cols, Index n, Index m, Buffer<T> values, Buffer<std::uint8_t> codes)
      : rows_(rows), cols_(cols), n_(n), m_(m), values_(std::move(values)) {
    detail::check_sparse_shape("Nm", rows, cols);
    if (n < 1 || n > m || m > 32)
      detail::refuse_sparse("Nm", rows, cols, n, ':', m, "; expected N of 1 to M, M up to 32");
    groups_ = (cols + m - 1) / m;
    line_ = line(cols, n, m);
    if (values_.size() != rows * groups_ * n)
      detail::refuse_sparse("Nm", rows, cols, "values has ", values_.size(), " entries; expected ", rows * groups_ * n);
    if (codes.size() != rows * line_)
      detail::refuse_sparse("Nm", rows, cols, "codes has ", codes.size(), " bytes; expected ", rows * line_);
    codes_ = Buffer<std::uint8_t>(codes.size() + 8);  // read in words
    std::copy(codes.begin(), codes.end(), codes_.begin());
    for (Index i = 0; i < rows; ++i)
      for (Index k = 0; k < groups_ * n; ++k)
        if (place(i, k) >= m || (k % n != 0 && place(i, k) <= place(i, k - 1)))
          detail::refuse_sparse("Nm", rows, cols, "codes of row ", i, ", group ", k / n, " have ", place(i, k),
                                "; expected ascending places below ", m);
  }

  static Index bits(Index m) {
    return std::max<Index>(1, static_cast<Index>(std::bit_width(static_cast<std::uint64_t>(m - 1))));
  }
  static Index line(Index cols, Index n, Index m) { return ((cols + m - 1) / m * n * bits(m) + 7) / 8; }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index n() const { return n_; }
  Index m() const { return m_; }
  /// Where value k of row i lies in its group.
  Index place(Index i, Index k) const {
    const Index bit = k * bits(m_);
    const std::uint8_t* const from = codes_.data() + i * line_ + bit / 8;
    const unsigned word = from[0] | static_cast<unsigned>(from[1]) << 8;
    return static_cast<Index>((word >> (bit % 8)) & ((1u << bits(m_)) - 1));
  }
  std::span<const T> values() const { return detail::span_of(values_); }
  /// 8 bytes behind them can be read.
  std::span<const std::uint8_t> codes() const { return {codes_.data(), static_cast<std::size_t>(rows_ * line_)}; }
  std::span<T> parameters() requires std::floating_point<T> { return values_; }
  std::size_t bytes() const { return values_.bytes() + codes_.bytes(); }
  std::string describe() const { return detail::concat("Nm<", n_, ':', m_, "> ", detail::shape_text(rows_, cols_)); }
  template <class F>
  void for_each_buffer(F&& f) const {
    detail::show_buffers(f, values_, codes_);
  }

  /// More than 4 columns, and small numbers, take the kernels of compressed rows, which read A once for many.
  bool apply_forward(Context& ctx, accum_t<T> alpha, MatrixView<const accum_t<T>> X, accum_t<T> beta,
                     MatrixView<accum_t<T>> Y) const {
    if (Y.cols() > 4 || !std::floating_point<T>) return false;
    Workspace::Scope scope(ctx.workspace);
    const auto x = detail::columns_of(ctx, scope, X);
    const NmArgs<T> args{{},       cols_,          n_, m_, bits(m_), line_, values_.data(), codes_.data(), alpha, beta,
                         x.data(), x.col_stride(), Y};
    launch(ctx, NmKernels::select(ctx, args), args, rows_, 64);
    return true;
  }
  Index most_nonzeros(Index begin, Index end) const { return (end - begin) * groups_ * n_; }
  void decode(Index begin, Index end, std::int32_t* row_ptr, std::int32_t* col_idx, Index* position) const {
    std::int32_t to = 0;
    const Index width = bits(m_), mask = (Index{1} << width) - 1;
    for (Index i = begin; i < end; ++i) {
      Index at = i * groups_ * n_, bit = i * line_ * 8;
      for (Index first = 0; first < cols_; first += m_)
        for (Index k = 0; k < n_; ++k, ++at, bit += width) {
          const std::uint8_t* const from = codes_.data() + bit / 8;
          const Index j = first + (((from[0] | from[1] << 8) >> (bit % 8)) & mask);
          if (j >= cols_) continue;
          position[to] = at;
          col_idx[to++] = static_cast<std::int32_t>(j);
        }
      row_ptr[i - begin + 1] = to;
    }
  }
  const T* decode_columns(Index begin, Index end, std::int32_t* row_ptr, std::int32_t* col_idx) const {
    const Index width = bits(m_), each = groups_ * n_;
    if (cols_ % m_ != 0 || n_ * width > 56) return nullptr;
    const std::uint64_t mask = (std::uint64_t{1} << width) - 1;
    for (Index i = begin; i < end; ++i) {
      Index bit = i * line_ * 8, first = 0;
      for (; n_ == 2 && m_ == 4 && first + 16 <= cols_; first += 16, bit += 16, col_idx += 8)
        four_groups(codes_.data() + bit / 8, static_cast<std::int32_t>(first), col_idx);
      for (; first < cols_; first += m_, bit += n_ * width) {
        std::uint64_t word;
        std::memcpy(&word, codes_.data() + bit / 8, sizeof word);
        word >>= bit % 8;
        for (Index k = 0; k < n_; ++k, word >>= width)
          *col_idx++ = static_cast<std::int32_t>(first) + static_cast<std::int32_t>(word & mask);
      }
      row_ptr[i - begin + 1] = static_cast<std::int32_t>((i - begin + 1) * each);
    }
    return values_.data() + begin * each;
  }

 private:
  /// The columns of 8 values of 2:4, their 2 bits spread to bytes.
  static void four_groups(const std::uint8_t* codes, std::int32_t first, std::int32_t* col_idx) {
    std::uint64_t x = codes[0] | std::uint64_t{codes[1]} << 8;
    x = (x | x << 24) & 0x000000ff000000ffu;
    x = (x | x << 12) & 0x000f000f000f000fu;
    x = ((x | x << 6) & 0x0303030303030303u) + 0x0c0c080804040000u;
    std::uint8_t places[8];
    std::memcpy(places, &x, 8);
    for (int k = 0; k < 8; ++k) col_idx[k] = first + places[k];
  }

  Index rows_, cols_, n_, m_, groups_ = 0, line_ = 0;
  Buffer<T> values_;
  Buffer<std::uint8_t> codes_;
};

/// The same entries. Throws format_error where a group of M columns has more than N.
template <class T>
Nm<T> nm_from_csr(const Csr<T>& A, Index n, Index m) {
  detail::check_sparse_shape("Nm", A.rows(), A.cols());
  if (n < 1 || n > m || m > 32)
    detail::refuse_sparse("Nm", A.rows(), A.cols(), n, ':', m, "; expected N of 1 to M, M up to 32");
  const Index groups = (A.cols() + m - 1) / m, line = Nm<T>::line(A.cols(), n, m), bits = Nm<T>::bits(m);
  Buffer<T> values(A.rows() * groups * n);
  Buffer<std::uint8_t> codes(A.rows() * line);
  for (Index i = 0; i < A.rows(); ++i) {
    auto e = static_cast<std::size_t>(A.row_ptr()[static_cast<std::size_t>(i)]);
    const auto last = static_cast<std::size_t>(A.row_ptr()[static_cast<std::size_t>(i) + 1]);
    for (Index g = 0; g < groups; ++g) {
      std::uint64_t used = 0;
      Index count = 0;
      const std::size_t first = e;
      for (; e < last && A.col_idx()[e] < (g + 1) * m; ++e, ++count)
        used |= std::uint64_t{1} << (A.col_idx()[e] - g * m);
      if (count > n)
        detail::refuse_sparse("Nm", A.rows(), A.cols(), "row ", i, " has ", count, " nonzeros in group ", g,
                              "; expected ", n, " of ", m);
      for (Index p = 0; count < n; ++p)
        if ((used >> p & 1) == 0) {
          used |= std::uint64_t{1} << p;
          ++count;
        }
      std::size_t next = first;
      for (Index k = 0; k < n; ++k, used &= used - 1) {
        const Index p = std::countr_zero(used), bit = (g * n + k) * bits;
        if (next < e && A.col_idx()[next] - g * m == p) values[(i * groups + g) * n + k] = A.values()[next++];
        const unsigned word = static_cast<unsigned>(p) << (bit % 8);
        codes[i * line + bit / 8] = static_cast<std::uint8_t>(codes[i * line + bit / 8] | (word & 255));
        if (word > 255) codes[i * line + bit / 8 + 1] = static_cast<std::uint8_t>(word >> 8);
      }
    }
  }
  return {A.rows(), A.cols(), n, m, std::move(values), std::move(codes)};
}

}  // namespace tessera::inline TESSERA_ABI
