#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <kernels/gemm_epilogue_suite.hpp>
#include <limits>
#include <string>

namespace tessera {
namespace TESSERA_TEST_FILE {

using namespace epilogue;
using namespace test;

double gelu_of(double x) { return 0.5 * x * std::erfc(-x * std::sqrt(0.5)); }

template <class TA, class TB, class T>
Index check(Context& ctx, Index m, Index n, Index k, Order a, Order b, Order c) {
  SCOPED_TRACE(tessera::detail::concat(m, "x", n, "x", k, " orders ", int(a), int(b), int(c)));
  const Numbers<TA> A(m, k, 1, a);
  const Numbers<TB> B(k, n, 2, b);
  const Numbers<T> R(m, n, 3, a), by_row(1, m, 4), by_column(1, n, 5, Order::spread);
  Numbers<T> C(m, n, 6, c);
  const Numbers<T> before = C;
  for (auto& x : C.memory) x = std::numeric_limits<T>::quiet_NaN();
  try {
    gemm(ctx, T(0.5), A.get(), B.get(), T(0), C.view,
         bias_per_column(vector_of(by_column)) | scale(T(0.0625)) | gelu() | residual(R.get(), T(2)) |
             scale_per_row(vector_of(by_row)));
  } catch (const unsupported_error&) {
    return 0;  // a kernel of few rows or columns
  }
  const double eps = 64 * static_cast<double>(std::numeric_limits<T>::epsilon());
  Index left = C.memory.size();
  for (const auto x : C.memory) left -= std::isnan(static_cast<double>(x)) ? 1 : 0;
  EXPECT_EQ(left, m * n) << "wrote outside C, or not all of it";
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      double sum = 0;
      for (Index t = 0; t < k; ++t) sum += static_cast<double>(A.view(i, t)) * static_cast<double>(B.view(t, j));
      const double x = gelu_of((0.5 * sum + static_cast<double>(by_column.view(0, j))) * 0.0625);
      const double expected = (x + 2 * static_cast<double>(R.view(i, j))) * static_cast<double>(by_row.view(0, i));
      EXPECT_NEAR(static_cast<double>(C.view(i, j)), expected, eps * (1 + 4 * std::abs(x) + std::abs(expected)))
          << i << ", " << j;
      if (testing::Test::HasNonfatalFailure()) return 1;
    }
  // Exactly, over the old C.
  C.memory = before.memory;
  C.view = MatrixView<T>(C.memory.data() + 1, before.view.extents(), before.view.strides());
  gemm(ctx, T(1), A.get(), B.get(), T(2), C.view,
       bias_per_row(vector_of(by_row)) | scale_per_column(vector_of(by_column)) | relu() | clamp(T(1), T(20)));
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      double x = 2 * static_cast<double>(before.view(i, j)) + static_cast<double>(by_row.view(0, i));
      for (Index t = 0; t < k; ++t) x += static_cast<double>(A.view(i, t)) * static_cast<double>(B.view(t, j));
      x = std::min(std::max(x * static_cast<double>(by_column.view(0, j)), 1.0), 20.0);
      EXPECT_EQ(static_cast<double>(C.view(i, j)), x) << i << ", " << j;
      if (testing::Test::HasNonfatalFailure()) return 1;
    }
  return 1;
}

template <class A, class B, class C>
struct Types {
  using TA = A;
  using TB = B;
  using T = C;
};
template <class T>
struct GemmEpilogue : testing::Test {};
using All = testing::Types<Types<float, float, float>, Types<double, double, double>>;
TYPED_TEST_SUITE(GemmEpilogue, All);

TYPED_TEST(GemmEpilogue, EveryKernelAndLayout) {
  using TA = typename TypeParam::TA;
  using TB = typename TypeParam::TB;
  using T = typename TypeParam::T;
  for_each_kernel<TA, TB, T>([](Context& ctx) {
    Index taken = 0;
    for (const auto [m, n, k] : {std::array<Index, 3>{1, 1, 1}, {13, 33, 5}, {29, 17, 64}, {300, 3, 70}, {5, 120, 40}})
      for (const auto c : {Order::rows, Order::columns, Order::spread}) {
        taken += check<TA, TB, T>(ctx, m, n, k, Order::rows, Order::columns, c);
        if (k == 5) taken += check<TA, TB, T>(ctx, m, n, k, Order::columns, Order::rows, c);
      }
    taken += check<TA, TB, T>(ctx, 15, 17, 1030, Order::rows, Order::rows, Order::rows);
    taken += check<TA, TB, T>(ctx, 310, 70, 101, Order::rows, Order::rows, Order::columns);
    taken += check<TA, TB, T>(ctx, 3, 2100, 9, Order::rows, Order::rows, Order::rows);
    EXPECT_GT(taken, 0);
  });
}

