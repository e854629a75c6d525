// expect: blocks must have the same Scalar
#include <tessera/matrix/block_diagonal.hpp>
#include <tessera/matrix/dense.hpp>

int main() { auto b = tessera::block_diagonal(tessera::Dense<float>(1, 1), tessera::Dense<double>(1, 1)); }
