// expect: ProtectionComesBeforeItsUse
#include <tessera/kv/scorers/key_norm.hpp>
#include <tessera/kv/stages/evict.hpp>
#include <tessera/kv/stages/keep.hpp>
#include <tessera/kv/stages/protect.hpp>

using namespace tessera::kv;
#ifdef CONTROL
auto policy = score(KeyNorm{}) | protect(recent(8)) | keep_protected() | evict();
#else
auto policy = score(KeyNorm{}) | keep_protected() | evict();
#endif
