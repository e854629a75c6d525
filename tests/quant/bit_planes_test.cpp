// Bit planes: every kernel equals the integer product, bipolar codes are symmetric, operators match their dense values.
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cmath>
#include <limits>
#include <string>

#include <support/oracle.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/quant/bit_planes.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

Eigen::MatrixXf random_values(Index rows, Index cols, std::uint64_t seed) {
  Eigen::MatrixXf M(rows, cols);
  const Philox draws(seed);
  for (Index i = 0; i < M.size(); ++i) M.data()[i] = static_cast<float>(draws.normal(static_cast<std::uint64_t>(i)));
  return M;
}

BitPlanes planes_of(Index rows, Index k, Index bits, PlaneCodes codes, std::uint64_t seed) {
  Context ctx;
  const Eigen::MatrixXf values = random_values(rows, k, seed);
  return BitPlanes::quantize(ctx, view(values), bits, codes);
}

Eigen::MatrixXi integers(const BitPlanes& p, bool level) {
  Eigen::MatrixXi M(p.view().rows, p.view().k);
  for (Index i = 0; i < M.rows(); ++i)
    for (Index k = 0; k < M.cols(); ++k) M(i, k) = level ? p.level(i, k) : p.code(i, k);
  return M;
}

void expect_exact(Context& ctx, const std::string& kernel, Index m, Index n, Index k, Index p, Index q,
                  PlaneCodes codes) {
  const BitPlanes W = planes_of(m, k, p, codes, 1), X = planes_of(n, k, q, codes, 2);
  const bool bipolar = codes == PlaneCodes::bipolar;
  const Eigen::MatrixXi expected = integers(W, bipolar) * integers(X, bipolar).transpose();
  Eigen::MatrixXi Y = Eigen::MatrixXi::Constant(m, n, -77);
  bitplane_gemm(ctx, W.view(), X.view(), codes, MatrixView<std::int32_t>(Y.data(), {m, n}, {1, m}));
  ASSERT_EQ(Y, expected) << kernel << ' ' << m << 'x' << n << 'x' << k << ", " << p << " and " << q << " bits";
}

TEST(BitPlanes, EveryKernelIsExactForAllWidths) {
  for (const auto& entry : BitplaneKernels::entries<BitplaneArgs>()) {
    if (!active_isa().has(entry.isa)) {
      std::printf("skipped: %s\n", std::string(entry.name).c_str());
      continue;
    }
    for (const Index threads : {1, 2, 3}) {
      Context ctx = Context::with_threads(threads);
      ctx.force(entry.name);
      for (const auto codes : {PlaneCodes::unsigned_codes, PlaneCodes::bipolar}) {
        for (Index p = 1; p <= 8 && threads == 1; ++p)
          for (Index q = 1; q <= 8; ++q) expect_exact(ctx, std::string(entry.name), 5, 3, 130, p, q, codes);
        for (const Index k : {1, 63, 64, 65, 511, 512, 513, 1100})
          expect_exact(ctx, std::string(entry.name), 9, 4, k, 3, 2, codes);
        for (const auto& [m, n] : {std::pair<Index, Index>{1, 1}, {4, 1}, {1, 5}, {70, 33}})
          expect_exact(ctx, std::string(entry.name), m, n, 200, 2, 4, codes);
      }
    }
  }
}

TEST(BitPlanes, BipolarCodesAreSymmetricAndHaveNoZero) {
  Context ctx;
  Eigen::MatrixXf X = random_values(3, 77, 3);
  X(0, 5) = 0.0f;
  X(1, 6) = -0.0f;
  const Eigen::MatrixXf minus = -X;
  for (Index bits = 1; bits <= 8; ++bits) {
    const auto a = BitPlanes::quantize(ctx, view(X), bits, PlaneCodes::bipolar);
    const auto b = BitPlanes::quantize(ctx, view(minus), bits, PlaneCodes::bipolar);
    for (Index i = 0; i < 3; ++i)
      for (Index k = 0; k < 77; ++k) {
        ASSERT_EQ(a.level(i, k), -b.level(i, k)) << bits << " bits";
        ASSERT_NE(a.level(i, k), 0);
        ASSERT_LE(std::abs(a.value(i, k) - X(i, k)), a.scale(i) * 1.00001f);
      }
  }
}

