// Included by each unit.
#include <tessera/core/context.hpp>
#include <tessera/core/view.hpp>
#include <tessera/simd/isa.hpp>
#include <typeinfo>
#if __has_include(<tessera/kernels/gemm/gemm.hpp>)
#include <tessera/kernels/gemm/gemm.hpp>
#endif

#include "unit.hpp"

#define UNIT_TEXT2(name) #name
#define UNIT_TEXT(name) UNIT_TEXT2(name)

namespace {

UnitReport report() {
  using namespace tessera;
  UnitReport unit;
  unit.view_type = typeid(MatrixView<const float>).name();
  unit.abi = UNIT_TEXT(TESSERA_ABI);
  unit.function = reinterpret_cast<const void*>(&parse_isa);
  unit.isa = isa_text(active_isa());
  float x[] = {1, 2, 3, 4};
  float y = 0;
#if __has_include(<tessera/kernels/gemm/gemm.hpp>)
  Context ctx;
  gemm(ctx, 1.0f, MatrixView<const float>(x, 1, 4), MatrixView<const float>(x, 4, 1), 0.0f,
       MatrixView<float>(&y, 1, 1));
#else
  for (float value : x) y += value * value;
#endif
  unit.sum = static_cast<double>(y);
  try {
    MatrixView<float>(x, 2, 2).slice(0, 1, 2);
  } catch (const shape_error&) {
    unit.catches = true;
  }
  return unit;
}

}  // namespace
