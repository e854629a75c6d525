// expect: template constraint failure for .*View|constraints not satisfied for class template .View
#include <tessera/core/view.hpp>

#ifdef CONTROL
constexpr int rank = 4;
#else
constexpr int rank = 5;
#endif
tessera::View<float, rank> view;
