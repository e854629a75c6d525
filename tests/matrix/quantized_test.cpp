#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <tessera/matrix/quantized.hpp>
#include <tessera/quant/quantizers/scale_search.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

static_assert(LinearOperator<Quantized<Q8_0>> && LinearOperator<QuantizedView<Q4_K>>);

struct FormatNames {
  template <class F>
  static std::string GetName(int) {
    return std::string(F::name);
  }
};

template <class F>
class QuantizedLaws : public ::testing::Test {
 protected:
  Quantized<F> sample(Index rows, Index cols, std::uint64_t seed = 1) {
    const auto w = test::random_buffer<float>(rows * cols, seed);
    return quantize<F>(ctx, MatrixView<const float>(w.data(), rows, cols));
  }
  Context ctx;
};
using Formats = ::testing::Types<Q8_0, Q2_K>;
TYPED_TEST_SUITE(QuantizedLaws, Formats, FormatNames);

MatrixView<const float> columns(const Buffer<float>& b, Index rows, Index cols) {
  return {b.data(), {rows, cols}, {1, rows}};
}
MatrixView<float> columns(Buffer<float>& b, Index rows, Index cols) { return {b.data(), {rows, cols}, {1, rows}}; }

const std::vector<std::pair<Index, Index>> shapes = {{1, 1},   {16, 32}, {17, 33},  {70, 100},
                                                     {5, 300}, {300, 5}, {270, 530}};

TYPED_TEST(QuantizedLaws, ProductsAreWithinTheStatedBound) {
  for (const auto& [m, k] : shapes) {
    const auto W = this->sample(m, k);
    const Eigen::MatrixXd D = W.to_dense().template cast<double>();
    const auto x = test::random_buffer<float>(k * 3, 2);
    for (const auto mode : {Activations::int8, Activations::exact}) {
      Buffer<float> y(m * 3);
      const auto A = W.activations(mode);
      EXPECT_EQ(A.activations(), mode);
      A.apply(this->ctx, Op::none, 1, columns(x, k, 3), 0, columns(y, m, 3));
      for (Index j = 0; j < 3; ++j) {
        const Eigen::VectorXd exact = D * Eigen::Map<const Eigen::VectorXf>(x.data() + j * k, k).cast<double>();
        for (Index i = 0; i < m; ++i) {
          const double bound = A.error_bound(i, columns(x, k, 3).col(j));
          ASSERT_LE(std::abs(static_cast<double>(y[j * m + i]) - exact[i]), bound) << m << 'x' << k << " row " << i;
        }
      }
    }
  }
}

TYPED_TEST(QuantizedLaws, ActivationBoundIsNotVacuous) {  // ten times less would not hold everywhere
  const auto W = this->sample(200, 64);
  const Eigen::MatrixXd D = W.to_dense().template cast<double>();
  const auto x = test::random_buffer<float>(64, 2);
  Buffer<float> y(200);
  W.apply(this->ctx, Op::none, 1, columns(x, 64, 1), 0, columns(y, 200, 1));
  const Eigen::VectorXd exact = D * Eigen::Map<const Eigen::VectorXf>(x.data(), 64).cast<double>();
  double worst = 0;
  for (Index i = 0; i < 200; ++i)
    worst = std::max(worst, std::abs(static_cast<double>(y[i]) - exact[i]) / W.error_bound(i, {x.data(), 64}));
  EXPECT_GT(worst, 0.1);
  EXPECT_LE(worst, 1.0);
}

TYPED_TEST(QuantizedLaws, TransposeMultipliesTheDecodedWeights) {
  for (const auto& [m, k] : shapes) {
    const auto W = this->sample(m, k);
    const Eigen::MatrixXf D = W.to_dense();
    for (const Index n : {1, 4}) {
      const auto x = test::random_buffer<float>(m * n, 2);
      for (const auto& [alpha, beta] : {std::pair{1.0f, 0.0f}, std::pair{-0.5f, 1.0f}, std::pair{2.0f, 0.3f}}) {
        auto y = test::random_buffer<float>(k * n, 3);
        const auto before = y;
        if (beta == 0)
          for (float& v : y) v = std::numeric_limits<float>::quiet_NaN();
        W.apply(this->ctx, Op::transpose, alpha, columns(x, m, n), beta, columns(y, k, n));
        test::expect_product<float, float, float>(alpha, MatrixView<const float>(D.data(), {k, m}, {m, 1}),
                                                  columns(x, m, n), beta, columns(before, k, n), columns(y, k, n));
      }
    }
  }
}

