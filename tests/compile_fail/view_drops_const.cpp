// expect: (no matching function for call to|no matching constructor for initialization of|could not convert|no viable conversion|conversion from).*View
#include <tessera/core/view.hpp>

float scale(tessera::MatrixView<float> Y) { return Y(0, 0) *= 2; }
#ifdef CONTROL
using Element = float;
#else
using Element = const float;
#endif
float call(tessera::MatrixView<Element> X) { return scale(X); }
