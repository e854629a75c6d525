// What does not depend on the format, over a few of them; qgemm_formats_test.cpp has every kernel of every format.
#include <limits>

#include "kernels/qgemm_suite.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using namespace test;

template <class F>
class Qgemm : public ::testing::Test {};
using Formats = ::testing::Types<Q8_0, Q4_1, Q2_K>;
TYPED_TEST_SUITE(Qgemm, Formats, FormatNames);

TYPED_TEST(Qgemm, KernelsOfThisProcessor) {
  for (const auto& entry : QgemmKernels<TypeParam>::template entries<QgemmArgs>())
    if (!entry.accepts(QgemmArgs{}))
      std::printf("[ not run  ] %s: %s\n", std::string(entry.name).c_str(), entry.why_not(QgemmArgs{}).c_str());
  for (const auto& entry : QuantizeActivationsKernels::entries<QuantizeActivationsArgs>())
    if (!entry.accepts(QuantizeActivationsArgs{})) std::printf("[ not run  ] %s\n", std::string(entry.name).c_str());
  EXPECT_GE(kernels<TypeParam>().size(), 2u);
}

TYPED_TEST(Qgemm, StridesScalesAndMisalignment) {
  const Weights<TypeParam> W(37, 75, 5);
  for (const Index n : {1, 3, 18})
    for (const bool x_columns : {true, false})
      for (const bool y_columns : {true, false})
        for (const Index gap : {0, 3})
          for (const float alpha : {1.0f, -0.7f})
            for (const float beta : {0.0f, 1.0f, 0.3f}) {
              const Operand X(75, n, x_columns, gap, gap, 2), Y(37, n, y_columns, gap, gap, 3);
              expect_all_equal(W, X, Y, alpha, beta);
              if (this->HasFatalFailure()) return;
            }
}

TYPED_TEST(Qgemm, BetaZeroDoesNotReadTheResult) {
  const Weights<TypeParam> W(33, 64, 5);
  const Operand X(64, 3, true, 0, 0, 2);
  Operand Y(33, 3, true, 0, 0, 3);
  for (float& y : Y.memory) y = std::numeric_limits<float>::quiet_NaN();
  for (const std::string& name : kernels<TypeParam>()) {
    Context ctx;
    ctx.force(name);
    qgemm(ctx, 1, W.panels(), X.view, 0, Y.view);
    for (Index i = 0; i < 33; ++i)
      for (Index j = 0; j < 3; ++j) ASSERT_TRUE(std::isfinite(Y.view(i, j))) << name;
    for (float& y : Y.memory) y = std::numeric_limits<float>::quiet_NaN();
  }
}

TYPED_TEST(Qgemm, NonFiniteActivationsReachTheirColumnOnly) {
  const Weights<TypeParam> W(20, 70, 5);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()})
    for (const Index at : {0, 31, 40, 69}) {
      Operand X(70, 5, true, 0, 0, 2);
      const Operand Y(20, 5, true, 0, 0, 3);
      X.view(at, 2) = bad;
      expect_all_equal(W, X, Y, 1, 0);
      Operand got = Y;
      got.view = {got.memory.data(), got.view.extents(), got.view.strides()};
      Context ctx;
      qgemm(ctx, 1, W.panels(), X.view, 0, got.view);
      for (Index i = 0; i < 20; ++i)
        for (Index j = 0; j < 5; ++j) ASSERT_EQ(std::isnan(got.view(i, j)), j == 2);
    }
}

TYPED_TEST(Qgemm, AnyNumberOfThreadsGivesTheSameBits) {
  const Weights<TypeParam> W(300, 96, 5);
  for (const Index n : {1, 40, 530}) {
    const Operand X(96, n, true, 0, 0, 2);
    Buffer<float> first;
    for (const Index threads : {1, 2, 3}) {
      Context ctx = Context::with_threads(threads);
      Buffer<float> y(300 * n);
      qgemm(ctx, 1, W.panels(), X.view, 0, MatrixView<float>(y.data(), {300, n}, {1, 300}));
      if (threads == 1) first = y;
      ASSERT_TRUE(same(first, y)) << threads;
    }
  }
}