TYPED_TEST(QuantizedLaws, AdjointIsTheTranspose) {
  const auto W = this->sample(270, 530).activations(Activations::exact);
  const auto x = test::random_buffer<float>(530, 2), z = test::random_buffer<float>(270, 3);
  Buffer<float> y(270), w(530);
  W.apply(this->ctx, Op::none, 1, columns(x, 530, 1), 0, columns(y, 270, 1));
  W.apply(this->ctx, Op::transpose, 1, columns(z, 270, 1), 0, columns(w, 530, 1));
  double left = 0, right = 0, size = 0;
  for (Index i = 0; i < 270; ++i) left += static_cast<double>(y[i]) * static_cast<double>(z[i]);
  for (Index i = 0; i < 530; ++i) right += static_cast<double>(w[i]) * static_cast<double>(x[i]);
  for (Index i = 0; i < 270; ++i) size += W.error_bound(i, {x.data(), 530}) * std::abs(static_cast<double>(z[i]));
  EXPECT_LE(std::abs(left - right), 2 * size);
}

TYPED_TEST(QuantizedLaws, BlocksRoundTripThroughPanels) {
  using Block = typename TypeParam::Block;
  for (const auto& [m, k] : shapes) {
    const auto W = this->sample(m, k);
    const Buffer<Block> blocks = W.blocks();
    ASSERT_EQ(blocks.size(), m * ((k + TypeParam::block_size - 1) / TypeParam::block_size));
    const Quantized<TypeParam> again(m, k, blocks);
    const auto other = again.blocks();
    EXPECT_EQ(std::memcmp(blocks.data(), other.data(), blocks.bytes()), 0);
    if constexpr (TypeParam::has_minimum) continue;
    // Rounded to nearest, what was decoded gives the same blocks.
    const Eigen::MatrixXf D = W.to_dense();
    const auto third = quantize<TypeParam>(this->ctx, MatrixView<const float>(D.data(), {m, k}, {1, m})).blocks();
    EXPECT_EQ(std::memcmp(blocks.data(), third.data(), blocks.bytes()), 0) << m << 'x' << k;
  }
}

TYPED_TEST(QuantizedLaws, ViewsOfStoredBlocksAreTheSameMatrix) {
  const auto W = this->sample(70, 100);
  const auto blocks = W.blocks();
  const QuantizedView<TypeParam> V(70, 100, blocks);
  EXPECT_EQ(V.bytes(), blocks.bytes());
  EXPECT_EQ(V.to_dense(), W.to_dense());
  const auto x = test::random_buffer<float>(300, 2);
  for (const auto op : {Op::none, Op::transpose})
    for (const Index n : {1, 3}) {
      const Index k = op == Op::none ? 100 : 70, m = op == Op::none ? 70 : 100;
      Buffer<float> y(m * n), z(m * n);
      W.apply(this->ctx, op, 1, columns(x, k, n), 0, columns(y, m, n));
      V.apply(this->ctx, op, 1, columns(x, k, n), 0, columns(z, m, n));
      EXPECT_EQ(std::memcmp(y.data(), z.data(), y.bytes()), 0);
    }
}

TYPED_TEST(QuantizedLaws, OnlyCodesAndScalesAreHeld) {
  const auto W = this->sample(256, 512);
  EXPECT_EQ(W.bytes(), 256 * 512 / TypeParam::block_size * sizeof(typename TypeParam::Block));
  std::size_t held = 0;
  W.for_each_buffer([&](ByteRange r) {
    held += static_cast<std::size_t>(static_cast<const char*>(r.last) - static_cast<const char*>(r.first));
  });
  EXPECT_EQ(held, W.bytes());
  std::set<const void*> addresses;  // copies, and other modes, share them
  for (const auto& A : {W, W.activations(Activations::exact)})
    A.for_each_buffer([&](ByteRange r) { addresses.insert(r.first); });
  EXPECT_EQ(addresses.size(), 2u);
}

TYPED_TEST(QuantizedLaws, AnyNumberOfThreadsGivesTheSameBits) {
  const auto w = test::random_buffer<float>(600 * 330, 1);
  const auto x = test::random_buffer<float>(600 * 20, 2);
  std::vector<Buffer<float>> first;
  for (const Index threads : {1, 2, 3}) {
    Context pool = Context::with_threads(threads);
    const auto W = quantize<TypeParam>(pool, MatrixView<const float>(w.data(), 600, 330));
    std::vector<Buffer<float>> results;
    for (const auto mode : {Activations::int8, Activations::exact})
      for (const auto op : {Op::none, Op::transpose}) {
        const Index m = op == Op::none ? 600 : 330, k = 930 - m;
        results.emplace_back(m * 20);
        W.activations(mode).apply(pool, op, 1, columns(x, k, 20), 0, columns(results.back(), m, 20));
      }
    if (threads == 1) first = results;
    for (std::size_t i = 0; i < results.size(); ++i)
      EXPECT_EQ(std::memcmp(results[i].data(), first[i].data(), first[i].bytes()), 0) << threads << ' ' << i;
  }
}

