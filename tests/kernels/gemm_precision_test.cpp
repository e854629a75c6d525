#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <support/amx_emulator.hpp>
#include <support/oracle.hpp>
#include <tessera/kernels/gemm/precision.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

using Limits = std::numeric_limits<float>;

/// The kernels that split, those this processor has or a test can emulate.
template <class F>
void for_each_split(F&& f) {
  const test::AmxEmulation amx;
  for (const auto& kernel : PreciseGemmKernels::entries<GemmArgs<float, float, float>>()) {
    if (!kernel.name.ends_with("x3") && !kernel.name.ends_with("x6")) continue;
    if (!active_isa().has(kernel.isa)) {
      std::printf("[          ] %s: needs %s\n", std::string(kernel.name).c_str(),
                  std::string(isa_name(kernel.isa)).c_str());
      continue;
    }
    SCOPED_TRACE(std::string(kernel.name));
    Context ctx;
    ctx.force(kernel.name);
    f(ctx, kernel.name.ends_with("x3") ? Precision::bf16x3 : Precision::bf16x6);
  }
}

/// The bound of gemm's docstring, in double; NaN and infinities as exact
/// arithmetic has them, and where terms exceed f32.
void expect_within(Precision precision, float alpha, MatrixView<const float> A, MatrixView<const float> B, float beta,
                   MatrixView<const float> C0, MatrixView<const float> C) {
  const auto k = static_cast<double>(A.cols());
  const double split = precision == Precision::bf16x3 ? std::ldexp(1, -15) + std::ldexp(1, -32)
                                                      : std::ldexp(1, -24) + std::ldexp(1, -34);
  const double unit = split + test::gamma<float>(precision == Precision::bf16x3 ? 3 * k + 6 : 6 * k + 6);
  int shown = 0;
  for (Index i = 0; i < C.rows(); ++i)
    for (Index j = 0; j < C.cols(); ++j) {
      double sum = 0, size = 0;
      for (Index t = 0; t < A.cols(); ++t) {
        sum += double{A(i, t)} * double{B(t, j)};
        size += std::abs(double{A(i, t)} * double{B(t, j)});
      }
      double expected = double{alpha} * sum, bound = std::abs(double{alpha}) * size;
      if (beta != 0) {
        expected += double{beta} * double{C0(i, j)};
        bound += std::abs(double{beta} * double{C0(i, j)});
      }
      const double got = double{C(i, j)};
      const bool within = std::abs(got - expected) <= unit * bound + (k + 1) * double{Limits::denorm_min()};
      const bool good = std::isnan(expected)   ? std::isnan(got)
                        : std::isinf(expected) ? got == expected
                                               : within || (bound > double{Limits::max()} && !std::isfinite(got));
      if (!good) {
        ADD_FAILURE() << "at (" << i << ", " << j << "): " << got << ", expected " << expected << " within "
                      << unit * bound;
        if (++shown == 5) return;
      }
    }
}

struct Operands {
  Index m, n, k;
  Buffer<float> a, b, c;
  Operands(Index rows, Index cols, Index terms)
      : m(rows),
        n(cols),
        k(terms),
        a(test::random_buffer<float>(m * k, 1)),
        b(test::random_buffer<float>(k * n, 2)),
        c(test::random_buffer<float>(m * n, 3)) {}
  /// Factors and result by rows or by columns.
  static MatrixView<float> placed(Buffer<float>& memory, Index rows, Index cols, bool columns) {
    return columns ? MatrixView<float>(memory.data(), {rows, cols}, {1, rows})
                   : MatrixView<float>(memory.data(), rows, cols);
  }
  PrecisionReport check(Context& ctx, Precision precision, int layout = 0, float alpha = 1, float beta = 0) {
    SCOPED_TRACE(detail::concat(m, "x", n, "x", k, " layout ", layout, " alpha ", alpha, " beta ", beta));
    const auto A = placed(a, m, k, layout & 1), B = placed(b, k, n, layout & 2);
    const Buffer<float> before = c;
    Buffer<float> out = c;
    if (beta == 0)
      for (auto& x : out) x = Limits::quiet_NaN();
    const auto C = placed(out, m, n, layout & 4);
    const MatrixView<const float> C0(before.data(), C.extents(), C.strides());
    PrecisionReport report;
    gemm(ctx, alpha, A, B, beta, C, precision, &report);
    expect_within(precision, alpha, A, B, beta, C0, C);
    return report;
  }
};

TEST(GemmPrecision, EverySplitKernelIsWithinItsBound) {
  for_each_split([](Context& ctx, Precision precision) {
    for (Index m : {2, 10, 13, 16, 33, 65})
      for (Index n : {2, 16, 17, 33, 64})
        for (Index k : {1, 2, 31, 32, 35})
          EXPECT_EQ(Operands(m, n, k).check(ctx, precision).tiles_in_f32, 0) << m << ' ' << n << ' ' << k;
    for (int layout = 0; layout < 8; ++layout) {
      Operands(37, 45, 39).check(ctx, precision, layout, -1.5f, 0.75f);
      Operands(18, 70, 66).check(ctx, precision, layout, 1, 1);
    }
    const auto report = Operands(40, 36, 1100).check(ctx, precision);
    EXPECT_EQ(report.kernel, ctx.forced("gemm"));
    Operands(1, 40, 50).check(ctx, precision);
    Operands(40, 1, 50).check(ctx, precision);
    Operands(3, 5, 0).check(ctx, precision, 0, 1, 0.5f);
    Operands(0, 5, 4).check(ctx, precision);
  });
}

