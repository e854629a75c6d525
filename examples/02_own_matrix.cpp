// A matrix type of one's own: rows(), cols(), apply and for_each_buffer make it an operator like any other. Its test is
// six lines that inherit the laws of all types: tests/matrix/laws_own_matrix_test.cpp.
#include <Eigen/IterativeLinearSolvers>
#include <cstdio>

#include <tessera/matrix/eigen_adaptor.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/solve/solve.hpp>

#include "second_difference.hpp"

int main() {
  const tessera::Index n = 100;
  const SecondDifference A(n);
  const Eigen::VectorXd b = Eigen::VectorXd::LinSpaced(n, -1, 1);

  // In expressions, with every other operator and Eigen.
  const Eigen::VectorXd smooth = b - 0.25 * (A * b);
  const Eigen::VectorXd sharp = (tessera::identity<double>(n) + 0.25 * A) * b;
  if (!(smooth + sharp).isApprox(2 * b)) return 1;

  // In Eigen's iterative solvers, without a matrix.
  Eigen::ConjugateGradient<tessera::EigenOperator<SecondDifference>, Eigen::Lower | Eigen::Upper,
                           Eigen::IdentityPreconditioner>
      cg;
  const auto matrix_free = tessera::as_eigen(A);
  cg.compute(matrix_free);
  const Eigen::VectorXd x = cg.solve(b);
  const Eigen::VectorXd residual = A * x - b;
  std::printf("solved %s in %d steps, residual %.1e\n", tessera::describe(A).c_str(), static_cast<int>(cg.iterations()),
              residual.norm());
  if (residual.norm() > 1e-9) return 1;

  // In the functions of this library, which go by what the type says of itself.
  const auto solution = tessera::solve(A, b);
  std::printf("%sand %s needed %d products\n", tessera::explain_solve(A).text().c_str(), solution.status.method,
              static_cast<int>(solution.status.iterations));
  return solution.status.converged && solution.x.isApprox(x, 1e-6) ? 0 : 1;
}
