// expect: NoStageComesTooLate
#include <tessera/kv/scorers/key_norm.hpp>
#include <tessera/kv/stages/blend.hpp>
#include <tessera/kv/stages/evict.hpp>
#include <tessera/kv/stages/keep.hpp>

using namespace tessera::kv;
#ifdef CONTROL
auto policy = score(KeyNorm{}) | blend(weighted(1, KeyNorm{})) | keep(0.5) | evict();
#else
auto policy = score(KeyNorm{}) | keep(0.5) | blend(weighted(1, KeyNorm{})) | evict();
#endif
