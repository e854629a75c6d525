/// Group-sparse quantized matrices: groups of 16 columns, some left out, the rest in 4 bits.
#pragma once

#include <algorithm>
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
#include <tessera/kernels/group_sparse/list.hpp>

namespace tessera::inline TESSERA_ABI {

/// (M,K) in block-compressed rows: of each row the groups that are held, and which columns [16 g, 16 g + 16) they are.
/// At half the groups 3.5 bits a value. Y = W X splits by groups held, not by rows, so that pieces are even however
/// uneven rows are; each row belongs to one piece. Weights are read once for any
/// number of columns, and decoded once for every 8. 2·16·groups flops a column.
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
    for (Index i = 0; good && i < rows(); ++i) good = begin_[i] <= begin_[i + 1];
    for (Index i = 0; good && i < rows(); ++i)
      for (Index e = begin_[i]; good && e < begin_[i + 1]; ++e)
        good = columns_[e] < most && (e == begin_[i] || columns_[e - 1] < columns_[e]);
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

  template <class = void>
  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    constexpr Index size = SparseGroup::size;
    GroupSparseArgs args;
    args.transpose = op == Op::transpose;
    args.rows = rows();
    args.n = X.cols();
    args.padded = (cols_ + size - 1) / size * size;
    args.begin = begin_.data();
    args.columns = columns_.data();
    args.groups = groups_.data();
    args.pieces = pieces_.data();
    args.alpha = alpha;
    args.beta = beta;
    const auto& kernel = GroupSparseKernels::select(ctx, args);
    Workspace::Scope scope(ctx.workspace);
    float* packed = scope.take<float>(args.padded * args.n);
    if (op == Op::transpose) {
      std::fill_n(packed, args.padded * args.n, 0.0f);
      args.X = X;
      args.y = packed;
      launch(ctx, kernel, args, args.n, 4);
      for (Index n = 0; n < args.n; ++n)
        for (Index k = 0; k < cols_; ++k) {
          const float sum = packed[n * args.padded + k];
          Y(k, n) = beta == 0 ? sum : sum + beta * Y(k, n);
        }
      return;
    }
    for (Index n = 0; n < args.n; ++n)
      for (Index k = 0; k < args.padded; ++k) packed[args.at(k, n)] = k < cols_ ? X(k, n) : 0.0f;
    args.x = packed;
    args.Y = Y;
    launch(ctx, kernel, args, static_cast<Index>(pieces_.size()) - 1, 1);
  }

 private:
  Index cols_;
  Buffer<std::int32_t> begin_;
  Buffer<std::uint16_t> columns_;
  Buffer<SparseGroup> groups_;
  std::vector<Index> pieces_;  // first rows
};

}  // namespace tessera::inline TESSERA_ABI
