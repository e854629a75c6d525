/// Any operator inside Eigen's iterative solvers, matrix-free.
#pragma once

#include <Eigen/Core>
#include <Eigen/SparseCore>
#include <limits>
#include <type_traits>

#include <tessera/expr/expr.hpp>

namespace tessera::inline TESSERA_ABI {
template <LinearOperator A>
class EigenOperator;
}  // namespace tessera::inline TESSERA_ABI

template <class A>
struct Eigen::internal::traits<tessera::EigenOperator<A>>
    : Eigen::internal::traits<Eigen::SparseMatrix<typename A::Scalar>> {};

namespace tessera::inline TESSERA_ABI {

/// An operator as Eigen's solvers want it; refers to A and uses `ctx`:
/// `Eigen::ConjugateGradient<EigenOperator<A>, Eigen::Lower | Eigen::Upper, Eigen::IdentityPreconditioner> cg;
///  const auto E = as_eigen(A); cg.compute(E); x = cg.solve(b);`
template <LinearOperator A>
class EigenOperator : public Eigen::EigenBase<EigenOperator<A>> {
 public:
  using Scalar = scalar_of<A>;
  using RealScalar = Scalar;
  using StorageIndex = int;
  enum {
    ColsAtCompileTime = Eigen::Dynamic,
    RowsAtCompileTime = Eigen::Dynamic,
    MaxColsAtCompileTime = Eigen::Dynamic,
    MaxRowsAtCompileTime = Eigen::Dynamic,
    IsRowMajor = false
  };

  explicit EigenOperator(const A& a, Context& ctx = default_context()) : a_(&a), ctx_(&ctx) {}
  Eigen::Index rows() const { return a_->rows(); }
  Eigen::Index cols() const { return a_->cols(); }

  template <class X>
  Eigen::Product<EigenOperator, X, Eigen::AliasFreeProduct> operator*(const Eigen::MatrixBase<X>& x) const {
    return Eigen::Product<EigenOperator, X, Eigen::AliasFreeProduct>(*this, x.derived());
  }

  /// y += alpha * A * x
  template <class Y, class X>
  void add_product(Y& y, const X& x, Scalar alpha) const {
    if constexpr (EigenDirect<X> && EigenDirect<Y>) {
      a_->apply(*ctx_, Op::none, alpha, view(x), Scalar(1), view(y));
    } else {
      const Eigen::MatrixX<Scalar> from = x;
      Eigen::MatrixX<Scalar> to = y;
      a_->apply(*ctx_, Op::none, alpha, view(from), Scalar(1), view(to));
      y = to;
    }
  }

 private:
  const A* a_;
  Context* ctx_;
};

template <LinearOperator A>
EigenOperator<A> as_eigen(const A& a, Context& ctx = default_context()) {
  return EigenOperator<A>(a, ctx);
}

}  // namespace tessera::inline TESSERA_ABI

template <class A, class X>
struct Eigen::internal::generic_product_impl<tessera::EigenOperator<A>, X, Eigen::SparseShape, Eigen::DenseShape,
                                             Eigen::GemvProduct>
    : Eigen::internal::generic_product_impl_base<
          tessera::EigenOperator<A>, X,
          Eigen::internal::generic_product_impl<tessera::EigenOperator<A>, X, Eigen::SparseShape, Eigen::DenseShape,
                                                Eigen::GemvProduct>> {
  template <class Y>
  static void scaleAndAddTo(Y& y, const tessera::EigenOperator<A>& a, const X& x, const typename A::Scalar& alpha) {
    a.add_product(y, x, alpha);
  }
};
