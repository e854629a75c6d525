/// Products with Monarch matrices: two stages of small blocks with the permutations in the strides.
#pragma once

#include <algorithm>
#include <concepts>
#include <type_traits>

#include <tessera/core/op.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/monarch/avx2.hpp>
#include <tessera/kernels/monarch/avx512.hpp>
#include <tessera/kernels/monarch/ref.hpp>
#include <tessera/kernels/monarch/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using MonarchKernels = KernelList<MonarchAvx512, MonarchAvx2, MonarchXsimd, MonarchRef>;
#else
using MonarchKernels = KernelList<MonarchXsimd, MonarchRef>;
#endif

/// C[b] = alpha*A[b]*B[b] + beta*C[b], blocks A of TA (T itself, or bf16 with T float) and any size, any strides. C
/// overlaps neither A nor B nor itself; beta == 0 never reads C, alpha == 0 neither A nor B. Throws shape_error.
/// Blocks that are
/// contiguous neither way go to gemm one by one.
template <class TA, class T>
void block_stage(Context& ctx, T alpha, View<const TA, 3> A, View<const T, 3> B,  // (blocks,M,K), (blocks,K,N)
                 T beta, View<T, 3> C) {                                          // (blocks,M,N)
  const Index blocks = A.extent(0);
  const auto text = [](const auto& v) { return detail::concat(v.extent(0), "x", v.extent(1), "x", v.extent(2)); };
  if (B.extent(0) != blocks || C.extent(0) != blocks || C.extent(1) != A.extent(1) || B.extent(1) != A.extent(2) ||
      C.extent(2) != B.extent(2))
    throw shape_error(detail::concat("tessera: block_stage of (", text(A), ") * (", text(B), ") into (", text(C),
                                     "): expected (blocks,M,K) * (blocks,K,N) into (blocks,M,N)"));
  if (C.empty()) return;
  BlockStageArgs<TA, T> args;
  args.alpha = alpha;
  args.beta = beta;
  args.A = A;
  args.B = B;
  args.C = C;
  const auto& kernel = MonarchKernels::select(ctx, args);
  if (args.k() == 0 || alpha == T(0) || (kernel.name == MonarchRef::name && ctx.forced("monarch").empty())) {
    for_each_chunk(ctx, blocks, 16, [&](Context& worker, Index begin, Index end) {
      for (Index b = begin; b < end; ++b) gemm(worker, alpha, A[b], B[b], beta, C[b]);
    });
    return;
  }
  // Pieces of whole vectors of blocks, for results that run across the blocks.
  const Index work = args.m() * args.n() * args.k();
  const Index grain = std::max<Index>(1, (Index{1} << 15) / std::max<Index>(1, work) / 16 + 1) * 16;
  launch(ctx, kernel, args, blocks, ctx.concurrency() == 1 ? blocks : grain);
}

/// A Monarch matrix (M,N) = (row_blocks*row_size, col_blocks*col_size) of blocks of rank `rank`: entry
/// (s*row_blocks + l, k*col_size + q) is the sum over r of L[l](s, k*rank + r) * R[k](r*row_blocks + l, q).
struct MonarchShape {
  Index row_blocks = 1, row_size = 0, col_blocks = 1, col_size = 0, rank = 1;

  Index rows() const { return row_blocks * row_size; }
  Index cols() const { return col_blocks * col_size; }
  Index middle() const { return col_blocks * rank * row_blocks; }  // of the permutation between the stages
  Index left_size() const { return row_blocks * row_size * col_blocks * rank; }
  Index right_size() const { return col_blocks * col_size * row_blocks * rank; }
  Index parameters() const { return left_size() + right_size(); }