TEST(BitPlanes, UnsignedCodesAreWithinHalfAStepOrTheZeroPointsRounding) {
  Context ctx;
  const Eigen::MatrixXf X = random_values(4, 300, 4);
  for (Index bits = 1; bits <= 8; ++bits) {
    const auto a = BitPlanes::quantize(ctx, view(X), bits, PlaneCodes::unsigned_codes);
    for (Index i = 0; i < 4; ++i)
      for (Index k = 0; k < 300; ++k) ASSERT_LE(std::abs(a.value(i, k) - X(i, k)), a.scale(i) * 1.00001f);
  }
  const auto planes = BitPlanes::quantize(ctx, view(X), 2, PlaneCodes::unsigned_codes);
  EXPECT_EQ(planes.bytes(), 4 * (2 * 512 / 8 + 12u));
}

TEST(BitPlanes, TheOperatorIsItsDenseValueTimesRoundedActivations) {
  Context ctx;
  const Eigen::MatrixXf W = random_values(37, 90, 5), X = random_values(90, 6, 6);
  for (const auto codes : {PlaneCodes::unsigned_codes, PlaneCodes::bipolar})
    for (const Index bits : {2, 8}) {
      const BitPlaneMatrix A(ctx, view(W), bits, 8, codes);
      const auto x = BitPlanes::quantize(ctx, view(X).transposed(), 8, codes);
      Eigen::MatrixXf rounded(90, 6);
      for (Index j = 0; j < 6; ++j)
        for (Index k = 0; k < 90; ++k) rounded(k, j) = x.value(j, k);
      const Eigen::MatrixXf Y = A * X;
      EXPECT_TRUE(Y.isApprox(A.to_dense() * rounded, 1e-5f));
      const Eigen::MatrixXf T = transpose(A) * Y;
      EXPECT_TRUE(T.isApprox(A.to_dense().transpose() * Y, 1e-5f));
      Eigen::MatrixXf Z = Eigen::MatrixXf::Ones(37, 6);
      A.apply(ctx, Op::none, 2.0f, view(X), -1.0f, view(Z));
      EXPECT_TRUE(Z.isApprox(2 * Y - Eigen::MatrixXf::Ones(37, 6), 1e-5f));
      if (bits == 8) {
        EXPECT_LT((Y - W * X).norm() / (W * X).norm(), 0.02f);
      }
    }
}

TEST(BitPlanes, EdgesAndRefusals) {
  Context ctx;
  Eigen::MatrixXf X = random_values(3, 10, 7);
  X(1, 4) = std::numeric_limits<float>::infinity();
  X.row(2).setZero();
  const BitPlaneMatrix A(ctx, view(X), 4, 4);
  const Eigen::VectorXf y = A * Eigen::VectorXf::Ones(10);
  EXPECT_TRUE(std::isfinite(y[0]));
  EXPECT_FALSE(std::isfinite(y[1]));
  EXPECT_EQ(y[2], 0.0f);
  EXPECT_THROW(BitPlaneMatrix(ctx, view(X), 0, 4), shape_error);
  EXPECT_THROW(BitPlaneMatrix(ctx, view(X), 4, 9), shape_error);
  const auto a = planes_of(2, 10, 3, PlaneCodes::bipolar, 8), b = planes_of(2, 11, 3, PlaneCodes::bipolar, 9);
  Eigen::MatrixXi Y(2, 2);
  EXPECT_THROW(bitplane_gemm(ctx, a.view(), b.view(), PlaneCodes::bipolar, MatrixView<std::int32_t>(Y.data(), 2, 2)),
               shape_error);
  const auto none = planes_of(0, 10, 3, PlaneCodes::bipolar, 8);
  Eigen::MatrixXi E(0, 2);
  bitplane_gemm(ctx, none.view(), a.view(), PlaneCodes::bipolar, MatrixView<std::int32_t>(E.data(), 0, 2));
  const Eigen::MatrixXf W(3, 0);
  const BitPlaneMatrix B(ctx, view(W), 2, 2);
  EXPECT_EQ(Eigen::MatrixXf(B * Eigen::MatrixXf(0, 2)), (Eigen::MatrixXf::Zero(3, 2)));
}

}  // namespace
}  // namespace tessera::test
