// Convolutions with sparse weights against the obvious loops; their gradients by differences.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <sparse/graphs.hpp>
#include <support/row_major.hpp>
#include <tessera/matrix/bsr.hpp>
#include <tessera/sparse/conv_param.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::random;
using test::view;
using Matrix = test::RowMajor<double>;

/// (C,H,W), owning.
struct Image {
  Index C, H, W;
  Buffer<double> values;
  Image(Index c, Index h, Index w, std::uint64_t seed = 0) : C(c), H(h), W(w), values(c * h * w) {
    if (seed != 0) values = test::random_buffer<double>(c * h * w, seed);
  }
  Channels<double> all() { return {values.data(), {C, H, W}}; }
  Channels<const double> all() const { return {values.data(), {C, H, W}}; }
};

/// Of W (M, C·k·k), or of each channel by its own (C, k·k) if `depthwise`.
Image by_loops(const Matrix& W, const ConvShape& s, const Image& X, bool depthwise, const ConvEpilogue<double>& e) {
  Image Y(W.rows(), s.out_height(), s.out_width());
  for (Index m = 0; m < W.rows(); ++m)
    for (Index y = 0; y < Y.H; ++y)
      for (Index x = 0; x < Y.W; ++x) {
        double sum = e.bias.empty() ? 0 : e.bias[static_cast<std::size_t>(m)];
        for (Index c = depthwise ? m : 0; c < (depthwise ? m + 1 : s.channels); ++c)
          for (Index i = 0; i < s.kernel; ++i)
            for (Index j = 0; j < s.kernel; ++j) {
              const Index at = y * s.stride + i - s.pad, across = x * s.stride + j - s.pad;
              if (at < 0 || at >= s.height || across < 0 || across >= s.width) continue;
              sum += W(m, ((depthwise ? 0 : c) * s.kernel + i) * s.kernel + j) * X.all()(c, at, across);
            }
        Y.all()(m, y, x) = e.relu && sum < 0 ? 0 : sum;
      }
  return Y;
}
void expect_near(const Image& a, const Image& b) {
  ASSERT_EQ(a.values.size(), b.values.size());
  for (Index i = 0; i < a.values.size(); ++i) ASSERT_NEAR(a.values[i], b.values[i], 1e-12) << i;
}

const std::vector<ConvShape> shapes{
    {3, 9, 7, 3, 1, 1}, {4, 8, 11, 3, 2, 1},           {2, 5, 5, 5, 1, 0}, {5, 6, 35, 1, 1, 0}, {3, 7, 10, 2, 3, 2},
    {1, 1, 1, 1, 1, 0}, {1, 2, 3, 3, 1 << 20, 1 << 20}};

TEST(SparseConv, PointwiseIsTheDenseProduct) {
  Context ctx, threads = Context::with_threads(3);
  for (const auto& [C, H, W] : {std::array<Index, 3>{8, 7, 9}, {12, 14, 14}, {4, 1, 33}, {16, 0, 5}}) {
    const test::Sparse A = test::uniform(20, C, 0.3, 1);
    const Image X(C, H, W, 2);
    const auto bias = test::random_buffer<double>(20, 3);
    for (const ConvEpilogue<double> e : {ConvEpilogue<double>{}, {bias, false}, {bias, true}, {{}, true}}) {
      Image Y(20, H, W), Z(20, H, W);
      sparse_conv1x1(ctx, A, X.all(), Y.all(), e);
      sparse_conv1x1(threads, A, X.all(), Z.all(), e);
      EXPECT_TRUE(std::equal(Y.values.begin(), Y.values.end(), Z.values.begin()));
      if (H > 0) expect_near(Y, by_loops(A.to_dense(), {C, H, W}, X, false, e));
      sparse_conv1x1(ctx, bsr_from_csr(A, 4, 1), X.all(), Z.all(), e);
      expect_near(Y, Z);
    }
  }
  const test::Sparse A = test::uniform(3, 2, 1, 1);
  Image X(2, 1, 3, 1), Y(3, 1, 3);
  X.values[0] = std::numeric_limits<double>::quiet_NaN();
  sparse_conv1x1(ctx, A, std::as_const(X).all(), Y.all(), {{}, true});
  EXPECT_TRUE(std::isnan(Y.values[0]));  // a ReLU hides none
  EXPECT_THROW(sparse_conv1x1(ctx, A, Image(3, 1, 3).all(), Y.all()), shape_error);
  EXPECT_THROW(sparse_conv1x1(ctx, A, std::as_const(X).all(), X.all()), shape_error);
  EXPECT_THROW(sparse_conv1x1(ctx, A, std::as_const(X).all(), Y.all(), {X.values, false}), shape_error);
  EXPECT_THROW(sparse_conv1x1(ctx, A, Channels<const double>(X.values.data(), {2, 1, 3}, {3, 3, 2}), Y.all()),
               shape_error);
}

