// Low rank, and sums with it.
#include <tessera/matrix/low_rank.hpp>

#include "meaning.hpp"

using namespace tessera;
Meanings of_low_rank() { return meanings<MEANINGS_OF_LOW_RANK>(); }
