/// Group-sparse quantized matrices: groups of 16 columns, some left out, the rest in 4 bits.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <tessera/expr/expr.hpp>

namespace tessera::inline TESSERA_ABI {

/// 16 values d * q + m, q in [0, 15]: 12 bytes, and 2 for its column in GroupSparse.
struct SparseGroup {
  static constexpr Index size = 16;
  f16 d, m;
  std::uint8_t qs[8];  // value 2 i in the low half of byte i, 2 i + 1 in the high half
  float value(Index i) const { return float(d) * static_cast<float>((qs[i / 2] >> (i % 2 * 4)) & 15) + float(m); }
};
static_assert(sizeof(SparseGroup) == 12);

/// (M,K) in block-compressed rows: of each row the groups that are held, and which columns [16 g, 16 g + 16) they are.
/// At half the groups 3.5 bits a value. Y = W X splits by groups held, not by rows, so that pieces are even however
/// uneven rows are; each row belongs to one piece. 2·16·groups flops a column.
class GroupSparse : public OperatorBase<GroupSparse> {
 public:
  using Scalar = float;
  static constexpr std::string_view type_name = "GroupSparse";

  /// begin (M + 1): where each row's groups begin; columns: g of each, rising within a row. Throws shape_error.
  GroupSparse(Index cols, Buffer<std::int32_t> begin, Buffer<std::uint16_t> columns, Buffer<SparseGroup> groups)
      : cols_(cols), begin_(std::move(begin)), columns_(std::move(columns)), groups_(std::move(groups)) {
    const Index most = (cols + SparseGroup::size - 1) / SparseGroup::size;
    bool good = begin_.size() > 0 && begin_[0] == 0 && begin_[begin_.size() - 1] == groups_.size() &&
                columns_.size() == groups_.size() && cols >= 0 && most <= 65536;
    for (Index i = 0; good && i < rows(); ++i) {
      good = begin_[i] <= begin_[i + 1];
      for (Index e = begin_[i]; good && e < begin_[i + 1]; ++e)
        good = columns_[e] < most && (e == begin_[i] || columns_[e - 1] < columns_[e]);
    }
    if (!good)
      throw shape_error(detail::concat("tessera: GroupSparse of ", cols, " columns from ", groups_.size(),
                                       " groups: expected rows that begin one after another, and in each rising ",
                                       "columns below ", most));
    constexpr Index each = 4096;  // groups of a piece, 48 kB
    for (Index i = 0; i < rows(); ++i)
      if (pieces_.empty() || begin_[i] - begin_[pieces_.back()] >= each) pieces_.push_back(i);
    pieces_.push_back(rows());
  }

  Index rows() const { return begin_.size() - 1; }
  Index cols() const { return cols_; }
  Index groups() const { return groups_.size(); }
  std::size_t bytes() const { return begin_.bytes() + columns_.bytes() + groups_.bytes(); }
  double flops(Index n) const { return 32.0 * static_cast<double>(groups()) * static_cast<double>(n); }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{begin_.begin(), begin_.end()});
    f(ByteRange{columns_.begin(), columns_.end()});
    f(ByteRange{groups_.begin(), groups_.end()});
  }

  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    check_apply(*this, op, X, Y);
    if (op == Op::transpose) {
      detail::scale_by(ctx, beta, Y);
      for_each_chunk(ctx, Y.cols(), 4, [&](Context&, Index first, Index last) {
        for (Index i = 0; i < rows(); ++i)
          visit(i, [&](Index column, Index count, const std::array<float, 16>& w) {
            for (Index n = first; n < last; ++n)
              for (Index p = 0; p < count; ++p) Y(column + p, n) += alpha * w[static_cast<std::size_t>(p)] * X(i, n);
          });
      });
      return;
    }
    const Index count_of_pieces = static_cast<Index>(pieces_.size()) - 1;
    for_each_chunk(ctx, count_of_pieces, 1, [&](Context& worker, Index piece, Index) {
      Workspace::Scope scope(worker.workspace);
      float* sum = scope.take<float>(X.cols());
      for (Index i = pieces_[static_cast<std::size_t>(piece)]; i < pieces_[static_cast<std::size_t>(piece + 1)]; ++i) {
        std::fill_n(sum, X.cols(), 0.0f);
        visit(i, [&](Index column, Index count, const std::array<float, 16>& w) {
          for (Index n = 0; n < X.cols(); ++n)
            for (Index p = 0; p < count; ++p) sum[n] += w[static_cast<std::size_t>(p)] * X(column + p, n);
        });
        for (Index n = 0; n < X.cols(); ++n) Y(i, n) = beta == 0 ? alpha * sum[n] : alpha * sum[n] + beta * Y(i, n);
      }
    });
  }

 private:
  /// f(first column, columns, their values) for each group of row i.
  template <class F>
  void visit(Index i, F&& f) const {
    std::array<float, 16> w;
    for (Index e = begin_[i]; e < begin_[i + 1]; ++e) {
      const Index column = Index{columns_[e]} * SparseGroup::size;
      for (Index p = 0; p < SparseGroup::size; ++p) w[static_cast<std::size_t>(p)] = groups_[e].value(p);
      f(column, std::min(SparseGroup::size, cols_ - column), w);
    }
  }

  Index cols_;
  Buffer<std::int32_t> begin_;
  Buffer<std::uint16_t> columns_;
  Buffer<SparseGroup> groups_;
  std::vector<Index> pieces_;  // first rows
};

}  // namespace tessera::inline TESSERA_ABI
