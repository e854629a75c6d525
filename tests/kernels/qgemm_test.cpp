#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <tessera/kernels/qgemm/qgemm.hpp>
#include <tessera/quant/formats.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera {
namespace {

template <class List>
struct TestTypes;
template <class... F>
struct TestTypes<FormatList<F...>> {
  using type = ::testing::Types<F...>;
};

struct FormatNames {
  template <class F>
  static std::string GetName(int) {
    return std::string(F::name);
  }
};

/// A weight matrix with every code and scales of both signs, in both layouts.
template <class F>
struct Weights {
  using P = PanelLayout<F>;
  Index rows, cols;
  Buffer<typename F::Block> blocks;
  Buffer<std::uint8_t> codes;
  Buffer<std::uint16_t> side;

  Weights(Index m, Index k, std::uint64_t seed) : rows(m), cols(k), blocks(m * ((k + 31) / 32)) {
    const Philox draws(seed);
    std::uint64_t at = 0;
    for (auto& block : blocks) {
      block.d = f16((draws.uniform(at++) - 0.3f) * 0.1f);
      if constexpr (F::has_minimum) block.m = f16(draws.uniform(at++) - 0.6f);
      for (auto& q : block.qs) q = static_cast<std::remove_reference_t<decltype(q)>>(draws.bits(at++) & 0xff);
    }
    const Index each = (k + 31) / 32, panels = (m + 15) / 16;
    codes = Buffer<std::uint8_t>(panels * each * P::codes);
    side = Buffer<std::uint16_t>(panels * each * P::side);
    for (Index p = 0; p < panels; ++p)
      detail::interleave_panel<F>(blocks.data(), m, each, p * 16, codes.data() + p * each * P::codes,
                                  side.data() + p * each * P::side);
  }
  BlockView<F> panels() const { return {nullptr, codes.data(), side.data(), BlockLayout::panels, rows, cols}; }
  BlockView<F> stored() const { return {blocks.data(), nullptr, nullptr, BlockLayout::rows, rows, cols}; }
};

/// (rows, cols) with room around it, at chosen strides and an odd offset.
struct Operand {
  Buffer<float> memory;
  MatrixView<float> view;
  Operand(Index rows, Index cols, bool column_major, Index gap, Index offset, std::uint64_t seed)
      : memory(test::random_buffer<float>(2 * (rows + gap + 1) * (cols + gap + 1) + offset, seed)) {
    view = column_major ? MatrixView<float>(memory.data() + offset, {rows, cols}, {1, rows + gap})
                        : MatrixView<float>(memory.data() + offset, {rows, cols}, {cols + gap, 1});
  }
};

bool same_bits(float a, float b) { return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, sizeof a) == 0; }

::testing::AssertionResult same(const Buffer<float>& a, const Buffer<float>& b) {
  for (Index i = 0; i < a.size(); ++i)
    if (!same_bits(a[i], b[i])) return ::testing::AssertionFailure() << a[i] << " != " << b[i] << " at " << i;
  return ::testing::AssertionSuccess();
}

template <class F>
std::vector<std::string> kernels() {
  std::vector<std::string> names;
  for (const auto& entry : QgemmKernels<F>::template entries<QgemmArgs>)
    if (entry.accepts(QgemmArgs{})) names.emplace_back(entry.name);
  return names;
}
std::vector<std::string> rounding_kernels() {
  std::vector<std::string> names;
  for (const auto& entry : QuantizeActivationsKernels::entries<QuantizeActivationsArgs>)
    if (entry.accepts(QuantizeActivationsArgs{})) names.emplace_back(entry.name);
  return names;
}

/// Runs all kernels on copies of Y and compares every float of its memory, gaps included, with the reference's.
template <class F>
void expect_all_equal(const Weights<F>& W, const Operand& X, const Operand& Y, float alpha, float beta) {
  Context reference;
  reference.force("qgemm:ref");
  reference.force("quantize_activations:ref");
  Operand expected = Y;
  const auto in = [&](Operand& o) {
    return MatrixView<float>(o.memory.data() + (Y.view.data() - Y.memory.data()), Y.view.extents(), Y.view.strides());
  };
  qgemm(reference, alpha, W.panels(), X.view, beta, in(expected));
  for (const std::string& name : kernels<F>())
    for (const bool panels : {true, false}) {
      Context ctx;
      ctx.force(name);
      Operand got = Y;
      qgemm(ctx, alpha, panels ? W.panels() : W.stored(), X.view, beta, in(got));
      ASSERT_TRUE(same(expected.memory, got.memory))
          << name << (panels ? " panels" : " rows") << " M=" << W.rows << " K=" << W.cols << " N=" << X.view.cols()
          << " alpha=" << alpha << " beta=" << beta;
    }
}

