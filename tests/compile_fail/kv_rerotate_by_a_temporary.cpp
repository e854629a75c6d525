// expect: use of deleted function|call to deleted function
#include <tessera/kv/stages/rerotate.hpp>

using namespace tessera::kv;
#ifdef CONTROL
const tessera::nn::RopeTable<float> table(64, 512);
auto stage = rerotate(table);
#else
auto stage = rerotate(tessera::nn::RopeTable<float>(64, 512));
#endif
