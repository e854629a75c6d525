// expect: (no matching function for call to .view|no matching function)
#include <tessera/matrix/dense.hpp>

int main() { auto dangling = tessera::view(Eigen::MatrixXf(2, 2)); }
