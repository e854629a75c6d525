/// What sparse formats share that can tell their rows as compressed ones: products by the kernels of those, 64 rows at
/// a time, gradients, conversions.
#pragma once

#include <algorithm>
#include <concepts>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include <tessera/kernels/sparse_formats/list.hpp>
#include <tessera/matrix/csr.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// `Derived` has rows(), cols(), values() of all that is stored, `type_name`, `most_nonzeros(begin, end)`, and
/// `decode(begin, end, row_ptr, col_idx, position)`: of rows [begin, end), row_ptr from 0, columns ascending, and where
/// in values() each lies. Entries outside the matrix, padding, are left out. `apply_forward(ctx, alpha, X, beta, Y)`,
/// if there is one that returns true, takes products with A itself, `apply_either(ctx, op, alpha, X, beta, Y)` those
/// with its transpose too. `decode_columns(begin, end, row_ptr, col_idx)`, if there is one, returns where the values of
/// these rows lie in order, or null.
template <class Derived, class T, SparseIndex I = std::int32_t>
class SparseRows : public OperatorBase<Derived> {
 public:
  using Scalar = accum_t<T>;
  using Element = T;
  using IndexType = I;

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    check_apply(derived(), op, X, Y);
    if (Y.empty()) return;
    if (alpha == Scalar(0) || derived().values().empty()) return scale_plainly(ctx, beta, Y);
    if constexpr (requires { derived().apply_either(ctx, op, alpha, X, beta, Y); })
      if (derived().apply_either(ctx, op, alpha, X, beta, Y)) return;
    if constexpr (requires { derived().apply_forward(ctx, alpha, X, beta, Y); })
      if (op == Op::none && derived().apply_forward(ctx, alpha, X, beta, Y)) return;
    if (op == Op::none)
      forward(ctx, alpha, X, beta, Y);
    else if (Y.cols() == 1)
      transposed<1>(ctx, alpha, X, beta, Y);
    else
      transposed<16>(ctx, alpha, X, beta, Y);
  }
  double flops(Index n) const { return 2.0 * static_cast<double>(derived().values().size()) * static_cast<double>(n); }

  Eigen::MatrixX<Scalar> to_dense() const {
    Eigen::MatrixX<Scalar> dense = Eigen::MatrixX<Scalar>::Zero(derived().rows(), derived().cols());
    for_each_entry([&](Index i, Index j, Index at) { dense(i, j) = value(at); });
    return dense;
  }
  Eigen::VectorX<Scalar> diagonal() const {
    Eigen::VectorX<Scalar> d = Eigen::VectorX<Scalar>::Zero(std::min(derived().rows(), derived().cols()));
    for_each_entry([&](Index i, Index j, Index at) {
      if (i == j) d[i] = value(at);
    });
    return d;
  }
  /// As compressed rows, without zeros. O(stored). Throws format_error for more nonzeros than I counts.
  Csr<T, I> to_csr() const {
    Index nnz = 0;
    for_each_entry([&](Index, Index, Index at) { nnz += value(at) != Scalar(0); });
    checked_count<I>("to_csr", nnz);
    Buffer<I> row_ptr(derived().rows() + 1), col_idx(nnz, uninitialized);
    Buffer<T> values(nnz, uninitialized);
    Index to = 0;
    for_each_entry([&](Index i, Index j, Index at) {
      if (value(at) == Scalar(0)) return;
      ++row_ptr[i + 1];
      col_idx[to] = static_cast<I>(j);
      values[to++] = derived().values()[static_cast<std::size_t>(at)];
    });
    for (Index i = 0; i < derived().rows(); ++i) row_ptr[i + 1] += row_ptr[i];
    return {trusted, derived().rows(), derived().cols(), std::move(row_ptr), std::move(col_idx), std::move(values)};
  }

  /// Parameters: all stored values; those of padding have gradient 0.
  Index parameter_count() const requires std::floating_point<Scalar> {
    return static_cast<Index>(derived().values().size());
  }
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires std::floating_point<Scalar> {
    check_grad(derived(), X, dY, dparams);
    for (Scalar& d : dparams) d = beta == Scalar(0) ? Scalar(0) : beta * d;
    for_each_chunk(ctx, derived().rows(), step, [&](Context& worker, Index begin, Index end) {
      Decoded rows(worker, derived(), begin, end);
      for (Index i = begin; i < end; ++i)
        for (Index e = rows.row_ptr[i - begin]; e < rows.row_ptr[i - begin + 1]; ++e) {
          Scalar sum = 0;
          for (Index n = 0; n < X.cols(); ++n) sum += dY(i, n) * X(rows.col_idx[e], n);
          dparams[static_cast<std::size_t>(rows.position[e])] += sum;
        }
    });
  }

 protected:
  static constexpr Index step = 64;

  /// Rows [begin, end) as compressed ones, in a worker's scratch memory.
  struct Decoded {
    Decoded(Context& ctx, const Derived& A, Index begin, Index end, bool places = true) : scope(ctx.workspace) {
      const Index most = A.most_nonzeros(begin, end);
      if (most > static_cast<Index>(std::numeric_limits<I>::max()))
        throw unsupported_error(concat("tessera: (", describe(A), "): ", end - begin, " rows of it hold ", most,
                                       " entries; expected no more than ", 8 * sizeof(I), " bits count"));
      row_ptr = scope.template take<I>(end - begin + 1);
      col_idx = scope.template take<I>(most);
      row_ptr[0] = 0;
      if constexpr (requires { A.decode_columns(begin, end, row_ptr, col_idx); })
        if (!places && (values = A.decode_columns(begin, end, row_ptr, col_idx)) != nullptr) return;
      position = scope.template take<Index>(most);
      A.decode(begin, end, row_ptr, col_idx, position);
      if (places) return;
      T* const copies = scope.template take<T>(row_ptr[end - begin]);
      for (Index e = 0; e < row_ptr[end - begin]; ++e) copies[e] = A.values()[static_cast<std::size_t>(position[e])];
      values = copies;
    }
    Workspace::Scope scope;
    I *row_ptr, *col_idx;
    Index* position = nullptr;  // where each lies in values(), if places are asked for,
    const T* values = nullptr;  // else what lies there
  };

  /// f(i, j, position) of everything stored, row by row.
  template <class F>
  void for_each_entry(F&& f) const {
    for (Index begin = 0; begin < derived().rows(); begin += step) {
      const Index end = std::min(derived().rows(), begin + step);
      const Decoded rows(default_context(), derived(), begin, end);
      for (Index i = begin; i < end; ++i)
        for (Index e = rows.row_ptr[i - begin]; e < rows.row_ptr[i - begin + 1]; ++e)
          f(i, static_cast<Index>(rows.col_idx[e]), rows.position[e]);
    }
  }

 private:
  const Derived& derived() const { return static_cast<const Derived&>(*this); }
  Scalar value(Index at) const { return static_cast<Scalar>(derived().values()[static_cast<std::size_t>(at)]); }

  void forward(Context& ctx, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    using Args = SpmmArgs<T, I>;
    Args args{{}, Op::none, derived().rows(), derived().cols(), nullptr, nullptr, nullptr, alpha, beta, X, Y};
    const auto& kernel = SpmmKernels::select(ctx, args);
    Workspace::Scope scope(ctx.workspace);
    prepare_forward(ctx, scope, args, static_cast<Index>(derived().values().size()));
    args.row_step = step;
    for_each_chunk(ctx, derived().rows(), step, [&](Context& worker, Index begin, Index end) {
      Decoded rows(worker, derived(), begin, end, false);
      Args part = args;
      part.rows = end - begin;
      part.row_ptr = rows.row_ptr;
      part.col_idx = rows.col_idx;
      part.values = rows.values;
      part.Y = Y.slice(0, begin, end - begin);
      if (kernel.scratch != nullptr) {
        part.scratch_bytes = kernel.scratch(part);
        part.scratch = rows.scope.template take<std::byte>(static_cast<Index>(part.scratch_bytes));
      }
      kernel.run(part, {0, 1, 0});
    });
  }
  /// W columns at a time, each from all rows in order: the same sums for any number of threads.
  template <Index W>
  void transposed(Context& ctx, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    const Index cols = derived().cols();
    for_each_chunk(ctx, Y.cols(), W, [&](Context& worker, Index j, Index j_end) {
      Workspace::Scope scope(worker.workspace);
      Scalar* const sums = scope.take<Scalar>(cols * W);
      std::fill_n(sums, cols * W, Scalar(0));
      for (Index begin = 0; begin < derived().rows(); begin += step) {
        const Index end = std::min(derived().rows(), begin + step);
        const Decoded rows(worker, derived(), begin, end);
        for (Index i = begin; i < end; ++i) {
          Scalar x[static_cast<std::size_t>(W)] = {};
          for (Index n = j; n < j_end; ++n) x[n - j] = alpha * X(i, n);
          for (Index e = rows.row_ptr[i - begin]; e < rows.row_ptr[i - begin + 1]; ++e) {
            const Scalar v = value(rows.position[e]);
            Scalar* const to = sums + static_cast<Index>(rows.col_idx[e]) * W;
            for (Index n = 0; n < W; ++n) to[n] += v * x[n];
          }
        }
      }
      for (Index n = j; n < j_end; ++n)
        for (Index c = 0; c < cols; ++c)
          Y(c, n) = beta == Scalar(0) ? sums[c * W + n - j] : sums[c * W + n - j] + beta * Y(c, n);
    });
  }
};

