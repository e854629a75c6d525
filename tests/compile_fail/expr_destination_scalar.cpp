// expect: (YOU_MIXED_DIFFERENT_NUMERIC_TYPES|destination must have the expression's Scalar)
#include <tessera/matrix/dense.hpp>

int main() {
  const tessera::Dense<float> a(2, 2);
  const Eigen::VectorXf x = Eigen::VectorXf::Zero(2);
  Eigen::VectorXd y = a * x;
}
