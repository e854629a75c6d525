/// A product of many factors, in the order that takes the fewest operations.
#pragma once

#include <cmath>
#include <cstdlib>
#include <limits>
#include <span>
#include <string>
#include <type_traits>

#include <tessera/expr/elementwise.hpp>
#include <tessera/expr/operator.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/gemv/gemv.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// alpha * A (M,K) * X (K,N) + beta * Y, A of T.
template <class T>
void dense_apply(Context& ctx, accum_t<T> alpha, MatrixView<const T> A, MatrixView<const accum_t<T>> X, accum_t<T> beta,
                 MatrixView<accum_t<T>> Y) {
  if (Y.cols() == 1) return gemv(ctx, alpha, A, X.col(0), beta, Y.col(0));
  if constexpr (std::same_as<T, accum_t<T>>)
    if (Y.rows() == 1) return gemv(ctx, alpha, X.transposed(), A.row(0), beta, Y.row(0));
  gemm(ctx, alpha, A, X, beta, Y);
}

/// The kernels dense_apply considers for A (M,K) and a column-major X of n columns.
template <class T>
void dense_explain(Context& ctx, MatrixView<const T> A, Index n, const KernelSink& sink) {
  using S = accum_t<T>;
  if (A.empty() || n == 0) return;
  if (n == 1) {
    GemvArgs<T, S> args;
    args.A = A;
    args.x = {nullptr, A.cols()};
    args.y = {nullptr, A.rows()};
    GemvKernels<T, S>::explain(ctx, args, sink);
  } else {
    GemmArgs<T, S, S> args;
    args.A = A;
    args.B = {nullptr, {A.cols(), n}, {1, A.cols()}};
    args.C = {nullptr, {A.rows(), n}, {1, A.rows()}};
    GemmKernels<T, S, S>::explain(ctx, args, sink);
  }
}

#define TESSERA_DETAIL_DENSE(T)                                                                               \
  TESSERA_SHARED(void dense_explain<T>(Context&, MatrixView<const T>, Index, const KernelSink&));             \
  TESSERA_SHARED(void dense_apply<T>(Context&, accum_t<T>, MatrixView<const T>, MatrixView<const accum_t<T>>, \
                                     accum_t<T>, MatrixView<accum_t<T>>))
TESSERA_DETAIL_DENSE(float);
TESSERA_DETAIL_DENSE(double);
TESSERA_DETAIL_DENSE(bf16);
#undef TESSERA_DETAIL_DENSE

/// Scratch for a (rows, cols) result, its short stride where that of `like` is.
template <class S>
MatrixView<S> scratch_like(Workspace::Scope& scope, MatrixView<S> like, Index rows, Index cols) {
  S* data = scope.take<S>(rows * cols);
  if (std::abs(like.row_stride()) <= std::abs(like.col_stride())) return {data, {rows, cols}, {1, rows}};
  return {data, {rows, cols}, {cols, 1}};
}

/// What `explain` asks of a factor.
struct FactorText {
  std::string (*describe)(const void*);
  std::size_t (*bytes)(const void*);
  void (*explain)(const void*, Context&, Op, Index n, const KernelSink&);
};

/// One factor of a product, its type erased: an operator, a dense matrix that is there, or one yet to be evaluated.
template <class S>
struct Factor {
  enum Kind { linear, dense, deferred };
  Kind kind = dense;
  Op op = Op::none;
  Index rows = 0, cols = 0;  // of op(object)
  MatrixView<const S> view;  // (rows, cols), kind dense
  const void* object = nullptr;
  void (*apply)(const void*, Context&, Op, S, MatrixView<const S>, S, MatrixView<S>) = nullptr;  // linear
  void (*evaluate)(const void*, Context&, Op, S, S,
                   MatrixView<S>) = nullptr;  // deferred: Y = alpha*op(object) + beta*Y
  double (*flops)(const void*, Index) = nullptr;
  const FactorText* text = nullptr;  // only while explaining

  double apply_flops(Index n) const {
    return kind == linear ? flops(object, n)
                          : 2.0 * static_cast<double>(rows) * static_cast<double>(cols) * static_cast<double>(n);
  }
};

