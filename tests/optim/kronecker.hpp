/// Matrices for the tests of methods with a matrix for each side.
#pragma once

#include <Eigen/Dense>
#include <cmath>
#include <functional>
#include <vector>

#include "optim/laws.hpp"

namespace tessera::optim::kronecker {

using Matrix = Eigen::MatrixXd;
using RowMajor = Eigen::Matrix<double, -1, -1, Eigen::RowMajor>;

constexpr Index rows = 23, cols = 17;

inline RowMajor matrix_of(const std::vector<double>& w, Index m = rows, Index n = cols) {
  return Eigen::Map<const RowMajor>(w.data(), m, n);
}
inline void move(std::vector<double>& w, double rate, const RowMajor& u) {
  for (std::size_t i = 0; i < w.size(); ++i) w[i] -= rate * u.data()[i];
}
inline Matrix inverse_fourth_root(const Matrix& A) {
  const Matrix half = Eigen::SelfAdjointEigenSolver<Matrix>(A).operatorInverseSqrt();
  return Eigen::SelfAdjointEigenSolver<Matrix>(half).operatorSqrt();
}
inline Matrix random_matrix(Index m, Index n, std::uint64_t seed) {
  const auto x = random_buffer<double>(m * n, seed);
  return Eigen::Map<const Matrix>(x.data(), m, n);
}
template <class E>
auto vec(const E& x) {
  return VectorView<const typename E::Scalar>(x.data(), x.size());
}
/// Symmetric, of the eigenvalues that run from 1 down to 1/condition.
inline Matrix spread(Index n, double condition, std::uint64_t seed) {
  const Matrix Q = Eigen::HouseholderQR<Matrix>(random_matrix(n, n, seed)).householderQ();
  Eigen::VectorXd d(n);
  for (Index i = 0; i < n; ++i) d[i] = std::pow(condition, -static_cast<double>(i) / static_cast<double>(n - 1));
  return Q * d.asDiagonal() * Q.transpose();
}

/// What others are compared with: w moves by g at step t, from 1.
using PlainStep = std::function<void(Eigen::Ref<Eigen::VectorXd> w, const Eigen::VectorXd& g, double t)>;
inline PlainStep momentum_step(double rate) {
  return [rate, m = Eigen::VectorXd()](Eigen::Ref<Eigen::VectorXd> w, const Eigen::VectorXd& g, double t) mutable {
    m = t == 1 ? g : Eigen::VectorXd(0.9 * m + g);
    w -= rate * m;
  };
}
inline PlainStep adam_step(double rate) {
  return [rate, m = Eigen::ArrayXd(), v = Eigen::ArrayXd()](Eigen::Ref<Eigen::VectorXd> w, const Eigen::VectorXd& g,
                                                            double t) mutable {
    if (t == 1) m = v = Eigen::ArrayXd::Zero(g.size());
    m = 0.9 * m + 0.1 * g.array();
    v = 0.999 * v + 0.001 * g.array().square();
    const double mu = 1 - std::pow(0.9, t), nu = 1 - std::pow(0.999, t);
    w.array() -= rate * (m / mu) / ((v / nu).sqrt() + 1e-8);
  };
}
/// An optimizer as one.
template <class Opt, class State>
PlainStep step_of(const Opt& opt, State& state, Context& ctx, Index m, Index n) {
  return [=, &state, &ctx](Eigen::Ref<Eigen::VectorXd> w, const Eigen::VectorXd& g, double) {
    Eigen::VectorXd its = g;
    opt.update(ctx, {{"w", MatrixView<double>(its.data(), m, n)}}, state, {{"w", MatrixView<double>(w.data(), m, n)}});
  };
}

}  // namespace tessera::optim::kronecker
