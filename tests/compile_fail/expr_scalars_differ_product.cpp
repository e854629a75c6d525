// expect: both operands must have the same Scalar
#include <tessera/matrix/dense.hpp>

int main() {
  const tessera::Dense<float> a(2, 2);
  const Eigen::VectorXd x = Eigen::VectorXd::Zero(2);
  auto product = a * x;
}