/// Where to cut a product of `size` factors: the order of a matrix chain with the fewest operations, by dynamic
/// programming over all O(size³) cuts. An operator can be applied to a dense factor from either side, but two operators
/// cannot be multiplied together. Equal costs are cut as far left as possible, so that vectors go first.
template <class S>
class ChainPlan {
 public:
  ChainPlan(Workspace::Scope& scope, std::span<const Factor<S>> factors)
      : factors_(factors),
        n_(static_cast<Index>(factors.size())),
        cost_(scope.take<double>(n_ * n_)),
        cut_(scope.take<Index>(n_ * n_)) {
    for (Index i = 0; i < n_; ++i) cost(i, i) = factor(i).kind == Factor<S>::linear ? infinity : 0.0;
    for (Index length = 2; length <= n_; ++length)
      for (Index i = 0; i + length <= n_; ++i) {
        const Index j = i + length - 1;
        cost(i, j) = infinity;
        cut_[i * n_ + j] = i;
        for (Index k = i; k < j; ++k)
          if (const double c = cost_of_cut(i, k, j); c < cost(i, j)) {
            cost(i, j) = c;
            cut_[i * n_ + j] = k;
          }
      }
  }

  const Factor<S>& factor(Index i) const { return factors_[static_cast<std::size_t>(i)]; }
  Index size() const { return n_; }
  /// Factors i to j are (i to cut) times (cut + 1 to j).
  Index cut(Index i, Index j) const { return cut_[i * n_ + j]; }
  double flops() const { return cost_[n_ - 1]; }

  /// The factors i to j are one operator, to be applied rather than evaluated.
  bool is_operator(Index i, Index j) const { return i == j && factor(i).kind == Factor<S>::linear; }
  /// Operations of the last multiplication of i to j, cut after k.
  double step_flops(Index i, Index k, Index j) const {
    if (k + 1 == j && is_operator(j, j)) return factor(j).apply_flops(factor(i).rows);
    if (k == i) return factor(i).apply_flops(factor(j).cols);
    return 2.0 * static_cast<double>(factor(i).rows) * static_cast<double>(factor(k).cols) *
           static_cast<double>(factor(j).cols);
  }

 private:
  static constexpr double infinity = std::numeric_limits<double>::infinity();
  double& cost(Index i, Index j) { return cost_[i * n_ + j]; }
  double cost_of_cut(Index i, Index k, Index j) {
    const bool left = is_operator(i, k), right = is_operator(k + 1, j);
    if (left && right) return infinity;
    return (left ? 0.0 : cost(i, k)) + (right ? 0.0 : cost(k + 1, j)) + step_flops(i, k, j);
  }

  std::span<const Factor<S>> factors_;
  Index n_;
  double* cost_;
  Index* cut_;
};

/// Y = alpha * (factors i to j) + beta * Y, i < j. Y overlaps nothing that is read.
template <class S>
void run_chain(Context& ctx, const ChainPlan<S>& plan, Index i, Index j, S alpha, S beta, MatrixView<S> Y) {
  const Index k = plan.cut(i, j);
  Workspace::Scope scope(ctx.workspace);
  const auto value = [&](Index from, Index to) -> MatrixView<const S> {
    const auto& first = plan.factor(from);
    if (from == to && first.kind == Factor<S>::dense) return first.view;
    const auto T = scratch_like(scope, Y, first.rows, plan.factor(to).cols);
    if (from == to)
      first.evaluate(first.object, ctx, first.op, S(1), S(0), T);
    else
      run_chain(ctx, plan, from, to, S(1), S(0), T);
    return T;
  };
  if (plan.is_operator(i, k)) {
    const auto& A = plan.factor(i);
    A.apply(A.object, ctx, A.op, alpha, value(k + 1, j), beta, Y);
  } else if (plan.is_operator(k + 1, j)) {  // Y = L * B is Yᵀ = Bᵀ * Lᵀ
    const auto& B = plan.factor(j);
    B.apply(B.object, ctx, flip(B.op), alpha, value(i, k).transposed(), beta, Y.transposed());
  } else {
    const auto L = value(i, k), R = value(k + 1, j);
    dense_apply<S>(ctx, alpha, L, R, beta, Y);
  }
}

/// Y = alpha * (product of factors) + beta * Y.
template <class S>
void run_chain(Context& ctx, std::span<const Factor<S>> factors, S alpha, S beta, MatrixView<S> Y) {
  if (factors.size() == 1) {
    const auto& only = factors[0];
    if (only.kind == Factor<S>::deferred) return only.evaluate(only.object, ctx, only.op, alpha, beta, Y);
    return add_scaled(ctx, alpha, only.view, beta, Y);
  }
  Workspace::Scope scope(ctx.workspace);
  const ChainPlan<S> plan(scope, factors);
  run_chain(ctx, plan, Index{0}, plan.size() - 1, alpha, beta, Y);
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
