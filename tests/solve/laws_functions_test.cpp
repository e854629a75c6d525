// What pinv, exp and sqrt make where no closed form does is an operator, and keeps the laws.
#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <vector>

#include <support/operator_laws.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/solve/functions.hpp>

#include "solve/spectrum.hpp"

namespace tessera::test {

/// Of what is iterated norms bound the rounding, not entries: each of N numbers within |f(A)||x| times the condition.
template <class Operator>
struct FunctionTruth {
  static Eigen::MatrixXd magnitude(const Operator& f) {
    const Eigen::MatrixXd v = Truth<Operator>::value(f);
    return Eigen::MatrixXd::Constant(v.rows(), v.cols(), v.norm());
  }
  static double roundings(const Operator& f, Op) {
    return Truth<Operator>::growth * 8 * static_cast<double>(f.rows() + f.cols() + 3);
  }
  static double extra(const Operator&, Op, Index, VectorView<const double>) { return 0; }
};
template <>
struct Truth<PseudoInverse<Dense<double>>> : FunctionTruth<PseudoInverse<Dense<double>>> {
  static constexpr double growth = 1e3;  // LSQR loses what the condition, below 30 here, makes of AᵀA
  static Eigen::MatrixXd value(const PseudoInverse<Dense<double>>& P) {
    const Eigen::MatrixXd a = to_dense(P.inner());
    if (a.size() == 0) return a.transpose();
    return a.completeOrthogonalDecomposition().pseudoInverse();
  }
};
template <>
struct Truth<LanczosFunction<Dense<double>>> : FunctionTruth<LanczosFunction<Dense<double>>> {
  static constexpr double growth = 10;
  static Eigen::MatrixXd value(const LanczosFunction<Dense<double>>& F) {
    const Eigen::MatrixXd a = to_dense(F.inner());
    if (a.size() == 0) return a;
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(a);
    return eigen.eigenvectors() * eigen.eigenvalues().unaryExpr(F.function()).asDiagonal() *
           eigen.eigenvectors().transpose();
  }
};
template <>
struct Truth<Exponential<Dense<double>>> : FunctionTruth<Exponential<Dense<double>>> {
  static constexpr double growth = 100;  // terms are larger than their sum
  static Eigen::MatrixXd value(const Exponential<Dense<double>>& E) { return dense_exp(to_dense(E.inner())); }
};

namespace TESSERA_TEST_FILE {

using Eigen::MatrixXd;
using Eigen::VectorXd;
using D = Dense<double>;

/// (M,N) with singular values from 1 to 4, `rank` of them not 0.
MatrixXd with_rank(Index rows, Index cols, Index rank) {
  const auto factor = [&](Index n) { return detail::thin_qr<double>(MatrixXd::Random(n, n)).Q; };
  return factor(rows).leftCols(rank) * VectorXd::LinSpaced(rank, 1, 4).asDiagonal() * factor(cols).topRows(rank);
}

struct PseudoInverseCase {
  using Operator = PseudoInverse<D>;
  static std::vector<Operator> samples() {
    SolveOptions tight;
    tight.tolerance = 1e-15;
    std::vector<Operator> all;
    for (const auto& a : {with_rank(9, 5, 5), with_rank(5, 9, 5), with_rank(8, 8, 8), with_rank(7, 7, 3),
                          MatrixXd(MatrixXd::Zero(3, 2)), MatrixXd(0, 3)})
      all.emplace_back(D(a), tight);
    return all;
  }
};
struct LanczosCase {
  using Operator = LanczosFunction<D>;
  static std::vector<Operator> samples() {
    return {Operator(
                D(symmetric_with(VectorXd::LinSpaced(12, -3, 1))), [](double x) { return std::exp(x); }, "exp", 24),
            Operator(
                D(symmetric_with(VectorXd::LinSpaced(9, 0.25, 9))), [](double x) { return std::sqrt(x); }, "sqrt", 24),
            Operator(
                D(MatrixXd(MatrixXd::Identity(1, 1))), [](double x) { return x; }, "f", 1)};
  }
};
struct ExponentialCase {
  using Operator = Exponential<D>;
  static std::vector<Operator> samples() {
    return {Operator(D(MatrixXd(MatrixXd::Random(11, 11)))), Operator(D(MatrixXd(-3 * MatrixXd::Identity(4, 4)))),
            Operator(D(MatrixXd(MatrixXd::Zero(2, 2)))), Operator(D(MatrixXd(0, 0)))};
  }
};

using Types = ::testing::Types<PseudoInverseCase, LanczosCase, ExponentialCase>;
const bool functions_laws = OperatorLaws<Types>::of("Functions");

}  // namespace
}  // namespace tessera::test