// Of every exponent: products that overflow or are subnormal in f32 have the bound of exact arithmetic.
TEST(GemmPrecision, RangesThatCannotBeSplitFallBackTileByTile) {
  struct Case {
    const char* what;
    float a, b;  // what takes the place of one entry of each factor, or scales both
    bool scaled;
    bool in_f32;
  };
  const Case cases[] = {{"large but split", 1e17f, 1e18f, true, false},
                        {"products overflow in sum", 1e20f, 1e18f, true, true},
                        {"a number near the greatest", Limits::max(), 1e-30f, false, true},
                        {"products just normal", 1e-15f, 1e-17f, true, true},
                        {"products subnormal", 1e-20f, 1e-21f, true, true},
                        {"subnormal numbers", 1e-40f, 1.0f, true, true},
                        {"one subnormal number", Limits::denorm_min(), 1.0f, false, true},
                        {"small, partner large", 1e-25f, 1e25f, true, false},
                        {"parts subnormal", 1e-34f, 1e30f, true, true},
                        {"zeros", 0.0f, 0.0f, true, false},
                        {"infinity", Limits::infinity(), 1.0f, false, true},
                        {"infinity and zero", Limits::infinity(), 0.0f, false, true},
                        {"NaN", Limits::quiet_NaN(), -Limits::infinity(), false, true}};
  for_each_split([&](Context& ctx, Precision precision) {
    for (const Case& c : cases) {
      SCOPED_TRACE(c.what);
      Operands x(41, 70, 45);
      if (c.scaled) {
        for (auto& v : x.a) v = std::copysign(std::min(std::abs(v) + 0.5f, 2.0f), v) * c.a;
        for (auto& v : x.b) v = std::copysign(std::min(std::abs(v) + 0.5f, 2.0f), v) * c.b;
      } else {
        x.a[5 * x.k + 7] = c.a;
        x.b[7 * x.n + 40] = c.b;
      }
      const Index in_f32 = x.check(ctx, precision).tiles_in_f32, all = x.check(ctx, precision, 7).tiles_in_f32;
      EXPECT_EQ(in_f32 > 0, c.in_f32) << in_f32;
      EXPECT_EQ(all > 0, c.in_f32);
      EXPECT_LT(in_f32, c.scaled ? 100 : 3 * 5) << "tiles that could be split were not";
    }
  });
}

TEST(GemmPrecision, WorstCasesOfTheSplitAreWithinTheBound) {
  // All ones below the leading bits: the residuals of every part are as large as they can be.
  for_each_split([](Context& ctx, Precision precision) {
    for (const std::uint32_t bits : {0x3f7fffffu, 0x3f808000u, 0x3f807fffu, 0x3f817f80u, 0x3fff7f7fu, 0x3f80ff80u}) {
      Operands x(32, 32, 64);
      float v;
      std::memcpy(&v, &bits, 4);
      for (auto& e : x.a) e = std::copysign(v, e);
      for (auto& e : x.b) e = v;
      x.check(ctx, precision);
    }
  });
}

TEST(GemmPrecision, ResultsDoNotDependOnThreads) {
  for_each_split([](Context& ctx, Precision precision) {
    Operands x(230, 150, 140);
    x.a[100 * x.k] = Limits::denorm_min();
    Buffer<float> one(x.m * x.n), several(x.m * x.n);
    Context threads = Context::with_threads(2);
    threads.force(ctx.forced("gemm"));
    const MatrixView<const float> A(x.a.data(), x.m, x.k), B(x.b.data(), x.k, x.n);
    PrecisionReport of_one, of_several;
    gemm(ctx, 1, A, B, 0, MatrixView<float>(one.data(), x.m, x.n), precision, &of_one);
    gemm(threads, 1, A, B, 0, MatrixView<float>(several.data(), x.m, x.n), precision, &of_several);
    EXPECT_EQ(0, std::memcmp(one.data(), several.data(), one.bytes()));
    EXPECT_GT(of_one.tiles_in_f32, 0);
    EXPECT_EQ(of_one.tiles_in_f32, of_several.tiles_in_f32);
  });
}

TEST(GemmPrecision, IsAPermission) {
  const Index n = 60;
  const auto a = test::random_buffer<float>(n * n, 1), b = test::random_buffer<float>(n * n, 2);
  Buffer<float> exact(n * n), c(n * n);
  const MatrixView<const float> A(a.data(), n, n), B(b.data(), n, n);
  const MatrixView<float> C(c.data(), n, n);
  Context ctx;
  gemm(ctx, 1.0f, A, B, 0.0f, MatrixView<float>(exact.data(), n, n));
  for (const auto precision : {Precision::exact, Precision::bf16x6, Precision::bf16x3}) {
    PrecisionReport report;
    gemm(ctx, 1, A, B, 0, C, precision, &report);
    EXPECT_FALSE(report.kernel.empty());
    EXPECT_TRUE(report.kernel.starts_with("gemm:amx") || std::memcmp(c.data(), exact.data(), c.bytes()) == 0);
  }
  const test::AmxEmulation amx;
  if (!active_isa().has(Isa::amx_bf16)) GTEST_SKIP() << "needs amx_bf16";
  PrecisionReport report;
  gemm(ctx, 1, A, B, 0, C, Precision::exact, &report);
  EXPECT_FALSE(report.kernel.starts_with("gemm:amx"));
  gemm(ctx, 1, A, B, 0, C, Precision::bf16x6, &report);
  EXPECT_EQ(report.kernel, "gemm:amx_bf16x6");
  gemm(ctx, 1, A, B, 0, C, Precision::bf16x3, &report);
  EXPECT_EQ(report.kernel, "gemm:amx_bf16x3");
  ctx.force("gemm:amx_bf16x3");
  EXPECT_THROW(gemm(ctx, 1, A, B, 0, C, Precision::bf16x6), unsupported_error);
}

}  // namespace
}  // namespace tessera
