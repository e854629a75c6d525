#include "optim/by_name.hpp"  // whose declaration must come first where tests are compiled together

#include <tessera/optim/by_name.hpp>

namespace tessera::inline TESSERA_ABI::optim {
template const std::vector<NamedOptimizer<double>>& named_optimizers<double>();
}
