#include <tessera/instantiate.hpp>
