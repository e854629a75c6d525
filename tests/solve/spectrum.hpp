/// Matrices of a given spectrum.
#pragma once

#include <Eigen/Dense>
#include <tessera/core/view.hpp>

namespace tessera::test {

inline Eigen::MatrixXd symmetric_with(const Eigen::VectorXd& spectrum) {
  const Index n = spectrum.size();
  const Eigen::MatrixXd Q = Eigen::HouseholderQR<Eigen::MatrixXd>(Eigen::MatrixXd::Random(n, n)).householderQ();
  return Q * spectrum.asDiagonal() * Q.transpose();
}

}  // namespace tessera::test