TYPED_TEST(QuantizedLaws, NonFiniteWeightsShow) {
  auto w = test::random_buffer<float>(20 * 70, 1);
  w[3 * 70 + 69] = std::numeric_limits<float>::infinity();
  w[9 * 70] = std::numeric_limits<float>::quiet_NaN();
  const auto W = quantize<TypeParam>(this->ctx, MatrixView<const float>(w.data(), 20, 70));
  const auto x = test::random_buffer<float>(70, 2);
  for (const auto mode : {Activations::int8, Activations::exact}) {
    Buffer<float> y(20);
    W.activations(mode).apply(this->ctx, Op::none, 1, columns(x, 70, 1), 0, columns(y, 20, 1));
    for (Index i = 0; i < 20; ++i) EXPECT_EQ(std::isnan(y[i]), i == 3 || i == 9) << i;
  }
}

TYPED_TEST(QuantizedLaws, AlphaZeroReadsNothingAndEmptyIsLawful) {
  const auto W = this->sample(20, 40);
  Buffer<float> x(40 * 2), y = test::random_buffer<float>(40, 3);
  for (float& v : x) v = std::numeric_limits<float>::quiet_NaN();
  const auto before = y;
  W.apply(this->ctx, Op::none, 0, columns(x, 40, 2), 2, columns(y, 20, 2));
  for (Index i = 0; i < 40; ++i) EXPECT_EQ(y[i], 2 * before[i]);
  const Quantized<TypeParam> none;
  EXPECT_EQ(none.rows(), 0);
  EXPECT_EQ(none.bytes(), 0u);
  none.apply(this->ctx, Op::none, 1, columns(x, 0, 2), 0, columns(y, 0, 2));
  const auto thin = this->sample(20, 0);
  thin.apply(this->ctx, Op::none, 1, columns(x, 0, 2), 0, columns(y, 20, 2));
  for (Index i = 0; i < 40; ++i) EXPECT_EQ(y[i], 0.0f);
  this->sample(0, 40).apply(this->ctx, Op::transpose, 1, columns(x, 0, 1), 0, columns(y, 40, 1));
  W.apply(this->ctx, Op::none, 1, columns(x, 40, 0), 0, columns(y, 20, 0));
}

TYPED_TEST(QuantizedLaws, MistakesThrow) {
  const auto W = this->sample(20, 40);
  Buffer<float> x(100), y(100);
  try {
    W.apply(this->ctx, Op::none, 1, columns(x, 41, 1), 0, columns(y, 20, 1));
    FAIL();
  } catch (const shape_error& e) {
    EXPECT_EQ(std::string(e.what()),
              "tessera: (Quantized<" + std::string(TypeParam::name) + "> 20x40) * (41x1): columns 40 != rows 41");
  }
  EXPECT_THROW(W.apply(this->ctx, Op::transpose, 1, columns(x, 40, 1), 0, columns(y, 20, 1)), shape_error);
  const auto blocks = W.blocks();
  EXPECT_THROW((Quantized<TypeParam>(20, 257, blocks)), shape_error);
  EXPECT_THROW((QuantizedView<TypeParam>(21, 40, blocks)), shape_error);
  EXPECT_THROW((QuantizedView<TypeParam>(1, std::numeric_limits<Index>::max(), {})), shape_error);
  EXPECT_THROW((Quantized<TypeParam>(-1, 40, blocks)), shape_error);
  EXPECT_THROW((Quantized<TypeParam>(Index{1} << 40, Index{1} << 40, blocks)), shape_error);
}

TYPED_TEST(QuantizedLaws, ScaleSearchLosesLess) {
  if constexpr (!AffineBlockFormat<TypeParam>) {
    GTEST_SKIP() << "searches scales of affine formats";
  } else {
    const auto w = test::random_buffer<float>(64 * 256, 5);
    const MatrixView<const float> W(w.data(), 64, 256);
    const Eigen::Map<const Eigen::Matrix<float, -1, -1, Eigen::RowMajor>> E(w.data(), 64, 256);
    const float nearest = (quantize<TypeParam>(this->ctx, W).to_dense() - E).norm();
    const float searched = (quantize<TypeParam>(this->ctx, W, ScaleSearch{}).to_dense() - E).norm();
    EXPECT_LT(searched, nearest);
  }
}

TYPED_TEST(QuantizedLaws, ExplainNamesTheKernel) {
  const auto W = this->sample(20, 40);
  for (const auto op : {Op::none, Op::transpose}) {
    int chosen = 0;
    W.explain(this->ctx, op, 3, [&](std::string_view kernel, std::string_view why) {
      if (!why.empty()) return;
      ++chosen;
      EXPECT_EQ(kernel.substr(0, kernel.find(':')), op == Op::none ? "qgemm" : "gemm");
    });
    EXPECT_EQ(chosen, 1);
  }
}

}  // namespace
}  // namespace tessera
