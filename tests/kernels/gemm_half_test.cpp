#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <support/amx_emulator.hpp>
#include <support/oracle.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

template <class T>
MatrixView<T> placed(Buffer<T>& memory, Index rows, Index cols, bool by_rows, Index step) {
  const Index line = (by_rows ? cols : rows) * step + 3;
  memory = Buffer<T>((by_rows ? rows : cols) * line + 2);
  return by_rows ? MatrixView<T>(memory.data() + 1, {rows, cols}, {line, step})
                 : MatrixView<T>(memory.data() + 1, {rows, cols}, {step, line});
}

template <class T>
void fill(MatrixView<T> to, std::uint64_t seed) {
  const auto values = test::random_buffer<T>(to.size(), seed);
  for (Index i = 0; i < to.rows(); ++i)
    for (Index j = 0; j < to.cols(); ++j) to(i, j) = values[i * to.cols() + j];
}

/// `layout` chooses one of 8 placements of the three matrices. False if the forced kernel refuses.
template <class TA, class TB>
bool check(Context& ctx, Index m, Index n, Index k, int layout, float alpha, float beta) {
  SCOPED_TRACE(detail::concat(m, "x", n, "x", k, " layout ", layout, ", alpha ", alpha, ", beta ", beta));
  Buffer<TA> a;
  Buffer<TB> b;
  Buffer<float> c, before;
  const auto A = placed(a, m, k, (layout & 1) == 0, layout == 7 ? 2 : 1);
  const auto B = placed(b, k, n, (layout & 2) == 0, layout == 6 ? 3 : 1);
  const auto C = placed(c, m, n, (layout & 4) == 0, layout == 5 ? 2 : 1);
  fill(A, 1);
  fill(B, 2);
  for (auto& x : c) x = std::numeric_limits<float>::quiet_NaN();
  if (beta != 0) fill(C, 3);
  before = c;
  const MatrixView<const float> C0(before.data() + (C.data() - c.data()), C.extents(), C.strides());
  try {
    gemm(ctx, alpha, MatrixView<const TA>(A), MatrixView<const TB>(B), beta, C);
  } catch (const unsupported_error& e) {
    return false;
  }
  test::expect_product(alpha, MatrixView<const TA>(A), MatrixView<const TB>(B), beta, C0, MatrixView<const float>(C));
  return true;
}

template <class A, class B>
struct Pair {
  using TA = A;
  using TB = B;
};
template <class Types>
struct GemmHalf : testing::Test {};
using Types = testing::Types<Pair<bf16, bf16>, Pair<f16, f16>, Pair<bf16, float>, Pair<f16, float>>;
TYPED_TEST_SUITE(GemmHalf, Types);

TYPED_TEST(GemmHalf, EveryKernel) {
  const test::AmxEmulation amx;
  using TA = typename TypeParam::TA;
  using TB = typename TypeParam::TB;
  for (const auto& kernel : GemmKernels<TA, TB, float>::template entries<GemmArgs<TA, TB, float>>()) {
    if (!active_isa().has(kernel.isa)) {
      std::printf("[          ] %s: needs %s\n", std::string(kernel.name).c_str(),
                  std::string(isa_name(kernel.isa)).c_str());
      continue;
    }
    SCOPED_TRACE(std::string(kernel.name));
    Context ctx;
    ctx.force(kernel.name);
    Index taken = 0;
    for (Index m : {1, 6, 7, 15, 29})
      for (Index n : {1, 4, 8, 17, 33})
        for (Index k : {1, 2, 3, 5, 33, 64}) taken += check<TA, TB>(ctx, m, n, k, 2, 1, 0);
    for (int layout = 0; layout < 8; ++layout) {
      taken += check<TA, TB>(ctx, 19, 37, 21, layout, -1.5f, 0.75f);
      taken += check<TA, TB>(ctx, 35, 6, 40, layout, 2, 0);
      taken += check<TA, TB>(ctx, 3, 70, 43, layout, 1, 1);
    }
    taken += check<TA, TB>(ctx, 15, 33, 2100, 2, 1, 0);
    taken += check<TA, TB>(ctx, 301, 16, 33, 2, 1, 1);
    EXPECT_GT(taken, 20);
    Context several = Context::with_threads(2);
    several.force(kernel.name);
    check<TA, TB>(several, 150, 190, 170, 0, 1, 0);
    check<TA, TB>(several, 700, 13, 300, 2, 1, 0);
  }
}

TYPED_TEST(GemmHalf, UnforcedAndEmpty) {
  using TA = typename TypeParam::TA;
  using TB = typename TypeParam::TB;
  Context ctx;
  for (Index m : {0, 1, 9, 40})
    for (Index n : {0, 1, 5, 40})
      for (Index k : {0, 1, 50})
        for (int layout : {0, 2, 5}) check<TA, TB>(ctx, m, n, k, layout, 1, 0.5f);
}

}  // namespace
}  // namespace tessera
