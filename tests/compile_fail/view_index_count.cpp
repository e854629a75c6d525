// expect: no match(ing function)? for call to|no matching function for call to object of type
#include <tessera/core/view.hpp>

#ifdef CONTROL
float corner(tessera::View<float, 3> Q) { return Q(0, 0, 0); }
#else
float corner(tessera::View<float, 3> Q) { return Q(0, 0); }
#endif
