/// The few weights that stay in full precision beside a quantized matrix: single ones, or whole columns.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera::inline TESSERA_ABI {

/// (M,K) with the nonzeros of a dense matrix, by rows; 8 bytes each and 4 a row. 2·nnz flops a column.
class OutlierEntries : public OperatorBase<OutlierEntries> {
 public:
  using Scalar = float;
  static constexpr std::string_view type_name = "OutlierEntries";

  /// Throws shape_error for more than 2^31 columns or nonzeros.
  explicit OutlierEntries(MatrixView<const float> H) : cols_(H.cols()), begin_(H.rows() + 1) {
    Index count = 0;
    for (Index i = 0; i < H.rows(); ++i)
      for (Index k = 0; k < H.cols(); ++k) count += H(i, k) != 0;
    if (count >= (Index{1} << 31) || cols_ >= (Index{1} << 31))
      throw shape_error(detail::concat("tessera: OutlierEntries of ", detail::shape_text(H.rows(), H.cols()), " with ",
                                       count, " nonzeros; expected less than 2^31 of columns and nonzeros"));
    values_ = Buffer<float>(count, uninitialized);
    columns_ = Buffer<std::int32_t>(count, uninitialized);
    Index at = 0;
    for (Index i = 0; i < H.rows(); ++i) {
      begin_[i] = static_cast<std::int32_t>(at);
      for (Index k = 0; k < H.cols(); ++k)
        if (H(i, k) != 0) {
          values_[at] = H(i, k);
          columns_[at++] = static_cast<std::int32_t>(k);
        }
    }
    begin_[H.rows()] = static_cast<std::int32_t>(at);
  }

  Index rows() const { return begin_.size() - 1; }
  Index cols() const { return cols_; }
  Index nonzeros() const { return values_.size(); }
  std::size_t bytes() const { return values_.bytes() + columns_.bytes() + begin_.bytes(); }
  double flops(Index n) const { return 2.0 * static_cast<double>(nonzeros()) * static_cast<double>(n); }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{values_.begin(), values_.end()});
    f(ByteRange{columns_.begin(), columns_.end()});
    f(ByteRange{begin_.begin(), begin_.end()});
  }

  template <class = void>
  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    if (op == Op::transpose) {  // columns of Y are independent, rows are not
      detail::scale_by(ctx, beta, Y);
      for_each_chunk(ctx, Y.cols(), 8, [&](Context&, Index begin, Index end) {
        for (Index i = 0; i < rows(); ++i)
          for (Index e = begin_[i]; e < begin_[i + 1]; ++e)
            for (Index n = begin; n < end; ++n) Y(columns_[e], n) += alpha * values_[e] * X(i, n);
      });
      return;
    }
    for_each_chunk(ctx, rows(), 256, [&](Context&, Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        for (Index n = 0; n < Y.cols(); ++n) {
          float sum = 0;
          for (Index e = begin_[i]; e < begin_[i + 1]; ++e) sum += values_[e] * X(columns_[e], n);
          Y(i, n) = beta == 0 ? alpha * sum : alpha * sum + beta * Y(i, n);
        }
    });
  }

 private:
  Index cols_;
  Buffer<std::int32_t> begin_, columns_;
  Buffer<float> values_;
};

/// (M,K) of which only some columns are not zero: D (M,S) at `columns`, distinct and in [0, K). 2·M·S flops a column.
class OutlierColumns : public OperatorBase<OutlierColumns> {
 public:
  using Scalar = float;
  static constexpr std::string_view type_name = "OutlierColumns";

  /// Those columns of W (M,K), copied. Throws shape_error.
  OutlierColumns(MatrixView<const float> W, std::vector<Index> columns)
      : rows_(W.rows()), cols_(W.cols()), columns_(std::move(columns)), values_(rows_ * count(), uninitialized) {
    std::vector<char> taken(static_cast<std::size_t>(cols_));
    for (Index s = 0; s < count(); ++s) {
      const Index k = columns_[static_cast<std::size_t>(s)];
      if (k < 0 || k >= cols_ || taken[static_cast<std::size_t>(k)]++)
        throw shape_error(detail::concat("tessera: OutlierColumns of ", detail::shape_text(rows_, cols_), ": column ",
                                         k, "; expected distinct ones from 0 to ", cols_ - 1));
      for (Index i = 0; i < rows_; ++i) values_[i * count() + s] = W(i, k);
    }
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index count() const { return static_cast<Index>(columns_.size()); }
  const std::vector<Index>& columns() const { return columns_; }
  MatrixView<const float> values() const { return {values_.data(), rows_, count()}; }  // (M,S)
  std::size_t bytes() const { return values_.bytes() + columns_.size() * sizeof(Index); }
  double flops(Index n) const { return 2.0 * static_cast<double>(values_.size()) * static_cast<double>(n); }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{values_.begin(), values_.end()});
  }

  template <class = void>
  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    Workspace::Scope scope(ctx.workspace);
    const Index n = X.cols();
    const MatrixView<float> T(scope.take<float>(count() * n), {count(), n}, {1, count()});
    if (op == Op::none) {
      for (Index s = 0; s < count(); ++s)
        for (Index j = 0; j < n; ++j) T(s, j) = X(columns_[static_cast<std::size_t>(s)], j);
      gemm<float>(ctx, alpha, values(), T, beta, Y);
    } else {
      gemm<float>(ctx, alpha, values().transposed(), X, 0.0f, T);
      detail::scale_by(ctx, beta, Y);
      for (Index s = 0; s < count(); ++s)
        for (Index j = 0; j < n; ++j) Y(columns_[static_cast<std::size_t>(s)], j) += T(s, j);
    }
  }

 private:
  Index rows_, cols_;
  std::vector<Index> columns_;
  Buffer<float> values_;  // (M,S)
};

}  // namespace tessera::inline TESSERA_ABI