// MobileNet's layers in f32, rows and blocks of 4×1, at 80 and 90% zeros.
TEST(SparseConv, LayersOfMobileNetAreTheDenseProductsSlow) {
  Context ctx;
  for (const auto& [C, side] : {std::pair<Index, Index>{64, 56}, {128, 28}, {256, 14}, {512, 14}})
    for (const Index tenths : {1, 2}) {
      if (C == 256 && tenths == 2) continue;
      const Index n = side * side;
      const auto x = test::random_buffer<float>(C * n, 1), b = test::random_buffer<float>(C, 2);
      const Channels<const float> X(x.data(), {C, side, side});
      Buffer<float> w(C * C), y(C * n);
      const Philox draws(3);
      for (Index i = 0; i < C; ++i)
        for (Index k = 0; k < C; ++k)  // whole blocks of four rows
          if (draws.below(static_cast<std::uint64_t>(i / 4 * C + k), 10) < static_cast<std::uint64_t>(tenths))
            w[i * C + k] = draws.uniform(static_cast<std::uint64_t>(i * C + k)) - 0.4f;
      const auto A = csr_from_dense(MatrixView<float>(w.data(), C, C));
      const auto blocks = bsr_from_csr(A, 4, 1);
      std::vector<double> sums(static_cast<std::size_t>(n)), sizes(sums);
      Buffer<double> want(C * n), within(C * n);
      for (Index i = 0; i < C; ++i) {
        std::fill(sums.begin(), sums.end(), double(b[i]));
        std::fill(sizes.begin(), sizes.end(), std::abs(double(b[i])));
        for (Index k = 0; k < C; ++k) {
          const double a = w[i * C + k];
          if (a == 0) continue;
          for (std::size_t p = 0; p < sums.size(); ++p) {
            const double product = a * double(x[k * n + Index(p)]);
            sums[p] += product;
            sizes[p] += std::abs(product);
          }
        }
        for (std::size_t p = 0; p < sums.size(); ++p) {
          want[i * n + Index(p)] = std::max(sums[p], 0.0);
          within[i * n + Index(p)] = test::gamma<float>(double(C)) * sizes[p];
        }
      }
      for (const bool in_blocks : {false, true}) {
        const Channels<float> Y(y.data(), {C, side, side});
        const ConvEpilogue<float> bias{b, true};
        in_blocks ? sparse_conv1x1(ctx, blocks, X, Y, bias) : sparse_conv1x1(ctx, A, X, Y, bias);
        for (Index p = 0; p < C * n; ++p) ASSERT_LE(std::abs(double(y[p]) - want[p]), within[p]) << C << ' ' << p;
      }
    }
}

