// expect: EveryLaterStageFindsWhatItNeeds
#include <tessera/kv/mergers/sets.hpp>
#include <tessera/kv/scorers/key_norm.hpp>
#include <tessera/kv/stages/keep.hpp>

using namespace tessera::kv;
#ifdef CONTROL
auto policy = score(KeyNorm{}) | keep(0.5) | merge(MergeSets{});
#else
auto policy = score(KeyNorm{}) | merge(MergeSets{});
#endif
