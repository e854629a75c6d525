// expect: both operands must have the same Scalar
#include <tessera/matrix/dense.hpp>

int main() {
  const tessera::Dense<float> a(2, 2);
  const tessera::Dense<double> b(2, 2);
  auto sum = a + b;
}
