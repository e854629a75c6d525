// Types of parts, whose rules are those of the parts.
#include <tessera/matrix/block_diagonal.hpp>
#include <tessera/matrix/kronecker_sum.hpp>

#include "meaning.hpp"

using namespace tessera;
Meanings of_composed() { return meanings<MEANINGS_OF_COMPOSED>(); }
