/// Block sparse rows: small dense blocks, where they are.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tessera/matrix/detail/sparse_rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// A sparse (M,N) of R×C blocks. Block e of those that block_ptr gives to block row b begins at row R·b and column
/// C·block_col[e]; its entry (r,c) is values[(e·C + c)·R + r]. What reaches beyond the matrix means nothing. Owns its
/// arrays; 2·R·C flops a block and column. 4×1 and 16×1 are those of H. Shen et al., "An Efficient Sparse Inference
/// Software Accelerator for Transformer-based Language Models on CPUs" (2023).
template <class T, SparseIndex I = std::int32_t>
class Bsr : public detail::SparseRows<Bsr<T, I>, T, I> {
 public:
  Bsr() : Bsr(0, 0, 1, 1, Buffer<I>(1), {}, {}) {}
  /// Throws format_error by the name of the array that is not sound.
  Bsr(Index rows, Index cols, Index block_rows, Index block_cols, Buffer<I> block_ptr, Buffer<I> block_col,
      Buffer<T> values)
      : rows_(rows),
        cols_(cols),
        block_rows_(block_rows),
        block_cols_(block_cols),
        block_ptr_(std::move(block_ptr)),
        block_col_(std::move(block_col)),
        values_(std::move(values)) {
    detail::check_sparse_shape<I>("Bsr", rows, cols);
    if (block_rows < 1 || block_cols < 1 || block_rows > 64 || block_cols > 64)
      detail::refuse_sparse("Bsr", rows, cols, "blocks of ", detail::shape_text(block_rows, block_cols),
                            "; expected 1x1 to 64x64");
    if (values_.size() != block_col_.size() * block_rows * block_cols)
      detail::refuse_sparse("Bsr", rows, cols, "values has ", values_.size(), " entries for ", block_col_.size(),
                            " blocks of ", detail::shape_text(block_rows, block_cols));
    const Index down = (rows + block_rows - 1) / block_rows, across = (cols + block_cols - 1) / block_cols;
    detail::check_compressed<I>({"Bsr of blocks", "block_ptr", "block_col", "block row"}, down, across, down, across,
                                this->block_ptr(), this->block_col(), static_cast<std::size_t>(block_col_.size()));
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index block_rows() const { return block_rows_; }
  Index block_cols() const { return block_cols_; }
  std::span<const I> block_ptr() const { return detail::span_of(block_ptr_); }
  std::span<const I> block_col() const { return detail::span_of(block_col_); }
  std::span<const T> values() const { return detail::span_of(values_); }
  std::span<T> parameters() requires std::floating_point<T> { return values_; }
  std::size_t bytes() const { return block_ptr_.bytes() + block_col_.bytes() + values_.bytes(); }
  std::string describe() const {
    return detail::concat("Bsr<", block_rows_, 'x', block_cols_, "> ", detail::shape_text(rows_, cols_));
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    detail::show_buffers(f, block_ptr_, block_col_, values_);
  }

  bool apply_forward(Context& ctx, accum_t<T> alpha, MatrixView<const accum_t<T>> X, accum_t<T> beta,
                     MatrixView<accum_t<T>> Y) const {
    BsrArgs<T, I> args;
    Workspace::Scope scope(ctx.workspace);
    fill(args, alpha, beta, Y);
    args.panels = detail::panels_of(ctx, scope, X);
    launch(ctx, BsrKernels::select(ctx, args), args, block_ptr_.size() - 1, std::max<Index>(1, 256 / block_rows_));
    return true;
  }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    BsrArgs<T, I> args;
    fill(args, 1, 0, MatrixView<accum_t<T>>(nullptr, {rows_, n}, {1, rows_}));
    if (op == Op::none) BsrKernels::explain(ctx, args, sink);
  }
  Index most_nonzeros(Index begin, Index end) const {
    const Index blocks = block_ptr_[(end - 1) / block_rows_ + 1] - block_ptr_[begin / block_rows_];
    return blocks * block_cols_ * std::min(end - begin, block_rows_);
  }
  void decode(Index begin, Index end, I* row_ptr, I* col_idx, Index* position) const {
    I to = 0;
    for (Index i = begin; i < end; ++i) {
      const Index b = i / block_rows_, r = i % block_rows_;
      for (Index e = block_ptr_[b]; e < block_ptr_[b + 1]; ++e)
        for (Index c = 0; c < block_cols_ && block_col_[e] * block_cols_ + c < cols_; ++c) {
          position[to] = (e * block_cols_ + c) * block_rows_ + r;
          col_idx[to++] = static_cast<I>(block_col_[e] * block_cols_ + c);
        }
      row_ptr[i - begin + 1] = to;
    }
  }

