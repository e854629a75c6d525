#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/quant/dynamic_fixed_point.hpp>
#include <vector>

#include "quant/layers.hpp"

namespace tessera {
namespace {

using test::normal_matrix;
using test::RowMatrixf;

TEST(DynamicFixedPoint, RoundsToHalfAStepOfTheLeastExponent) {
  Context ctx;
  for (const int bits : {2, 8, 15, 16})
    for (const float size : {1.0f, 3e-42f, 1e-38f, 1e30f, 3e38f}) {
      RowMatrixf X = normal_matrix(5, 70, 1);
      X *= size / X.cwiseAbs().maxCoeff();
      const FixedPointMatrix F(ctx, view(X), bits);
      const auto V = F.view();
      const int top = (1 << (bits - 1)) - 1;
      EXPECT_LE(V.largest, top);
      EXPECT_GE(2 * V.largest, top);  // a smaller exponent would not take it
      const double half = std::ldexp(0.5, F.exponent());
      for (Index i = 0; i < X.rows(); ++i)
        for (Index j = 0; j < X.cols(); ++j)
          ASSERT_LE(std::abs(static_cast<double>(X(i, j)) - std::ldexp(1.0 * V.mantissas(i, j), F.exponent())), half)
              << bits << " bits, size " << size;
      const RowMatrixf back = F.to_dense();
      EXPECT_EQ(back(2, 3), V.value(2, 3));
      const Eigen::MatrixXf columns = X;  // any layout gives the same numbers
      const FixedPointMatrix G(ctx, view(columns), bits);
      EXPECT_EQ(G.exponent(), F.exponent());
      EXPECT_EQ(RowMatrixf(G.to_dense()), back);
    }
  RowMatrixf X = RowMatrixf::Zero(3, 4);
  EXPECT_EQ(RowMatrixf(FixedPointMatrix(ctx, view(X)).to_dense()), X);
  X(1, 2) = std::nanf("");
  EXPECT_TRUE(std::isnan(FixedPointMatrix(ctx, view(X)).to_dense()(0, 0)));
  EXPECT_THROW(FixedPointMatrix(ctx, view(X), 17), unsupported_error);
  EXPECT_THROW(FixedPointMatrix(ctx, view(X)).assign(ctx, view(X).transposed()), shape_error);
}

double relative_error(int bits, Index n, float scale) {
  Context ctx, threads = Context::with_threads(2);
  const RowMatrixf A = scale * normal_matrix(n, 3 * n, 2), B = normal_matrix(3 * n, n, 3) / scale;
  const FixedPointMatrix W(ctx, view(A), bits);
  RowMatrixf Y = RowMatrixf::Constant(n, n, std::nanf("")), T = Y;
  W.apply(ctx, Op::none, 1, view(B), 0, view(Y));
  W.apply(threads, Op::none, 1, view(B), 0, view(T));
  EXPECT_EQ(Y, T);
  const Eigen::MatrixXd exact = A.cast<double>() * B.cast<double>();
  RowMatrixf Z = normal_matrix(3 * n, 5, 4);
  const RowMatrixf X = normal_matrix(n, 5, 5);
  const Eigen::MatrixXd turned = -2.0 * A.cast<double>().transpose() * X.cast<double>() + Z.cast<double>();
  W.apply(ctx, Op::transpose, -2, view(X), 1, view(Z));
  EXPECT_LE((Z.cast<double>() - turned).norm(), std::ldexp(turned.norm(), 5 - bits));
  return (Y.cast<double>() - exact).norm() / exact.norm();
}

TEST(DynamicFixedPoint, ProductsOfGaussiansAreRightToThirteenBits) {
  EXPECT_LE(relative_error(16, 150, 1), 0x1p-13);
  EXPECT_LE(relative_error(15, 150, 1), 0x1p-12);
  EXPECT_LE(relative_error(16, 20, 1e25f), 0x1p-12);
}

TEST(DynamicFixedPoint, ScalesBeyondTheRangeOfFloat) {
  Context ctx;
  RowMatrixf A = normal_matrix(4, 6, 1), B = normal_matrix(6, 3, 2);
  for (const auto& [a, b] : {std::pair{1e-25f, 1e-13f}, {1e-30f, 1e-30f}, {1e30f, 1e7f}, {3e38f, 1e-38f}}) {
    const RowMatrixf P = A * (a / A.cwiseAbs().maxCoeff()), Q = B * (b / B.cwiseAbs().maxCoeff());
    RowMatrixf Y(4, 3);
    FixedPointMatrix(ctx, view(P), 16).apply(ctx, Op::none, 1, view(Q), 0, view(Y));
    const Eigen::MatrixXd exact = P.cast<double>() * Q.cast<double>();
    EXPECT_LE((Y.cast<double>() - exact).norm(), 2e-4 * exact.norm() + 12 * 0x1p-149) << a << ' ' << b;
  }
}

/// A product as the training below does it: in f32, or operands in fixed point.
struct Multiply {
  int bits = 0;
  Context ctx = {};
  void operator()(const RowMatrixf& A, bool ta, const RowMatrixf& B, bool tb, RowMatrixf& C) {
    C.resize(ta ? A.cols() : A.rows(), tb ? B.rows() : B.cols());
    if (bits == 0) {
      const auto a = view(A), b = view(B);
      return gemm<float>(ctx, 1, ta ? a.transposed() : a, tb ? b.transposed() : b, 0, view(C));
    }
    const FixedPointMatrix a(ctx, view(A), bits), b(ctx, view(B), bits);
    fixed_point_gemm(ctx, 1, ta ? a.view().transposed() : a.view(), tb ? b.view().transposed() : b.view(), 0, view(C));
  }
};

/// A convolution of 3x3 to 8 channels (as a product of patches), ReLU, and two classes from all positions; bars across
/// or down in noise. Every product, forward and backward, is `multiply`'s; the losses of 60 steps of gradient descent.
std::vector<double> train(Multiply multiply) {
  constexpr Index side = 8, inner = side - 2, places = inner * inner, channels = 8, batch = 32;
  RowMatrixf K = 0.3f * normal_matrix(9, channels, 1), D = 0.05f * normal_matrix(places * channels, 2, 2);
  std::vector<double> losses;
  RowMatrixf H, logits, dD, dH, dK;
  for (Index step = 0; step < 60; ++step) {
    const RowMatrixf noise = normal_matrix(batch, side * side, 100 + static_cast<std::uint64_t>(step % 4));
    RowMatrixf patches(batch * places, 9);
    for (Index n = 0; n < batch; ++n)
      for (Index p = 0; p < places; ++p)
        for (Index q = 0; q < 9; ++q) {
          const Index y = p / inner + q / 3, x = p % inner + q % 3;
          const bool on = (n % 2 == 0 ? x : y) == 2 + n / 2 % 4;
          patches(n * places + p, q) = 0.5f * noise(n, y * side + x) + (on ? 1.0f : 0.0f);
        }
    multiply(patches, false, K, false, H);
    const RowMatrixf active = H.cwiseMax(0.0f);
    const Eigen::Map<const RowMatrixf> flat(active.data(), batch, places * channels);
    multiply(flat, false, D, false, logits);
    RowMatrixf dlogits(batch, 2);
    double loss = 0;
    for (Index n = 0; n < batch; ++n) {
      const float gap = logits(n, 1 - n % 2) - logits(n, n % 2), wrong = 1 / (1 + std::exp(-gap));
      loss += static_cast<double>(std::log1p(std::exp(gap))) / batch;
      dlogits(n, n % 2) = -wrong / batch;
      dlogits(n, 1 - n % 2) = wrong / batch;
    }
    losses.push_back(loss);
    multiply(flat, true, dlogits, false, dD);
    multiply(dlogits, false, D, true, dH);
    const Eigen::Map<const RowMatrixf> spread(dH.data(), batch * places, channels);
    const RowMatrixf through = (H.array() > 0).select(spread, 0.0f);
    multiply(patches, true, through, false, dK);
    K -= 0.1f * dK;
    D -= 0.1f * dD;
  }
  return losses;
}

TEST(DynamicFixedPoint, AConvolutionalNetTrainsAsInFloat) {
  const auto exact = train({}), fixed = train({.bits = 15}), coarse = train({.bits = 4});
  EXPECT_LT(exact.back(), 0.3 * exact.front());
  double worst = 0;
  for (std::size_t s = 0; s < exact.size(); ++s) {
    EXPECT_NEAR(fixed[s], exact[s], 0.01 * exact[s]) << "step " << s;
    worst = std::max(worst, std::abs(coarse[s] - exact[s]) / exact[s]);
  }
  EXPECT_GT(worst, 0.01);  // the comparison can tell
}

}  // namespace
}  // namespace tessera
