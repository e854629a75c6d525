// expect: NoStageComesTooLate
#include <tessera/kv/scorers/key_norm.hpp>
#include <tessera/kv/stages/evict.hpp>
#include <tessera/kv/stages/keep.hpp>
#include <tessera/kv/stages/protect.hpp>

using namespace tessera::kv;
auto policy = score(KeyNorm{}) | keep(0.5) | protect(recent(4)) | evict();
