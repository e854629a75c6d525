// expect: (constraint failure|constraints not satisfied|does not satisfy)
#include <tessera/matrix/dense.hpp>

int main() { const tessera::Dense<int> a(2, 2); }
