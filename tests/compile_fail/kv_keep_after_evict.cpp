// expect: ScoresComeBeforeTheirUse
#include <tessera/kv/scorers/key_norm.hpp>
#include <tessera/kv/stages/evict.hpp>
#include <tessera/kv/stages/keep.hpp>

using namespace tessera::kv;
#ifdef CONTROL
auto policy = score(KeyNorm{}) | keep(0.5) | keep(0.5) | evict();
#else
auto policy = score(KeyNorm{}) | keep(0.5) | evict() | keep(0.5) | evict();
#endif
