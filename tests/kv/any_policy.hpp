/// Policies as one type.
#pragma once

#include <functional>

#include "kv/support.hpp"

namespace tessera::test {

/// Any policy, as one type: what applies policies is compiled once.
struct AnyPolicy {
  std::function<void(const StageContext&)> run;
  static constexpr Facts needs = Facts::none, too_late_after = Facts::none, gives = Facts::effect,
                         ends = Facts::scores | Facts::guards | Facts::selection;
  static constexpr bool preserves_positions = false;
  void operator()(const StageContext& context) const { run(context); }
};
template <KvPolicy P>
AnyPolicy any(const P& policy) {
  return {[chain = kv::detail::as_chain(policy)](const StageContext& context) { chain.run(context); }};
}

}  // namespace tessera::test
