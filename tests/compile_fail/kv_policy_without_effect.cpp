// expect: ChainEndsWithAnEffect
#include <tessera/kv/cache.hpp>
#include <tessera/kv/scorers/key_norm.hpp>
#include <tessera/kv/stages/keep.hpp>

using namespace tessera::kv;
void run(tessera::Context& ctx, KvCache<>& cache) { cache.compress(ctx, score(KeyNorm{}) | keep(0.5)); }
