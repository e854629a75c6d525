// Units with different -m flags or kernels in one program: they must share neither inline functions nor types, or the
// linker would keep one copy of each, and the plain unit could end up running AVX2 code on a processor that has none.
#include <algorithm>
#include <cstdio>

#include "unit.hpp"

int main() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    std::puts("skipped: this processor has no AVX2 and FMA, for which one of the units is compiled");
    return 77;
  }
  const UnitReport plain = plain_report(), wide = wide_report(), limited = limited_report();
  std::printf("plain: %s %s sum %g\n", plain.abi.c_str(), plain.view_type.c_str(), plain.sum);
  std::printf("wide:  %s %s sum %g\n", wide.abi.c_str(), wide.view_type.c_str(), wide.sum);
  std::printf("limited: %s %s sum %g\n", limited.abi.c_str(), limited.isa.c_str(), limited.sum);
  int failures = 0;
  const auto expect = [&](bool holds, const char* what) {
    if (!holds) std::printf("FAILED: %s\n", what);
    failures += holds ? 0 : 1;
  };
  for (const UnitReport* other : {&wide, &limited}) {
    expect(plain.abi != other->abi, "the inline namespaces differ");
    expect(plain.view_type != other->view_type, "the types differ");
    expect(plain.function != other->function, "each unit has its own inline functions");
  }
  for (const UnitReport* unit : {&plain, &wide, &limited}) {
    expect(unit->sum == 30, "each computes 1² + 2² + 3² + 4²");
    expect(unit->catches, "each catches its own errors");
  }
  expect(limited.isa == "portable", "a limit holds");

  // What runs does not depend on the flags: the same kernels, and so the same class of speed (vectors make tenfold).
  double plain_seconds = 1e9, wide_seconds = 1e9;
  for (int round = 0; round < 20; ++round) {
    plain_seconds = std::min(plain_seconds, plain.product_seconds());
    wide_seconds = std::min(wide_seconds, wide.product_seconds());
  }
  std::printf("kernels: %s; with -mavx2 -mfma: %s; their times: %.2f\n", plain.kernels.c_str(), wide.kernels.c_str(),
              plain_seconds / wide_seconds);
  expect(plain.kernels == wide.kernels, "both choose the same kernels");
  expect(plain_seconds < 4 * wide_seconds, "the plain unit is not slower");
  return failures == 0 ? 0 : 1;
}
