// expect: could not convert .* from .View<const float|no matching function for call to .scale
#include <tessera/core/view.hpp>

float scale(tessera::MatrixView<float> Y) { return Y(0, 0) *= 2; }
#ifdef CONTROL
using Element = float;
#else
using Element = const float;
#endif
float call(tessera::MatrixView<Element> X) { return scale(X); }