/// X (K,N) in the panels of PanelArgs.
template <class S>
const S* panels_of(Context& ctx, Workspace::Scope& scope, MatrixView<const S> X) {
  constexpr Index panel = PanelArgs<S>::panel, pad = PanelArgs<S>::pad, slack = 128 / static_cast<Index>(sizeof(S));
  const Index before = (X.cols() - 1) / panel * panel;
  const Index size = (before + (X.cols() - before + pad - 1) / pad * pad) * X.rows();
  S* const panels = scope.take<S>(size + slack);
  pack_panels(ctx, X, panel, pad, panels);
  std::fill_n(panels + size, slack, S(0));
  return panels;
}
/// X with contiguous columns: itself, if they are.
template <class S>
MatrixView<const S> columns_of(Context& ctx, Workspace::Scope& scope, MatrixView<const S> X) {
  if (X.row_stride() == 1) return X;
  S* const columns = scope.take<S>(X.size());
  pack_panels(ctx, X, Index{1}, Index{1}, columns);
  return {columns, {X.rows(), X.cols()}, {1, X.rows()}};
}
/// Throws format_error unless sizes are 0 or more and fit the columns of these formats, with room for a block.
template <SparseIndex I = std::int32_t>
void check_sparse_shape(const char* type, Index rows, Index cols) {
  constexpr Index most = static_cast<Index>(std::numeric_limits<I>::max()) - (sizeof(I) == 4 ? 0 : 64);
  if (rows < 0 || cols < 0 || rows >= most || cols >= most)
    throw format_error(concat("tessera: ", type, ' ', shape_text(rows, cols), ": expected sizes from 0 to ", most - 1));
}
template <class... What>
[[noreturn]] void refuse_sparse(const char* type, Index rows, Index cols, const What&... what) {
  throw format_error(concat("tessera: ", type, ' ', shape_text(rows, cols), ": ", what...));
}
template <class E>
std::span<const E> span_of(const Buffer<E>& buffer) {
  return {buffer.data(), static_cast<std::size_t>(buffer.size())};
}
template <class F, class... Buffers>
void show_buffers(F&& f, const Buffers&... buffers) {
  (f(ByteRange{buffers.begin(), buffers.end()}), ...);
}

}  // namespace tessera::inline TESSERA_ABI::detail
