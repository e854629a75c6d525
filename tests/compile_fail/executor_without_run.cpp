// expect: (no matching function for call to|no matching constructor for initialization of).*Context
#include <tessera/core/context.hpp>

struct OneThread {
  tessera::Index concurrency() const { return 1; }
#ifdef CONTROL
  void run(tessera::Index pieces, tessera::Task task) const {
    for (tessera::Index p = 0; p < pieces; ++p) task(p, 0);
  }
#endif
};
tessera::Context ctx{OneThread{}};