template <class F>
class Qgemm : public ::testing::Test {};
TYPED_TEST_SUITE(Qgemm, TestTypes<BlockFormats>::type, FormatNames);

TYPED_TEST(Qgemm, KernelsOfThisProcessor) {
  for (const auto& entry : QgemmKernels<TypeParam>::template entries<QgemmArgs>)
    if (!entry.accepts(QgemmArgs{}))
      std::printf("[ not run  ] %s: %s\n", std::string(entry.name).c_str(), entry.why_not(QgemmArgs{}).c_str());
  for (const auto& entry : QuantizeActivationsKernels::entries<QuantizeActivationsArgs>)
    if (!entry.accepts(QuantizeActivationsArgs{})) std::printf("[ not run  ] %s\n", std::string(entry.name).c_str());
  EXPECT_GE(kernels<TypeParam>().size(), 2u);
}

TYPED_TEST(Qgemm, EveryKernelEqualsTheReference) {
  for (const Index m : {1, 15, 16, 17, 64, 70})
    for (const Index k : {1, 31, 32, 33, 64, 100})
      for (const Index n : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 37}) {
        const Weights<TypeParam> W(m, k, static_cast<std::uint64_t>(m * k));
        const Operand X(k, n, true, 0, 0, 2), Y(m, n, true, 0, 0, 3);
        expect_all_equal(W, X, Y, 1, 0);
        if (this->HasFatalFailure()) return;
      }
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

TYPED_TEST(Qgemm, NonFiniteWeightsReachTheirRowOnly) {
  Weights<TypeParam> W(20, 70, 5);
  W.blocks[3 * 7 + 1].d = f16(std::numeric_limits<float>::quiet_NaN());
  W.blocks[3 * 9 + 2].d = f16(std::numeric_limits<float>::infinity());
  using P = PanelLayout<TypeParam>;
  for (Index p = 0; p < 2; ++p)
    detail::interleave_panel<TypeParam>(W.blocks.data(), 20, 3, p * 16, W.codes.data() + p * 3 * P::codes,
                                        W.side.data() + p * 3 * P::side);
  const Operand X(70, 2, true, 0, 0, 2), Y(20, 2, true, 0, 0, 3);
  expect_all_equal(W, X, Y, 1, 0);
  Operand got = Y;
  Context ctx;
  got.view = {got.memory.data(), got.view.extents(), got.view.strides()};
  qgemm(ctx, 1, W.panels(), X.view, 0, got.view);
  for (Index i = 0; i < 20; ++i) EXPECT_EQ(std::isfinite(got.view(i, 0)), i != 7 && i != 9) << i;
}

TYPED_TEST(Qgemm, SubnormalScalesAndExtremeCodes) {
  Weights<TypeParam> W(16, 96, 5);
  for (auto& block : W.blocks) std::memset(block.qs, 0x80, sizeof block.qs);  // -128, or 0 and 8
  for (Index i = 0; i < W.blocks.size(); ++i) W.blocks[i].d = f16::from_bits(static_cast<std::uint32_t>(i * 37 % 2048));
  using P = PanelLayout<TypeParam>;
  detail::interleave_panel<TypeParam>(W.blocks.data(), 16, 3, 0, W.codes.data(), W.side.data());
  static_assert(P::codes > 0);
  Operand X(96, 3, true, 0, 0, 2);
  const Operand Y(16, 3, true, 0, 0, 3);
  for (Index i = 0; i < 96; ++i) {
    X.view(i, 0) = 3;                                    // all codes 127
    X.view(i, 1) = -1e-38f * static_cast<float>(i + 1);  // around the flush to zero
    X.view(i, 2) = i % 2 == 0 ? 3e38f : -1e-45f;
  }
  expect_all_equal(W, X, Y, 1, 0);
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
          const ActivationBlocks q = detail::quantize_activations(ctx, scope, X.view);
          std::vector<float> all;
          for (Index i = 0; i < q.blocks * q.cols; ++i) {
            all.push_back(q.scale[i]);
            all.push_back(static_cast<float>(q.sum[i]));
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
    }
}

}  // namespace
}  // namespace tessera
