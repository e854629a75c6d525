// Dense matrices, of their header alone.
#include <tessera/matrix/dense.hpp>

#include "meaning.hpp"

using namespace tessera;
Meanings of_dense() { return meanings<MEANINGS_OF_DENSE>(); }
