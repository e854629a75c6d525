// expect: this type of matrix never has the property it is tagged with
#include <tessera/expr/tagged.hpp>
#include <tessera/matrix/identity.hpp>

int main() {
  const auto z = tessera::zero<float>(4, 4);
#ifdef CONTROL
  const auto q = tessera::symmetric(z);
#else
  const auto q = tessera::orthogonal(z);
#endif
  return static_cast<int>(q.rows() - z.rows());
}
