/// What compressed sparse rows do, owned or not.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <string_view>

#include <tessera/expr/expr.hpp>
#include <tessera/kernels/spmm/crossover.hpp>
#include <tessera/kernels/spmm/spmm.hpp>
#include <tessera/matrix/detail/compressed.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// `Derived` has rows(), cols(), row_ptr(), col_idx(), values().
template <class Derived, class T, SparseIndex I>
class CsrOperator : public OperatorBase<Derived> {
 public:
  using Scalar = accum_t<T>;
  using Element = T;
  using IndexType = I;
  static constexpr std::string_view type_name = "Csr";

  Index nnz() const { return static_cast<Index>(derived().values().size()); }

  /// Y (M,N) = alpha * op(A) * X (K,N) + beta * Y. alpha == 0 never reads X. 2 flops a nonzero and column.
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    check_apply(derived(), op, X, Y);
    spmm(ctx, arguments(op, alpha, X, beta, Y));
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    const auto show = [&](auto part) { f(ByteRange{part.data(), part.data() + part.size()}); };
    show(derived().row_ptr());
    show(derived().col_idx());
    show(derived().values());
  }
  std::size_t bytes() const {
    return derived().values().size_bytes() + derived().col_idx().size_bytes() + derived().row_ptr().size_bytes();
  }
  double flops(Index n) const { return 2.0 * static_cast<double>(nnz()) * static_cast<double>(n); }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    const Index m = op == Op::none ? derived().rows() : derived().cols();
    const Index k = op == Op::none ? derived().cols() : derived().rows();
    SpmmKernels::explain(ctx,
                         arguments(op, Scalar(1), MatrixView<const Scalar>(nullptr, {k, n}, {1, k}), Scalar(0),
                                   MatrixView<Scalar>(nullptr, {m, n}, {1, m})),
                         sink);
    if constexpr (std::floating_point<Scalar>) {
      if (nnz() == 0 || n <= 0) return;
      const SpmmCosts costs = spmm_costs<Scalar>();
      const auto outlook = spmm_outlook<Scalar>(costs, op, derived().rows(), derived().cols(), nnz(), n);
      sink("dense", concat("not asked for; would be ", outlook.text(), ", ", costs.source));
    }
  }

  /// The value at (i, j), 0 where none is stored: O(log of the row's nonzeros). Throws shape_error outside the shape.
  Scalar operator()(Index i, Index j) const {
    if (i < 0 || i >= derived().rows() || j < 0 || j >= derived().cols())
      throw shape_error(concat("tessera: entry (", i, ", ", j, ") of (", describe(derived()), ")"));
    const I *first = derived().col_idx().data(), *begin = first + start(i), *end = first + start(i + 1);
    const I* at = std::lower_bound(begin, end, static_cast<I>(j));
    return at != end && *at == static_cast<I>(j) ? value(at - first) : Scalar(0);
  }
  Eigen::VectorX<Scalar> diagonal() const {
    Eigen::VectorX<Scalar> d(std::min(derived().rows(), derived().cols()));
    for (Index i = 0; i < d.size(); ++i) d[i] = (*this)(i, i);
    return d;
  }
  Eigen::MatrixX<Scalar> to_dense() const {
    Eigen::MatrixX<Scalar> dense = Eigen::MatrixX<Scalar>::Zero(derived().rows(), derived().cols());
    for (Index i = 0; i < derived().rows(); ++i)
      for (Index e = start(i); e < start(i + 1); ++e) dense(i, column(e)) = value(e);
    return dense;
  }
  Scalar frobenius_norm() const requires std::floating_point<T> {
    return Eigen::Map<const Eigen::VectorX<T>>(derived().values().data(), nnz()).stableNorm();
  }

  /// Parameters: the values of the nonzeros, row by row.
  Index parameter_count() const requires std::floating_point<Scalar> { return nnz(); }
  /// Of a nonzero (i,j): the sum over n of dY(i,n) X(j,n).
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires std::floating_point<Scalar> {
    check_grad(derived(), X, dY, dparams);
    for_each_chunk(ctx, derived().rows(), 64, [&](Context&, Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        for (Index e = start(i); e < start(i + 1); ++e) {
          Scalar sum = 0;
          for (Index n = 0; n < X.cols(); ++n) sum += dY(i, n) * X(column(e), n);
          Scalar& to = dparams[static_cast<std::size_t>(e)];
          to = beta == Scalar(0) ? sum : beta * to + sum;
        }
    });
  }

 private:
  const Derived& derived() const { return static_cast<const Derived&>(*this); }
  Index start(Index i) const { return static_cast<Index>(derived().row_ptr()[static_cast<std::size_t>(i)]); }
  Index column(Index e) const { return static_cast<Index>(derived().col_idx()[static_cast<std::size_t>(e)]); }
  Scalar value(Index e) const { return static_cast<Scalar>(derived().values()[static_cast<std::size_t>(e)]); }
  SpmmArgs<T, I> arguments(Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    return {{},
            op,
            derived().rows(),
            derived().cols(),
            derived().row_ptr().data(),
            derived().col_idx().data(),
            derived().values().data(),
            alpha,
            beta,
            X,
            Y};
  }
};

}  // namespace tessera::inline TESSERA_ABI::detail
