// expect: a triangular matrix is symmetric only if it is diagonal
#include <tessera/expr/tagged.hpp>
#include <tessera/matrix/dense.hpp>

int main() {
  const tessera::Dense<float> a(4, 4);
  const auto below = tessera::lower(a);
#ifdef CONTROL
  const auto s = tessera::symmetric(a);
#else
  const auto s = tessera::symmetric(below * below);
#endif
  return static_cast<int>(s.rows() - below.rows());
}
