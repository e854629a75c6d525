// expect: (no viable conversion|conversion from .* to non-scalar type)
#include <tessera/matrix/dense.hpp>

int main() {
  const tessera::Dense<float> a(2, 2);
  Eigen::MatrixXf dense = a;  // a.to_dense() says what it costs
}
