// expect: ScoresOnlyTheTokensItIsGiven
#include <tessera/kv/scorers/accumulated_attention.hpp>
#include <tessera/kv/scorers/key_norm.hpp>
#include <tessera/kv/stages/chunks.hpp>

using namespace tessera::kv;
#ifdef CONTROL
auto stage = score(chunked(KeyNorm{}, 64)) | by_chunks(8);
#else
auto stage = score(chunked(AccumulatedAttention{}, 64)) | by_chunks(8);
#endif