 private:
  void fill(BsrArgs<T, I>& args, accum_t<T> alpha, accum_t<T> beta, MatrixView<accum_t<T>> Y) const {
    args.rows = rows_;
    args.cols = cols_;
    args.alpha = alpha;
    args.beta = beta;
    args.Y = Y;
    args.block_rows = block_rows_;
    args.block_cols = block_cols_;
    args.block_ptr = block_ptr_.data();
    args.block_col = block_col_.data();
    args.values = values_.data();
  }
  Index rows_, cols_, block_rows_, block_cols_;
  Buffer<I> block_ptr_, block_col_;
  Buffer<T> values_;
};

/// All blocks with a nonzero, zeros filled in. Throws format_error for sizes of blocks that are not 1 to 64.
template <class T, class I>
Bsr<T, I> bsr_from_csr(const Csr<T, I>& A, Index block_rows, Index block_cols) {
  detail::check_sparse_shape<I>("Bsr", A.rows(), A.cols());
  if (block_rows < 1 || block_cols < 1 || block_rows > 64 || block_cols > 64)
    detail::refuse_sparse("Bsr", A.rows(), A.cols(), "blocks of ", detail::shape_text(block_rows, block_cols),
                          "; expected 1x1 to 64x64");
  const Index down = (A.rows() + block_rows - 1) / block_rows, across = (A.cols() + block_cols - 1) / block_cols;
  const I *row_ptr = A.row_ptr().data(), *col_idx = A.col_idx().data();
  Buffer<I> block_ptr(down + 1);
  std::vector<I> block_col;
  std::vector<T> values;
  for (Index b = 0; b < down; ++b) {
    const Index first = b * block_rows, rows = std::min(block_rows, A.rows() - first);
    Index next[64];  // of each row the first entry that no block has yet
    for (Index r = 0; r < rows; ++r) next[r] = static_cast<Index>(row_ptr[first + r]);
    for (;;) {
      Index block = across;
      for (Index r = 0; r < rows; ++r)
        if (next[r] < row_ptr[first + r + 1]) block = std::min<Index>(block, col_idx[next[r]] / block_cols);
      if (block == across) break;
      block_col.push_back(static_cast<I>(block));
      const auto at = static_cast<Index>(values.size());
      values.resize(values.size() + static_cast<std::size_t>(block_rows * block_cols), T(0));
      for (Index r = 0; r < rows; ++r)
        for (; next[r] < row_ptr[first + r + 1] && col_idx[next[r]] / block_cols == block; ++next[r])
          values[static_cast<std::size_t>(at + col_idx[next[r]] % block_cols * block_rows + r)] =
              A.values().data()[next[r]];
    }
    block_ptr[b + 1] = detail::checked_count<I>("bsr_from_csr", static_cast<Index>(block_col.size()));
  }
  Buffer<I> cols(static_cast<Index>(block_col.size()), uninitialized);
  Buffer<T> all(static_cast<Index>(values.size()), uninitialized);
  std::copy(block_col.begin(), block_col.end(), cols.begin());
  std::copy(values.begin(), values.end(), all.begin());
  return {A.rows(), A.cols(), block_rows, block_cols, std::move(block_ptr), std::move(cols), std::move(all)};
}

}  // namespace tessera::inline TESSERA_ABI
