// expect: (no match for .operator\*|invalid operands to binary expression)
#include <tessera/matrix/dense.hpp>

int main() {
  const tessera::Dense<float> a(2, 2);
  const Eigen::ArrayXf x = Eigen::ArrayXf::Zero(2);
  auto product = a * x;
}
