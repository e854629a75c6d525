// Vectors as tokens: finite scalar quantization and codebooks.
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cmath>
#include <vector>

#include <support/oracle.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/quant/finite_scalar.hpp>
#include <tessera/quant/vector_quantizer.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Rows random_rows(Index rows, Index cols, std::uint64_t seed) {
  Rows M(rows, cols);
  const Philox draws(seed);
  for (Index i = 0; i < M.size(); ++i) M.data()[i] = static_cast<float>(draws.normal(static_cast<std::uint64_t>(i)));
  return M;
}

TEST(FiniteScalar, EveryTokenComesBack) {
  Context ctx;
  const FiniteScalarQuantizer fsq({2, 3, 4, 5});
  ASSERT_EQ(fsq.tokens(), 120);
  std::vector<std::int64_t> all(120), back(120);
  for (std::size_t t = 0; t < all.size(); ++t) all[t] = static_cast<std::int64_t>(t);
  Rows values(120, 4);
  fsq.decode(ctx, all, view(values));
  Rows latents = values;  // tanh bounds: its inverse, at the ends any large number
  for (Index i = 0; i < latents.size(); ++i) {
    const float v = values.data()[i];
    latents.data()[i] = std::abs(v) == 1 ? 30 * v : std::atanh(v);
  }
  fsq.encode(ctx, view(latents), back);
  EXPECT_EQ(all, back);
}

TEST(FiniteScalar, RoundsByHalfAStepAndPassesGradientsStraightThrough) {
  Context ctx;
  const FiniteScalarQuantizer fsq({8, 5, 5});
  const Rows Z = random_rows(500, 3, 1), dQ = random_rows(500, 3, 2);
  Rows Q(500, 3), dZ(500, 3);
  fsq.quantize(ctx, view(Z), view(Q));
  fsq.backward(ctx, view(Z), view(dQ), view(dZ));
  for (Index t = 0; t < 500; ++t)
    for (Index i = 0; i < 3; ++i) {
      const float half = 1.0f / static_cast<float>(fsq.levels()[static_cast<std::size_t>(i)] - 1);
      ASSERT_LE(std::abs(Q(t, i) - std::tanh(Z(t, i))), half * 1.00001f);
      const float slope = 1 - std::tanh(Z(t, i)) * std::tanh(Z(t, i));
      ASSERT_FLOAT_EQ(dZ(t, i), dQ(t, i) * slope);
    }
  EXPECT_EQ(fsq.digit(0, std::nanf("")), 4);  // the middle
}

TEST(FiniteScalar, RefusesWhatDoesNotFit) {
  Context ctx;
  EXPECT_THROW(FiniteScalarQuantizer({3, 1}), shape_error);
  EXPECT_THROW(FiniteScalarQuantizer(std::vector<int>(64, 1000)), shape_error);
  const FiniteScalarQuantizer fsq({3, 3});
  Rows Z(2, 3), Q(2, 2);
  std::vector<std::int64_t> tokens(2, 9);
  EXPECT_THROW(fsq.encode(ctx, view(Z), tokens), shape_error);
  EXPECT_THROW(fsq.decode(ctx, tokens, view(Q)), shape_error);
}

std::vector<std::int32_t> brute_force(const Rows& Z, const Rows& C) {
  std::vector<std::int32_t> ids;
  for (Index t = 0; t < Z.rows(); ++t) {
    Index best = 0;
    double least = INFINITY;
    for (Index k = 0; k < C.rows(); ++k) {
      const double d = (Z.row(t).cast<double>() - C.row(k).cast<double>()).squaredNorm();
      if (d < least) {
        least = d;
        best = k;
      }
    }
    ids.push_back(static_cast<std::int32_t>(best));
  }
  return ids;
}

TEST(VectorQuantizer, TheNearestEntryIsThatOfTheObviousLoopTiesIncluded) {
  for (const Index threads : {1, 2}) {
    Context ctx = Context::with_threads(threads);
    for (const auto& [n, K, d] : {std::array<Index, 3>{1, 1, 1}, {300, 77, 12}, {513, 256, 5}, {3, 9, 0}}) {
      Rows Z = random_rows(n, d, 3), C = random_rows(K, d, 4);
      if (K > 10 && d > 0) {
        C.row(9) = C.row(3);                      // equal entries: the first
        Z.row(1) = 0.5f * (C.row(5) + C.row(7));  // nearly between two
        C.row(10) = C.row(11) = C.row(2) * 1.0000001f;
        Z.row(2) = C.row(2);
      }
      std::vector<std::int32_t> ids(static_cast<std::size_t>(n));
      vq_assign(ctx, view(Z), view(C), ids);
      EXPECT_EQ(ids, brute_force(Z, C)) << n << ' ' << K << ' ' << d;
    }
  }
}

