// expect: AnEffectComesBeforeRerotate
#include <tessera/kv/scorers/key_norm.hpp>
#include <tessera/kv/stages/evict.hpp>
#include <tessera/kv/stages/keep.hpp>
#include <tessera/kv/stages/rerotate.hpp>

using namespace tessera::kv;
const tessera::nn::RopeTable<float> table(64, 512);
#ifdef CONTROL
auto policy = score(KeyNorm{}) | keep(0.5) | evict() | rerotate(table);
#else
auto policy = score(KeyNorm{}) | keep(0.5) | rerotate(table) | evict();
#endif
