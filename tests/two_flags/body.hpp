// Included by each unit.
#include <ctime>
#include <string>
#include <tessera/core/context.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/simd/isa.hpp>
#include <typeinfo>

#include "unit.hpp"

#define UNIT_TEXT2(name) #name
#define UNIT_TEXT(name) UNIT_TEXT2(name)

namespace {

constexpr tessera::Index size = 192;

/// The kernels of products of (size,size) matrices, and with a vector. What is already compiled here, and no more.
std::string chosen() {
  using namespace tessera;
  const MatrixView<const float> A(nullptr, size, size);
  const auto args = detail::gemm_args<float, float, float>(1.0f, A, A, 0.0f, MatrixView<float>(nullptr, size, size));
  GemvArgs<float, float> vector;
  vector.A = A;
  vector.x = A.col(0);
  vector.y = VectorView<float>(nullptr, size);
  return detail::concat(GemmKernels<float, float, float>::select(Context(), args).name, ' ',
                        GemvKernels<float, float>::select(Context(), vector).name);
}

double product_seconds() {
  using namespace tessera;
  static const Buffer<float> a(size * size), b(size * size);
  static Buffer<float> c(size * size);
  Context ctx;
  const std::clock_t start = std::clock();
  gemm(ctx, 1.0f, MatrixView<const float>(a.data(), size, size), MatrixView<const float>(b.data(), size, size), 0.0f,
       MatrixView<float>(c.data(), size, size));
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

UnitReport report() {
  using namespace tessera;
  UnitReport unit;
  unit.view_type = typeid(MatrixView<const float>).name();
  unit.abi = UNIT_TEXT(TESSERA_ABI);
  unit.function = reinterpret_cast<const void*>(&parse_isa);
  unit.isa = isa_text(active_isa());
  unit.kernels = chosen();
  unit.product_seconds = &product_seconds;
  float x[] = {1, 2, 3, 4};
  float y = 0;
  Context ctx;
  gemm(ctx, 1.0f, MatrixView<const float>(x, 1, 4), MatrixView<const float>(x, 4, 1), 0.0f,
       MatrixView<float>(&y, 1, 1));
  unit.sum = static_cast<double>(y);
  try {
    MatrixView<float>(x, 2, 2).slice(0, 1, 2);
  } catch (const shape_error&) {
    unit.catches = true;
  }
  return unit;
}

}  // namespace
