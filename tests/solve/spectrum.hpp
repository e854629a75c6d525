/// Matrices of a given spectrum, and operators that show nothing but their products.
#pragma once

#include <string>
#include <utility>

#include <Eigen/Dense>
#include <support/forwarding.hpp>
#include <tessera/matrix/any.hpp>
#include <tessera/matrix/detail/thin_qr.hpp>

namespace tessera::test {

inline Eigen::MatrixXd symmetric_with(const Eigen::VectorXd& spectrum) {
  const Index n = spectrum.size();
  const Eigen::MatrixXd Q = detail::thin_qr<double>(Eigen::MatrixXd::Random(n, n)).Q;
  return Q * spectrum.asDiagonal() * Q.transpose();
}

/// exp by scaling and squaring of a long Taylor series.
inline Eigen::MatrixXd dense_exp(const Eigen::MatrixXd& a) {
  Eigen::MatrixXd scaled = a / 64, sum = Eigen::MatrixXd::Identity(a.rows(), a.rows()), term = sum;
  for (int k = 1; k < 30; ++k) sum += term = term * scaled / k;
  for (int i = 0; i < 6; ++i) sum = (sum * sum).eval();
  return sum;
}

/// Any operator, of which nothing is known: what is left are iterations.
template <class S>
struct Hidden : Forwarding<Hidden<S>, AnyOperator<S>> {
  static constexpr bool is_view = true;
  template <LinearOperator A>
  requires(!std::same_as<A, Hidden>) Hidden(A held) : Forwarding<Hidden, AnyOperator<S>>(std::move(held)) {}
  std::string describe() const { return "hidden " + this->a.describe(); }
};

}  // namespace tessera::test