TYPED_TEST(Qgemm, Empty) {
  Context ctx;
  Operand X(0, 3, true, 0, 0, 2), Y(20, 3, true, 0, 0, 3), none(20, 0, true, 0, 0, 3);
  qgemm(ctx, 1, Weights<TypeParam>(20, 0, 1).panels(), X.view, 0, Y.view);
  for (Index i = 0; i < 20; ++i)
    for (Index j = 0; j < 3; ++j) EXPECT_EQ(Y.view(i, j), 0.0f);
  Operand X2(64, 0, true, 0, 0, 2), X3(64, 3, true, 0, 0, 2), Y3(0, 3, true, 0, 0, 3);
  qgemm(ctx, 1, Weights<TypeParam>(20, 64, 1).panels(), X2.view, 0, none.view);
  qgemm(ctx, 1, Weights<TypeParam>(0, 64, 1).panels(), X3.view, 0, Y3.view);
}

TYPED_TEST(Qgemm, ShapesThatDoNotFitThrow) {
  Context ctx;
  const Weights<TypeParam> W(20, 64, 1);
  Operand X(63, 3, true, 0, 0, 2), Y(20, 3, true, 0, 0, 3);
  EXPECT_THROW(qgemm(ctx, 1, W.panels(), X.view, 0, Y.view), shape_error);
  Operand X2(64, 3, true, 0, 0, 2), Y2(20, 2, true, 0, 0, 3);
  EXPECT_THROW(qgemm(ctx, 1, W.panels(), X2.view, 0, Y2.view), shape_error);
}

TYPED_TEST(Qgemm, VectorsAreColumns) {
  Context ctx;
  const Weights<TypeParam> W(20, 64, 1);
  const Operand X(64, 1, true, 0, 0, 2);
  Operand Y(20, 1, true, 0, 0, 3);
  Buffer<float> y(40);
  qgemm(ctx, 1, W.panels(), X.view, 0, Y.view);
  qgemv(ctx, 1, W.panels(), X.view.col(0), 0, VectorView<float>(y.data(), {20}, {2}));
  for (Index i = 0; i < 20; ++i) EXPECT_EQ(y[2 * i], Y.view(i, 0));
}

TEST(QuantizeActivations, EveryKernelEqualsTheReference) {
  for (const Index k : {1, 31, 32, 65, 100})
    for (const Index n : {1, 2, 16, 19})
      for (const bool columns : {true, false}) {
        Operand X(k, n, columns, 1, 1, 2);
        X.view(0, 0) = std::numeric_limits<float>::infinity();
        if (n > 1) X.view(0, 1) = 0;
        const auto run = [&](std::string_view name) {
          Context ctx;
          ctx.force(name);
          Workspace::Scope scope(ctx.workspace);
          const ActivationBlocks q = detail::quantize_activations(ctx, scope, X.view, 8);
          std::vector<float> all;
          for (Index i = 0; i < q.blocks * q.cols; ++i) {
            all.push_back(q.scale[i]);
            all.push_back(static_cast<float>(q.sum[i]));
            all.push_back(static_cast<float>(static_cast<std::int16_t>(q.halves[i] & 0xffff)));
            all.push_back(static_cast<float>(static_cast<std::int16_t>(q.halves[i] >> 16)));
            for (Index j = 0; j < 32; ++j) all.push_back(q.codes[i * 32 + j]);
          }
          return all;
        };
        const auto expected = run("quantize_activations:ref");
        for (const std::string& name : rounding_kernels()) {
          const auto got = run(name);
          for (std::size_t i = 0; i < got.size(); ++i)
            ASSERT_TRUE(same_bits(got[i], expected[i])) << name << " at " << i << " k=" << k << " n=" << n;
        }
      }
}

TEST(QuantizeActivations, ErrorIsAtMostHalfAStep) {
  Operand X(96, 8, true, 0, 0, 2);
  Context ctx;
  Workspace::Scope scope(ctx.workspace);
  const ActivationBlocks q = detail::quantize_activations(ctx, scope, X.view);
  for (Index c = 0; c < 8; ++c)
    for (Index b = 0; b < 3; ++b) {
      const Index at = b * 8 + c;
      std::int32_t sum = 0;
      for (Index i = 0; i < 32; ++i) {
        sum += q.codes[at * 32 + i];
        const double x = static_cast<double>(X.view(b * 32 + i, c)), d = static_cast<double>(q.scale[at]);
        EXPECT_LE(std::abs(x - d * q.codes[at * 32 + i]), 0.5 * d * (1 + 1e-5));
      }
      EXPECT_EQ(sum, q.sum[at]);
      EXPECT_EQ(sum, static_cast<std::int16_t>(q.halves[at] & 0xffff) + static_cast<std::int16_t>(q.halves[at] >> 16));
    }
}

}  // namespace
}  // namespace tessera