TEST(GemmEpilogueEdges, NothingToSumAndEmpty) {
  Context ctx;
  Buffer<float> c(6, uninitialized), b(3);
  for (Index j = 0; j < 3; ++j) b[j] = static_cast<float>(j) - 1;
  for (auto& x : c) x = std::numeric_limits<float>::quiet_NaN();
  const MatrixView<float> C(c.data(), 2, 3);
  const auto steps = bias_per_column(VectorView<const float>(b.data(), 3)) | silu();
  gemm(ctx, 1.0f, MatrixView<const float>(nullptr, 2, 0), MatrixView<const float>(nullptr, 0, 3), 0.0f, C, steps);
  for (Index j = 0; j < 3; ++j) {
    const double x = static_cast<double>(b[j]);
    EXPECT_NEAR(static_cast<double>(C(1, j)), x / (1 + std::exp(-x)), 1e-6);
  }
  gemm(ctx, 1.0f, MatrixView<const float>(nullptr, 0, 2), MatrixView<const float>(c.data(), 2, 3), 0.0f,
       MatrixView<float>(nullptr, 0, 3), steps);
  try {
    gemm(ctx, 1.0f, MatrixView<const float>(c.data(), 2, 3), MatrixView<const float>(c.data(), 3, 2), 0.0f,
         MatrixView<float>(b.data(), {2, 2}, {0, 0}), steps);
    FAIL() << "no exception";
  } catch (const shape_error& e) {
    EXPECT_STREQ(e.what(), "tessera: epilogue bias of 3 entries for a product of 2 columns; expected one each");
  }
}

TEST(GemmEpilogueEdges, ActivationsAreThoseOfMath) {
  Context ctx;
  constexpr Index n = 200;
  Buffer<double> x(n), y(n);
  for (Index i = 0; i < n; ++i) x[i] = static_cast<double>(i - 100) / 16;
  x[0] = std::numeric_limits<double>::quiet_NaN();
  const double one = 1;
  const auto run = [&](const auto& step) {
    gemm(ctx, 1.0, MatrixView<const double>(&one, 1, 1), MatrixView<const double>(x.data(), 1, n), 0.0,
         MatrixView<double>(y.data(), 1, n), step);
  };
  const auto expect = [&](auto f) {
    EXPECT_TRUE(std::isnan(y[0]));
    for (Index i = 1; i < n; ++i) EXPECT_NEAR(y[i], f(x[i]), 1e-14 * (1 + std::abs(x[i]))) << x[i];
  };
  run(relu());
  expect([](double v) { return std::max(v, 0.0); });
  run(gelu_tanh());
  expect([](double v) { return 0.5 * v * (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v))); });
  run(silu());
  expect([](double v) { return v / (1 + std::exp(-v)); });
  run(elementwise([](const auto& v) { return v * v; }));
  expect([](double v) { return v * v; });
}

TEST(GemmEpilogueEdges, ResidualOfTheDestination) {
  Context ctx;
  const Numbers<float> A(4, 5, 1), B(5, 6, 2);
  Buffer<float> x(100);
  const auto at = [&](Index first, Index rs, Index cs) {
    return MatrixView<float>(x.data() + first, {4, 6}, {rs, cs});
  };
  const auto message = [&](const auto& run) -> std::string {
    try {
      run();
    } catch (const unsupported_error& e) {
      return e.what();
    }
    return "";
  };
  const auto refused = [&](MatrixView<float> C, MatrixView<float> R) {
    return message([&] { gemm(ctx, 1.0f, A.get(), B.get(), 0.0f, C, relu() | (scale(2.0f) | residual(R))); });
  };
  EXPECT_EQ(refused(at(0, 6, 1), at(0, 6, 1)),
            "tessera: epilogue residual (4x6) has entries in the destination (4x6), which holds the product meanwhile; "
            "gemm's beta adds the destination itself");
  EXPECT_EQ(refused(at(0, 6, 1), at(6, 6, 1)),
            "tessera: epilogue residual (4x6) has entries in the destination (4x6) at other places");
  EXPECT_NE(refused(at(0, 12, 1), at(41, 12, 1)), "");
  EXPECT_NE(refused(at(0, 12, 1), at(5, 12, 1)), "");
  EXPECT_NE(refused(at(0, 6, 1), at(0, 1, 4)), "");
  EXPECT_EQ(refused(at(0, 12, 1), at(6, 12, 1)), "") << "halves of wide rows have nothing in common";
  EXPECT_EQ(refused(at(0, 1, 8), at(4, 1, 8)), "");
  EXPECT_EQ(refused(at(0, 6, 1), at(24, 6, 1)), "");
  const PackedFactor<float> P(ctx, B.get());
  EXPECT_NE(message([&] { gemm(ctx, 1.0f, A.get(), P, 0.0f, at(0, 6, 1), residual(at(0, 6, 1))); }), "");
  const auto to = [&](MatrixView<float> R) {
    return message([&] { gemm_to(ctx, 1.0f, A.get(), B.get(), residual(R), at(0, 6, 1)); });
  };
  for (auto& v : x) v = 1;
  EXPECT_EQ(to(at(0, 6, 1)), "");
  float expected = 1;
  for (Index t = 0; t < 5; ++t) expected += A.view(3, t) * B.view(t, 5);
  EXPECT_EQ(x[23], expected);
  EXPECT_NE(to(at(1, 6, 1)), "");
}

TEST(GemmEpilogueEdges, PackedFactor) {
  Context ctx = Context::with_threads(2);
  const Numbers<float> A(90, 600, 1), B(600, 130, 2), b(1, 130, 3);
  Numbers<float> C(90, 130, 4), D(90, 130, 4);
  const auto steps = bias_per_column(vector_of(b)) | gelu();
  gemm(ctx, 1.0f, A.get(), B.get(), 0.0f, C.view, steps);
  gemm(ctx, 1.0f, A.get(), PackedFactor<float>(ctx, B.get()), 0.0f, D.view, steps);
  EXPECT_EQ(0, std::memcmp(C.memory.data(), D.memory.data(), C.memory.bytes()));
}

}  // namespace
}  // namespace tessera