  /// Both stages keep their blocks by columns, so that a product with a vector adds columns.
  template <class TA>
  View<const TA, 3> left(const TA* L) const {  // (row_blocks, row_size, col_blocks*rank)
    const Index k = col_blocks * rank;
    return {L, {row_blocks, row_size, k}, {row_size * k, 1, row_size}};
  }
  template <class TA>
  View<const TA, 3> right(const TA* R) const {  // (col_blocks, rank*row_blocks, col_size)
    const Index m = row_blocks * rank;
    return {R, {col_blocks, m, col_size}, {col_size * m, 1, m}};
  }
  /// X (N,n) as the right stage sees it: (col_blocks, col_size, n); Y (M,n) as the left one: (row_blocks, row_size, n).
  template <class T>
  View<T, 3> in(MatrixView<T> X) const {
    return {X.data(), {col_blocks, col_size, X.cols()}, {col_size * X.row_stride(), X.row_stride(), X.col_stride()}};
  }
  template <class T>
  View<T, 3> out(MatrixView<T> Y) const {
    return {Y.data(), {row_blocks, row_size, Y.cols()}, {Y.row_stride(), row_blocks * Y.row_stride(), Y.col_stride()}};
  }
  /// What is between the stages, (middle, n) row-major, as each of them sees it.
  template <class T>
  View<T, 3> after_right(T* middle, Index n) const {  // (col_blocks, rank*row_blocks, n)
    const Index m = rank * row_blocks;
    return {middle, {col_blocks, m, n}, {m * n, n, 1}};
  }
  template <class T>
  View<T, 3> before_left(T* middle, Index n) const {  // (row_blocks, col_blocks*rank, n)
    return {middle, {row_blocks, col_blocks * rank, n}, {n, row_blocks * n, 1}};
  }
};

namespace detail {
template <class T>
View<T, 3> turned(View<T, 3> v) {
  return {v.data(), {v.extent(0), v.extent(2), v.extent(1)}, {v.stride(0), v.stride(2), v.stride(1)}};
}
/// Columns that pass both stages together. On Zen 3, 64 rather than 32 of them, 1 MiB of 4096 between the stages, gain
/// 5%: blocks come from the third-level cache half as often.
template <class T>
Index monarch_columns(Index middle) {
  constexpr Index panel = 256 / static_cast<Index>(sizeof(T));
  return std::max<Index>(1, (Index{1} << 19) / 256 / std::max<Index>(1, middle)) * panel;
}
}  // namespace detail

namespace detail {
/// Y (M,n) = alpha * op(P L Pᵀ R) * X (N,n) + beta * Y of stages left(op, alpha, B, beta, C) and right alike. Blocks of
/// columns pass both, so that what is between them stays in the second-level cache.
template <class T, class Left, class Right>
void monarch_stages(Context& ctx, Op op, const MonarchShape& shape, Left&& left, Right&& right, T alpha,
                    MatrixView<const T> X, T beta, MatrixView<T> Y) {
  const Index n = X.cols(), most = std::min(n, monarch_columns<T>(shape.middle()));
  if (most == 0) return;
  Workspace::Scope scope(ctx.workspace);
  T* middle = scope.take<T>(shape.middle() * most);
  for (Index j = 0; j < n; j += most) {
    const Index cols = std::min(most, n - j);
    const auto x = X.slice(1, j, cols);
    const auto y = Y.slice(1, j, cols);
    if (op == Op::none) {
      if (alpha != T(0)) right(op, T(1), shape.in(x), T(0), shape.after_right(middle, cols));
      left(op, alpha, shape.template before_left<const T>(middle, cols), beta, shape.out(y));
    } else {
      if (alpha != T(0)) left(op, T(1), shape.out(x), T(0), shape.before_left(middle, cols));
      right(op, alpha, shape.template after_right<const T>(middle, cols), beta, shape.in(y));
    }
  }
}
/// Blocks of numbers as a stage.
template <class TA, class T>
auto stage_of(Context& ctx, View<const TA, 3> blocks) {
  return [&ctx, blocks](Op op, T alpha, View<const T, 3> B, T beta, View<T, 3> C) {
    block_stage<TA, T>(ctx, alpha, op == Op::none ? blocks : turned(blocks), B, beta, C);
  };
}
}  // namespace detail

/// Y (M,n) = alpha * op(P L Pᵀ R) * X (N,n) + beta * Y; L and R as `shape` lays them out. 2*(|L| + |R|)*n flops; each
/// block read once a block of columns. Dao et al., "Monarch: Expressive Structured Matrices for Efficient and Accurate
/// Training" (2022).
template <class TA, class T>
void monarch(Context& ctx, Op op, const MonarchShape& shape, const TA* L, const TA* R, T alpha, MatrixView<const T> X,
             T beta, MatrixView<T> Y) {
  detail::monarch_stages<T>(ctx, op, shape, detail::stage_of<TA, T>(ctx, shape.left(L)),
                            detail::stage_of<TA, T>(ctx, shape.right(R)), alpha, X, beta, Y);
}

}  // namespace tessera::inline TESSERA_ABI
