/// Operators that hand on to another what every operator has, and no more: an AnyOperator of the other itself would
/// take in its gradient and all its closed forms.
#pragma once

#include <string>
#include <utility>

#include <tessera/matrix/any.hpp>

namespace tessera::test {

/// Base of them; `a` is the other.
template <class Self, class A>
struct Forwarding : OperatorBase<Self> {
  using Scalar = scalar_of<A>;
  A a;
  explicit Forwarding(A held) : a(std::move(held)) {}
  Index rows() const { return a.rows(); }
  Index cols() const { return a.cols(); }
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    a.apply(ctx, op, alpha, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    a.for_each_buffer(f);
  }
  std::string describe() const { return tessera::describe(a); }
};

}  // namespace tessera::test
