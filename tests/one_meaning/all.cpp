// The same types where everything is seen.
#include <tessera/tessera.hpp>

#include "meaning.hpp"

using namespace tessera;
Meanings of_all() {
  return meanings<MEANINGS_OF_DENSE, MEANINGS_OF_LEAVES, MEANINGS_OF_LOW_RANK, MEANINGS_OF_COMPOSED>();
}
