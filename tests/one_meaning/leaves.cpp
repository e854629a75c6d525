// Types that refer to no other's rules.
#include <tessera/matrix/banded.hpp>
#include <tessera/matrix/circulant.hpp>
#include <tessera/matrix/diagonal.hpp>
#include <tessera/matrix/hadamard.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/monarch.hpp>
#include <tessera/matrix/permutation.hpp>
#include <tessera/matrix/slice.hpp>

#include "meaning.hpp"

using namespace tessera;
Meanings of_leaves() { return meanings<MEANINGS_OF_LEAVES>(); }
