// expect: an operator and a dense value cannot be added
#include <tessera/matrix/dense.hpp>

int main() {
  const tessera::Dense<float> a(2, 2);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Zero(2, 2);
  auto sum = a * x + a;
}
