// expect: ScoresComeBeforeTheirUse
#include <tessera/kv/cache.hpp>
#include <tessera/kv/scorers/key_norm.hpp>
#include <tessera/kv/stages/evict.hpp>
#include <tessera/kv/stages/keep.hpp>
#include <tessera/kv/stages/protect.hpp>

using namespace tessera::kv;
void run(tessera::Context& ctx, KvCache<>& cache) {
#ifdef CONTROL
  cache.compress(ctx, score(KeyNorm{}) | protect(top_scores(32)) | keep_protected() | evict());
#else
  cache.compress(ctx, protect(top_scores(32)) | keep_protected() | evict());
#endif
}
