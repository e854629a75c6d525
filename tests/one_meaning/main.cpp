// What a type knows and what rules make of it does not depend on what else a unit includes: units that see a type's own
// header and one that sees everything agree, or a linker would keep one unit's answer for all.
#include <algorithm>
#include <cstdio>

#include "meaning.hpp"

int main() {
  const Meanings all = of_all();
  std::size_t seen = 0;
  int failures = 0;
  for (const Meanings& unit : {of_dense(), of_leaves(), of_low_rank(), of_composed()})
    for (const Meaning& m : unit) {
      const auto other = std::find_if(all.begin(), all.end(), [&](const Meaning& o) { return o.type == m.type; });
      ++seen;
      if (other != all.end() && *other == m) continue;
      ++failures;
      std::printf("FAILED: %s\n  by its header: forms %u, %s\n", m.type.c_str(), m.forms, m.made.c_str());
      if (other != all.end()) std::printf("  beside others: forms %u, %s\n", other->forms, other->made.c_str());
    }
  std::printf("%zu types, %d differ\n", seen, failures);
  return failures == 0 && seen == all.size() ? 0 : 1;
}
