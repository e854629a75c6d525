// Two units with different -m flags in one program: they must share neither inline functions nor types, or the linker
// would keep one copy of each, and the plain unit could end up running AVX2 code on a processor that has none.
#include <cstdio>

#include "unit.hpp"

int main() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    std::puts("skipped: this processor has no AVX2 and FMA, for which one of the units is compiled");
    return 77;
  }
  const UnitReport plain = plain_report(), wide = wide_report();
  std::printf("plain: %s %s sum %g\n", plain.abi.c_str(), plain.view_type.c_str(), plain.sum);
  std::printf("wide:  %s %s sum %g\n", wide.abi.c_str(), wide.view_type.c_str(), wide.sum);
  int failures = 0;
  const auto expect = [&](bool holds, const char* what) {
    if (!holds) std::printf("FAILED: %s\n", what);
    failures += holds ? 0 : 1;
  };
  expect(plain.abi != wide.abi, "the inline namespaces differ");
  expect(plain.view_type != wide.view_type, "the types differ");
  expect(plain.function != wide.function, "each unit has its own inline functions");
  expect(plain.sum == 30 && wide.sum == 30, "both compute 1² + 2² + 3² + 4²");
  expect(plain.catches && wide.catches, "each unit catches its own errors");
  return failures == 0 ? 0 : 1;
}
