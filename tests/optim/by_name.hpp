/// Every optimizer by its name, in double; named_optimizers_test.cpp compiles them.
#pragma once

#include <string>
#include <tessera/optim/recipe.hpp>
#include <vector>

namespace tessera::inline TESSERA_ABI::optim {
extern template const std::vector<NamedOptimizer<double>>& named_optimizers<double>();
}

namespace tessera::optim {

/// With these hyper-parameters where it has them.
inline AnyOptimizer<double> made(const std::string& name, std::vector<HyperParameter> wanted = {}) {
  const auto has = optimizer_hyper_parameters<double>(name);
  std::erase_if(wanted, [&](const HyperParameter& one) { return !has.contains(one.name); });
  return make_optimizer<double>(name, std::move(wanted));
}

}  // namespace tessera::optim