TEST(VectorQuantizer, GradientsAreStraightThroughAndThoseOfTheTwoLosses) {
  Context ctx;
  const Rows Z = random_rows(40, 6, 5), dQ = random_rows(40, 6, 6);
  Rows C = random_rows(8, 6, 7), dZ(40, 6), dC = Rows::Zero(8, 6);
  std::vector<std::int32_t> ids(40);
  vq_assign(ctx, view(Z), view(C), ids);
  vq_backward(ctx, view(Z), view(C), ids, view(dQ), 0.0f, view(dZ), view(dC));
  EXPECT_EQ(dZ, dQ);
  vq_backward(ctx, view(Z), view(C), ids, view(dQ), 0.25f, view(dZ), view(dC));
  dC.setZero();
  vq_backward(ctx, view(Z), view(C), ids, view(dQ), 0.25f, view(dZ), view(dC));
  for (const auto& [k, i] : {std::pair<Index, Index>{0, 0}, {3, 4}, {7, 5}}) {
    const float h = 0.01f, old = C(k, i);
    C(k, i) = old + h;
    const double up = vq_distortion(view(Z), view(C), ids);
    C(k, i) = old - h;
    const double down = vq_distortion(view(Z), view(C), ids);
    C(k, i) = old;
    EXPECT_NEAR(static_cast<double>(dC(k, i)), (up - down) / (2 * static_cast<double>(h)), 1e-4);
  }
  for (Index t = 0; t < 40; t += 7)
    EXPECT_NEAR(dZ(t, 2), dQ(t, 2) + 0.25f * 2 * (Z(t, 2) - C(ids[static_cast<std::size_t>(t)], 2)) / 40, 1e-6f);
  // Entries moved to the mean of their vectors (a step of size 1 on each entry's own count) lose no quality.
  const double before = vq_distortion(view(Z), view(C), ids);
  for (Index k = 0; k < 8; ++k) {
    const auto count = std::count(ids.begin(), ids.end(), static_cast<std::int32_t>(k));
    if (count > 0) C.row(k) -= dC.row(k) * (40.0f / (2.0f * static_cast<float>(count)));
  }
  vq_assign(ctx, view(Z), view(C), ids);
  EXPECT_LT(vq_distortion(view(Z), view(C), ids), before);
}

TEST(VectorQuantizer, MovingAveragesLowerTheDistortionEachPass) {
  Context ctx;
  const Rows Z = random_rows(400, 4, 9);
  Rows C = random_rows(16, 4, 10);
  CodebookAverages averages(view(C));
  std::vector<std::int32_t> ids(400);
  vq_assign(ctx, view(Z), view(C), ids);
  double last = vq_distortion(view(Z), view(C), ids);
  for (int pass = 0; pass < 12; ++pass) {
    averages.update(view(Z), ids, 0.5, view(C));
    vq_assign(ctx, view(Z), view(C), ids);
    const double now = vq_distortion(view(Z), view(C), ids);
    EXPECT_LE(now, last * (1 + 1e-9)) << "pass " << pass;
    last = now;
  }
  Rows wrong(15, 4);
  EXPECT_THROW(averages.update(view(Z), ids, 0.5, view(wrong)), shape_error);
}

TEST(VectorQuantizer, DecodesAndRefuses) {
  Context ctx;
  const Rows C = random_rows(4, 3, 8);
  Rows Q(2, 3), wrong(2, 4);
  const std::vector<std::int32_t> ids = {3, 0}, bad = {4, 0};
  vq_decode(ctx, ids, view(C), view(Q));
  EXPECT_EQ(Q.row(0), C.row(3));
  EXPECT_THROW(vq_decode(ctx, bad, view(C), view(Q)), shape_error);
  EXPECT_THROW(vq_decode(ctx, ids, view(C), view(wrong)), shape_error);
  std::vector<std::int32_t> out(2);
  const Rows none(0, 3);
  EXPECT_THROW(vq_assign(ctx, view(Q), view(none), out), shape_error);
  Q(0, 1) = std::nanf("");
  vq_assign(ctx, view(Q), view(C), out);
  EXPECT_EQ(out[0], 0);
}

}  // namespace
}  // namespace tessera::test
