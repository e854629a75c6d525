/// The laws of every kernel of one format: against the reference, bit for bit.
#pragma once

#include <limits>

#include "kernels/qgemm_suite.hpp"

namespace tessera::test {

template <class F>
class QgemmFormats : public ::testing::Test {};
TYPED_TEST_SUITE_P(QgemmFormats);

TYPED_TEST_P(QgemmFormats, EveryKernelEqualsTheReference) {
  constexpr Index block = TypeParam::block_size;
  for (const Index m : {1, 15, 17, 32, 70})
    for (const Index k : {Index{1}, block - 1, block, block + 1, 3 * block - 31})
      for (const Index n : {1, 2, 16, 19}) {
        if (n > 2 && m != 17 && k != block + 1) continue;
        const Weights<TypeParam> W(m, k, static_cast<std::uint64_t>(m * k));
        const Operand X(k, n, true, 0, 0, 2), Y(m, n, true, 0, 0, 3);
        expect_all_equal(W, X, Y, 1, 0);
        if (this->HasFatalFailure()) return;
      }
}

TYPED_TEST_P(QgemmFormats, RunsOfBlocksAddUpInOrder) {  // more columns than a tile take the blocks in runs
  const Weights<TypeParam> W(40, 2080, 1);
  const Operand X(2080, 18, true, 0, 0, 2), Y(40, 18, true, 0, 0, 3);
  expect_all_equal(W, X, Y, 1, 0);
}

TYPED_TEST_P(QgemmFormats, BlocksRoundTripThroughPanels) {
  using P = PanelLayout<TypeParam>;
  for (const Index m : {1, 20, 40, 70}) {
    Weights<TypeParam> W(m, 3 * TypeParam::block_size, 4);
    for (auto& block : W.blocks) {  // as codecs write them: padding and unused codes are zero
      std::uint8_t c[TypeParam::block_size];
      detail::panel_codes<TypeParam>(block, c);
      detail::set_panel_codes<TypeParam>(block, c);
    }
    W.interleave();
    for (Index i = 0; i < m; ++i)
      for (Index b = 0; b < W.each; ++b) {
        const auto block = detail::load_from_panel<TypeParam>(
            W.codes.data(), W.side.data(), {i / panel_rows, b, W.panels_of_rows(), W.each}, i % panel_rows);
        ASSERT_EQ(std::memcmp(&block, &W.blocks[i * W.each + b], sizeof block), 0) << i << ' ' << b;
      }
  }
  const Index panel = P::codes + P::side, stored = panel_rows * static_cast<Index>(sizeof(typename TypeParam::Block));
  if constexpr (requires { TypeParam::points; })  // indices become levels, scales take 6 bits
    EXPECT_EQ(panel, panel_rows * (2 + 32 * TypeParam::bits + 192 / TypeParam::group));
  else
    EXPECT_EQ(panel, TypeParam::name == "tq1_0" ? stored / 54 * 66 : stored);  // five digits to a byte become two bits
}

TYPED_TEST_P(QgemmFormats, NonFiniteWeightsReachTheirRowOnly) {
  Weights<TypeParam> W(20, 2 * TypeParam::block_size + 6, 5);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  if (!set_not_finite<TypeParam>(W.blocks[3 * 7 + 1], std::numeric_limits<float>::quiet_NaN()))
    GTEST_SKIP() << "its blocks are all finite";
  set_not_finite<TypeParam>(W.blocks[3 * 9 + 2], infinity);
  W.interleave();
  const Operand X(W.cols, 2, true, 0, 0, 2), Y(20, 2, true, 0, 0, 3);
  expect_all_equal(W, X, Y, 1, 0);
  Operand got = Y;
  Context ctx;
  got.view = {got.memory.data(), got.view.extents(), got.view.strides()};
  qgemm(ctx, 1, W.panels(), X.view, 0, got.view);
  for (Index i = 0; i < 20; ++i) EXPECT_EQ(std::isfinite(got.view(i, 0)), i != 7 && i != 9) << i;
}

TYPED_TEST_P(QgemmFormats, ExtremeCodesAndScales) {
  constexpr Index block = TypeParam::block_size;
  for (const int byte : {0x00, 0x80, 0xff, 0x7f, 0x0f}) {  // of all codes and integer scales
    Weights<TypeParam> W(16, 3 * block, 5);
    for (Index i = 0; i < W.blocks.size(); ++i) {
      auto& w = W.blocks[i];
      std::memset(static_cast<void*>(&w), byte, sizeof w);
      set_extreme<TypeParam>(w, i);
    }
    W.interleave();
    Operand X(W.cols, 3, true, 0, 0, 2);
    const Operand Y(16, 3, true, 0, 0, 3);
    for (Index i = 0; i < W.cols; ++i) {
      X.view(i, 0) = i % 5 == 0 ? 3.0f : -3.0f;            // all codes +-127
      X.view(i, 1) = -1e-38f * static_cast<float>(i + 1);  // around the flush to zero
      X.view(i, 2) = i % 2 == 0 ? 3e38f : -1e-45f;
    }
    expect_all_equal(W, X, Y, 1, 0);
    for (Index i = 0; i < W.cols; ++i) X.view(i, 0) = X.view(i, 2) = 3;
    expect_all_equal(W, X, Y, 1, 0);
  }
}

REGISTER_TYPED_TEST_SUITE_P(QgemmFormats, EveryKernelEqualsTheReference, RunsOfBlocksAddUpInOrder,
                            BlocksRoundTripThroughPanels, NonFiniteWeightsReachTheirRowOnly, ExtremeCodesAndScales);

}  // namespace tessera::test