TEST(SparseConv, PatchesDepthwiseAndBlocksAreTheLoops) {
  Context ctx, threads = Context::with_threads(2);
  for (const auto& s : shapes) {
    const Image X(s.channels, s.height, s.width, 5);
    const test::Sparse A = test::uniform(6, s.patch(), 0.5, 4);
    const Matrix K = random<Matrix>(s.channels, s.kernel * s.kernel, 6);
    const auto bias = test::random_buffer<double>(6, 7), of_channels = test::random_buffer<double>(s.channels, 8);
    Image Y(6, s.out_height(), s.out_width()), Z(s.channels, s.out_height(), s.out_width()), B = Y;
    conv_im2col(ctx, A, s, X.all(), Y.all(), {bias, true});
    expect_near(Y, by_loops(A.to_dense(), s, X, false, {bias, true}));
    depthwise_conv<double>(threads, view(K), s, X.all(), Z.all(), {of_channels, true});
    expect_near(Z, by_loops(K, s, X, true, {of_channels, true}));

    const test::Sparse P = test::uniform(6, s.channels, 0.5, 9);
    sparse_mobilenet_block(ctx, view(K), P, s, X.all(), B.all(), of_channels, bias);
    expect_near(B, by_loops(P.to_dense(), {s.channels, Z.H, Z.W}, Z, false, {bias, true}));

    // <im2col(X), Q> == <X, col2im(Q)>
    Matrix patches(s.patch(), s.pixels());
    const Matrix Q = random<Matrix>(s.patch(), s.pixels(), 10);
    Image back(s.channels, s.height, s.width);
    im2col<double>(ctx, s, X.all(), view(patches));
    col2im<double>(ctx, s, view(Q), back.all());
    double there = 0;
    for (Index i = 0; i < back.values.size(); ++i) there += back.values[i] * X.values[i];
    EXPECT_NEAR(patches.cwiseProduct(Q).sum(), there, 1e-11);
  }
  constexpr Index huge = Index{1} << 62;
  for (const ConvShape bad : {ConvShape{0, 1, 1},
                              {1, 2, 2, 3},
                              {1, 2, 2, 1, 0},
                              {huge, huge, huge},
                              {1, 4, 4, 2, 1, huge},
                              {1, 1, 1, 1024, 1, 1 << 20}})
    EXPECT_THROW(bad.check(), shape_error);
}

TEST(SparseConv, ScoresAndWeightsHaveGradientsStraightThrough) {
  Context ctx;
  for (const auto& s : shapes) {
    constexpr Index M = 4;
    Matrix W = random<Matrix>(M, s.patch(), 1);
    const Matrix score = random<Matrix>(M, s.patch(), 2);
    const Index kept = (M * s.patch() + 2) / 3;
    const ParametricSparseConv<double> conv(s, view(W), view(score), kept);
    EXPECT_EQ(conv.weight().nnz(), kept);
    Image X(s.channels, s.height, s.width, 3), dX = X, Y(M, s.out_height(), s.out_width());
    const Image dY(M, s.out_height(), s.out_width(), 4);
    // <dY, conv(X)> is linear in X and in each weight, so that differences are exact.
    const auto loss = [&](const Matrix& masked) {
      const Image out = by_loops(masked, s, X, false, {});
      double sum = 0;
      for (Index i = 0; i < out.values.size(); ++i) sum += out.values[i] * dY.values[i];
      return sum;
    };
    const Matrix masked = conv.weight().to_dense();
    conv.forward(ctx, std::as_const(X).all(), Y.all());
    expect_near(Y, by_loops(masked, s, X, false, {}));
    const Matrix dW = conv.backward(ctx, std::as_const(X).all(), dY.all(), dX.all()).to_dense();
    Matrix dscore(M, s.patch());
    conv.score_gradient(ctx, view(std::as_const(W)), std::as_const(X).all(), dY.all(), view(dscore));
    const double before = loss(masked);
    for (Index p = 0; p < W.size(); p += 3) {
      Matrix up = masked;
      up.data()[p] += 1;
      const double slope = loss(up) - before;
      if (masked.data()[p] != 0) {
        EXPECT_NEAR(dW.data()[p], slope, 1e-10);
      }
      EXPECT_NEAR(dscore.data()[p], slope * W.data()[p], 1e-10);  // d mask = d score
    }
    for (Index i = 0; i < X.values.size(); i += 5) {
      X.values[i] += 1;
      EXPECT_NEAR(dX.values[i], loss(masked) - before, 1e-10);
      X.values[i] -= 1;
    }
    EXPECT_THROW((ParametricSparseConv<double>(s, view(random<Matrix>(M, s.patch() + 1, 1)),
                                               view(random<Matrix>(M, s.patch() + 1, 1)), 1)),
                 shape_error);
    EXPECT_THROW(conv.backward(ctx, Image(9, 9, 9).all(), dY.all(), dX.all()), shape_error);
  }
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera
