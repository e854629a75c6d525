// Operators inside Eigen's iterative solvers.
#include <gtest/gtest.h>

#include <Eigen/IterativeLinearSolvers>

#include <tessera/matrix/any.hpp>
#include <tessera/matrix/diagonal.hpp>
#include <tessera/matrix/eigen_adaptor.hpp>
#include <tessera/matrix/low_rank.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

template <class S, class A>
void solve_with(const A& a, bool symmetric) {
  const Eigen::VectorX<S> b = Eigen::VectorX<S>::Random(a.rows());
  const auto E = as_eigen(a);
  Eigen::VectorX<S> x;
  if (symmetric) {
    Eigen::ConjugateGradient<EigenOperator<A>, Eigen::Lower | Eigen::Upper, Eigen::IdentityPreconditioner> solver;
    solver.compute(E);
    x = solver.solve(b);
    EXPECT_EQ(solver.info(), Eigen::Success);
  } else {
    Eigen::BiCGSTAB<EigenOperator<A>, Eigen::IdentityPreconditioner> solver;
    solver.compute(E);
    x = solver.solve(b);
    EXPECT_EQ(solver.info(), Eigen::Success);
  }
  const Eigen::VectorX<S> residual = a * x - b;
  EXPECT_LE(residual.norm(), 100 * std::numeric_limits<S>::epsilon() * b.norm());
}

template <class S>
void run() {
  const Eigen::MatrixX<S> U = Eigen::MatrixX<S>::Random(40, 3);
  const Eigen::VectorX<S> d = Eigen::VectorX<S>::LinSpaced(40, S(2), S(4));
  const auto spd = diagonal(d) + low_rank(U, U);
  solve_with<S>(spd, true);
  solve_with<S>(AnyOperator<S>(spd), true);
  const Eigen::MatrixX<S> V = S(0.1) * Eigen::MatrixX<S>::Random(40, 3);
  solve_with<S>(diagonal(d) + low_rank(U, V), false);
}

TEST(EigenAdaptor, ConjugateGradientAndBicgstab) {
  run<float>();
  run<double>();
}

}  // namespace
}  // namespace tessera::test
