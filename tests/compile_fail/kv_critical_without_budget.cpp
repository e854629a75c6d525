// expect: ASelectionComesBeforeEachEffect
#include <tessera/kv/scorers/key_norm.hpp>
#include <tessera/kv/stages/critical.hpp>
#include <tessera/kv/stages/evict.hpp>

using namespace tessera::kv;
#ifdef CONTROL
auto policy = score(KeyNorm{}) | keep(0.5) | critical({}) | evict();
#else
auto policy = score(KeyNorm{}) | critical({}) | evict();
#endif
