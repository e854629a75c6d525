#include <gtest/gtest.h>

#include <Eigen/Core>
#include <Eigen/SVD>
#include <cmath>
#include <limits>
#include <string>

#include <tessera/core/rng.hpp>
#include <tessera/project/best.hpp>
#include <tessera/project/modegpt.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

Eigen::MatrixXd drawn(Index rows, Index cols, std::uint64_t seed) {
  Eigen::MatrixXd A(rows, cols);
  const Philox draws(seed);
  for (Index i = 0; i < A.size(); ++i) A.data()[i] = draws.normal(static_cast<std::uint64_t>(i));
  return A;
}
/// Inputs with a spectrum that falls, so that calibration matters.
Eigen::MatrixXd inputs(Index features, Index samples, std::uint64_t seed) {
  Eigen::MatrixXd mix = drawn(features, features, seed);
  for (Index j = 0; j < features; ++j) mix.col(j) *= std::pow(1.0 + static_cast<double>(j), -0.8);
  return mix * drawn(features, samples, seed + 1);
}

TEST(ModeGpt, NystromIsLeastSquaresAndBeatsRemoval) {
  const Index in = 16, H = 40, k = 28, samples = 400;  // 30% fewer units
  const Eigen::MatrixXd up = drawn(H, in, 1), gate = drawn(H, in, 2), down = drawn(in, H, 3),
                        X = inputs(in, samples, 4);
  const auto hidden = [&](const Eigen::MatrixXd& u, const Eigen::MatrixXd& g) -> Eigen::MatrixXd {
    const Eigen::ArrayXXd z = (g * X).array();
    return (z / (1 + (-z).exp()) * (u * X).array()).matrix();
  };
  const Eigen::MatrixXd A = hidden(up, gate), C = A * A.transpose(), Y = down * A;
  const auto made = nystrom_mlp_compress(up, gate, down, C, k);
  ASSERT_EQ(made.up.rows(), k);
  ASSERT_EQ(made.down.cols(), k);
  const Eigen::MatrixXd kept = hidden(made.up, made.gate);
  const double error = (Y - made.down * kept).norm();
  // Normal equations: what is left is orthogonal to what was kept.
  EXPECT_LT(((Y - made.down * kept) * kept.transpose()).norm(), 1e-6 * (Y * kept.transpose()).norm());
  // Removal of the units with the smallest weights, and of random ones, without a new down projection.
  const auto removal = [&](const std::vector<Index>& units) {
    Eigen::MatrixXd rest = Eigen::MatrixXd::Zero(in, samples);
    for (const Index i : units) rest += down.col(i) * A.row(i);
    return (Y - rest).norm();
  };
  const Eigen::VectorXd size = down.colwise().norm().transpose().cwiseProduct(up.rowwise().norm());
  EXPECT_LT(error, 0.8 * removal(detail::largest(size, k)));
  EXPECT_LT(error, 0.8 * removal(detail::largest(Eigen::VectorXd(drawn(H, 1, 6)), k)));
  // The leverage choice is better than chance under the same update.
  double chance = 0;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const auto units = detail::largest(Eigen::VectorXd(drawn(H, 1, 20 + seed)), k);
    const Eigen::MatrixXd B = detail::rows_of(A, units);
    const Eigen::MatrixXd D = (B * B.transpose()).ldlt().solve(B * Y.transpose()).transpose();
    chance += (Y - D * B).norm() / 5;
  }
  EXPECT_LT(error, chance);
  // Each matrix alone to the rank of as many parameters.
  const Index rank = k * in / (H + in);
  const auto alone = [&](const Eigen::MatrixXd& W) -> Eigen::MatrixXd {
    const ThinFactors f = best_factors(W, rank);
    return f.left * f.right;
  };
  EXPECT_LT(error, 0.8 * (Y - alone(down) * hidden(alone(up), alone(gate))).norm());
  const auto flops_of = [](const auto&... W) { return (flops(Dense<double>(Eigen::MatrixXd(W)), 1) + ...); };
  EXPECT_NEAR(flops_of(made.up, made.gate, made.down), 0.7 * flops_of(up, gate, down), 1e-9);
  EXPECT_THROW(nystrom_mlp_compress(up, gate, down, C, H + 1), shape_error);
}

TEST(ModeGpt, CrKeepsWhatScoresNeed) {
  const Index in = 24, d = 16, k = 12;
  Eigen::MatrixXd q = drawn(d, in, 7), key = drawn(d, in, 8);
  for (Index i = 0; i < d; ++i) q.row(i) *= std::exp(0.3 * static_cast<double>(i % 7));
  const Eigen::MatrixXd X = inputs(in, 200, 9), C = X * X.transpose();
  const auto made = cr_qk_compress(q, key, C, k);
  const Eigen::MatrixXd scores = (q * X).transpose() * (key * X);
  const double error = (scores - (made.query * X).transpose() * (made.key * X)).norm();
  const auto removal = [&](const std::vector<Index>& units) {
    const Eigen::MatrixXd a = detail::rows_of(q, units) * X, b = detail::rows_of(key, units) * X;
    return (scores - a.transpose() * b).norm();
  };
  EXPECT_LT(error, removal(detail::largest(q.rowwise().norm().cwiseProduct(key.rowwise().norm()), k)));
  for (std::uint64_t seed = 0; seed < 5; ++seed)
    EXPECT_LT(error, removal(detail::largest(Eigen::VectorXd(drawn(d, 1, 30 + seed)), k)));
  const Index rank = k * in / (d + in);  // as many parameters
  const ThinFactors a = best_factors(q, rank), b = best_factors(key, rank);
  EXPECT_LT(error, (scores - (a.left * a.right * X).transpose() * (b.left * b.right * X)).norm());
}

TEST(ModeGpt, SvdReachesTheOptimumInTheNormOfTheInputs) {
  const Index in = 24, d = 16, k = 11;
  const Eigen::MatrixXd v = drawn(d, in, 10), o = drawn(in, d, 11), X = inputs(in, 300, 12), C = X * X.transpose();
  const auto made = svd_vo_compress(v, o, C, k);
  EXPECT_EQ(made.value.rows(), k);
  const double error = ((o * v - made.output * made.value) * X).norm();
  const Eigen::VectorXd s = Eigen::JacobiSVD<Eigen::MatrixXd>(o * v * X).singularValues();
  EXPECT_NEAR(error, s.tail(s.size() - k).norm(), 1e-7 * s.norm());
  const ThinFactors plain_v = best_factors(v, k);  // one matrix alone
  EXPECT_LT(error, ((o * v - o * plain_v.left * plain_v.right) * X).norm());
  const auto removal = [&](const std::vector<Index>& units) {
    Eigen::MatrixXd rest = o * v;
    for (const Index i : units) rest -= o.col(i) * v.row(i);
    return (rest * X).norm();
  };
  const Eigen::VectorXd size = o.colwise().norm().transpose().cwiseProduct(v.rowwise().norm());
  EXPECT_LT(error, removal(detail::largest(size, k)));
  for (std::uint64_t seed = 0; seed < 5; ++seed)
    EXPECT_LT(error, removal(detail::largest(Eigen::VectorXd(drawn(d, 1, 40 + seed)), k)));
}

TEST(ModeGpt, SparsityFollowsImportance) {
  Eigen::VectorXd importance(4);
  importance << 0.5, 0.1, 0.3, 0.2;
  const Eigen::VectorXd kept = allocate_sparsity(importance, 0.3);
  EXPECT_NEAR(kept.mean(), 0.7, 1e-9);
  EXPECT_GT(kept[0], kept[2]);
  EXPECT_GT(kept[2], kept[1]);
  EXPECT_GE(allocate_sparsity(importance, 0.6, 0.01).minCoeff(), 0.1 - 1e-12);
}

TEST(ModeGpt, RefusesWhatHasNoShares) {
  const double nan = std::nan("");
  const Eigen::MatrixXd W = drawn(6, 4, 1), C = Eigen::MatrixXd::Identity(4, 4), H = Eigen::MatrixXd::Identity(6, 6);
  Eigen::MatrixXd bad = W;
  bad.row(5).setConstant(nan);
  EXPECT_THROW(cr_qk_compress(bad, W, C, 2), unsupported_error);
  EXPECT_THROW(cr_qk_compress(W, bad, C, 2), unsupported_error);
  EXPECT_THROW(cr_qk_compress(W, W, Eigen::MatrixXd(nan * C), 2), unsupported_error);
  EXPECT_THROW(nystrom_mlp_compress(bad, W, Eigen::MatrixXd(W.transpose()), H, 2), unsupported_error);
  EXPECT_THROW(svd_vo_compress(bad, Eigen::MatrixXd(W.transpose()), C, 2), unsupported_error);
  const Eigen::VectorXd importance = Eigen::VectorXd::LinSpaced(4, 1, 2);
  EXPECT_EQ(allocate_sparsity(Eigen::VectorXd(0), 0.5).size(), 0);
  for (const double sparsity : {-0.1, 1.0, nan})
    EXPECT_THROW(allocate_sparsity(importance, sparsity), unsupported_error) << sparsity;
  for (const double temperature : {0.0, -1.0, nan})
    EXPECT_THROW(allocate_sparsity(importance, 0.5, temperature), unsupported_error) << temperature;
  for (const double least : {-0.1, 0.6, nan})
    EXPECT_THROW(allocate_sparsity(importance, 0.5, 0.1, least), unsupported_error) << least;
  EXPECT_THROW(allocate_sparsity(Eigen::VectorXd::Constant(4, nan), 0.5), unsupported_error);
  EXPECT_THROW(svd_vo_compress(drawn(6, 8, 1), drawn(4, 6, 2), Eigen::MatrixXd(Eigen::MatrixXd::Identity(8, 8)), 5),
               shape_error);
}

TEST(Factors, AreOfAnyScale) {  // where the Gram matrix would be 0 or infinite
  const Eigen::MatrixXd a = Eigen::MatrixXd::Random(12, 7);
  for (const double c : {1e-160, 1e160})
    for (const Eigen::MatrixXd& A : {Eigen::MatrixXd(c * a), Eigen::MatrixXd(c * a.transpose())})
      for (const auto& f : {best_factors(A, 3), randomized_factors(A, 3, {.power_iterations = 6})}) {
        const Eigen::VectorXd exact = Eigen::JacobiSVD<Eigen::MatrixXd>(a).singularValues();
        EXPECT_TRUE((f.values / c).isApprox(exact.head(3), 1e-6));
        EXPECT_NEAR((A - f.left * f.right).stableNorm() / c, exact.tail(4).norm(), 1e-6);
        EXPECT_NEAR(f.left.col(1).norm() / f.right.row(1).norm(), 1, 1e-12);
      }
}

TEST(Factors, RefusesRanksAndTakesEmptyMatrices) {
  const Eigen::MatrixXd W = drawn(6, 4, 3);
  EXPECT_THROW(best_factors(W, -1), shape_error);
  EXPECT_THROW(randomized_factors(W, -1), shape_error);
  EXPECT_THROW(randomized_factors(W, 2, {.oversampling = -1}), unsupported_error);
  EXPECT_EQ(randomized_factors(W, std::numeric_limits<Index>::max()).left.cols(), 4);
  EXPECT_THROW(lord_decompose<float>(W, drawn(4, 4, 4), -1), shape_error);
  EXPECT_EQ(lord_decompose<float>(Eigen::MatrixXd(0, 4), drawn(4, 2, 4), 2).rows(), 0);
}

TEST(Moments, ThatNoInputsHaveAreRefusedByName) {
  const Eigen::MatrixXd W = drawn(6, 4, 1), I = Eigen::MatrixXd::Identity(4, 4);
  const auto expect_refused = [&](const Eigen::MatrixXd& G, const std::string& why) {
    const auto text_of = [&](const auto& use) {
      std::string text = "no error";
      try {
        use();
      } catch (const unsupported_error& e) {
        text = e.what();
      }
      EXPECT_NE(text.find(" 4x4: " + why), std::string::npos) << text;
    };
    text_of([&] { lord_factors(W, G, 2); });
    text_of([&] { project<LowRank<Dense<double>, Dense<double>>>(W, {.rank = 2, .gram = &G}); });
    text_of([&] { project_best<double>(W, 0.5, &G); });
    text_of([&] { cr_qk_compress(W, W, G, 2); });
    text_of([&] { nystrom_mlp_compress(Eigen::MatrixXd(W.transpose()), Eigen::MatrixXd(), W, G, 2); });
    text_of([&] { svd_vo_compress(W, Eigen::MatrixXd(W.transpose()), G, 2); });
  };
  expect_refused(-I, "entry (0,0) is -1;");
  Eigen::MatrixXd G = I;
  G(2, 2) = -3;
  expect_refused(G, "entry (2,2) is -3;");
  G = I;
  G(1, 3) = std::nan("");
  expect_refused(G, "entry (1,3) is nan;");
  G(1, 3) = 0.5;
  expect_refused(G, "entry (1,3) is 0.5, entry (3,1) is 0;");
  G(1, 3) = G(3, 1) = 2;
  expect_refused(G, "it has an eigenvalue below -1e-4 of its trace 4;");
  G(1, 3) = G(3, 1) = 1 + 1e-7;  // sums in f32 may be so far off
  EXPECT_EQ(lord_factors(W, G, 4).left.cols(), 4);
  EXPECT_EQ(lord_factors(W, Eigen::MatrixXd(0 * I), 1).left.cols(), 1);
}

TEST(ProjectBest, RefusesWhatCannotBeCompared) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const Eigen::MatrixXd W = drawn(6, 6, 5), bad = Eigen::MatrixXd::Constant(6, 6, nan), small = drawn(5, 5, 6);
  EXPECT_THROW(project_best<double>(W, 0.5, &bad), unsupported_error);
  EXPECT_THROW(project_best<double>(W, 0.5, &small), shape_error);
  EXPECT_THROW(project_best<double>(bad, 0.5), unsupported_error);
  for (const double budget : {nan, -1.0}) EXPECT_THROW(project_best<double>(W, budget), unsupported_error) << budget;
  const auto all = project_best<double>(W, infinity);
  EXPECT_EQ(project_best<double>(W, 1e20).candidates.size(), all.candidates.size());
  EXPECT_LT(all.candidates.front().weighted_error, 1e-6);
  const auto large = project_best<float>(Eigen::MatrixXd(1e300 * W), 1);  // beyond float
  for (const auto& c : large.candidates) EXPECT_FALSE(std::isnan(c.weighted_error)) << c.name;
  EXPECT_TRUE(project_best<double>(Eigen::MatrixXd(0, 0), infinity).candidates.empty());
}

TEST(ProjectBest, SaysWhoWins) {
  const Eigen::MatrixXd thin = drawn(24, 3, 13) * drawn(3, 24, 14);
  const auto low = project_best<double>(thin, 0.3);
  EXPECT_FALSE(low.beats_low_rank);
  EXPECT_NE(low.verdict().find("none beats low rank"), std::string::npos) << low.verdict();
  EXPECT_FALSE(project_best<double>(thin, 1.0).beats_low_rank);  // by rounding alone
  const Eigen::MatrixXd small = drawn(8, 8, 30), heavy = 1e6 * Eigen::MatrixXd::Identity(8, 8);
  EXPECT_NEAR(project_best<double>(small, 0.15, &heavy).low_rank_error, 1e3 * small.norm(), 1e-6);

  Monarch<double> M(24, 24, 4, 4);
  const Philox draws(15);
  std::uint64_t i = 0;
  for (auto& p : M.parameters()) p = draws.normal(i++);
  const auto best = project_best<double>(M, 0.34);
  EXPECT_TRUE(best.beats_low_rank);
  EXPECT_EQ(best.candidates.front().name, "monarch 4x4");
  EXPECT_LT(best.candidates.front().report.relative_error(), 1e-8);
  EXPECT_NE(best.verdict().find("monarch"), std::string::npos) << best.verdict();
  // The frontier rises in bytes and falls in error; everything is within the budget.
  ASSERT_FALSE(best.frontier.empty());
  for (std::size_t f = 1; f < best.frontier.size(); ++f) {
    EXPECT_GT(best.candidates[best.frontier[f]].report.bytes, best.candidates[best.frontier[f - 1]].report.bytes);
    EXPECT_LE(best.candidates[best.frontier[f]].weighted_error, best.candidates[best.frontier[f - 1]].weighted_error);
  }
  for (const auto& c : best.candidates) EXPECT_LE(c.report.bytes_ratio(), 0.34 + 1e-9) << c.name;

  const auto winner = [](const auto& A, double budget) {  // of a matrix that one structure holds exactly
    const auto found = project_best<double>(A, budget);
    EXPECT_LT(found.candidates.front().report.relative_error(), 1e-7) << found.candidates.front().name;
    EXPECT_TRUE(found.beats_low_rank);
    return found.candidates.front().name;
  };
  const auto sequence = [](Index count, std::uint64_t seed) {
    Buffer<double> t(count);
    for (Index k = 0; k < count; ++k) t[k] = Philox(seed).normal(static_cast<std::uint64_t>(k));
    return t;
  };
  EXPECT_EQ(winner(Toeplitz<double>(12, 20, sequence(31, 18)), 0.2), "Toeplitz");
  EXPECT_EQ(winner(Hankel<double>(12, 20, sequence(31, 19)), 0.2), "Hankel");
  EXPECT_EQ(winner(Circulant<double>(sequence(17, 20)), 0.1), "circulant");
  MonarchChain<double> chain({3, 3, 3});
  for (auto& p : chain.parameters()) p = draws.normal(i++);
  EXPECT_EQ(winner(chain, 0.34), "monarch chain 3x3x3");
  Eigen::MatrixXd blocks = Eigen::MatrixXd::Zero(20, 20);
  for (const Index b : {0, 10}) blocks.block(b, b, 10, 10) = drawn(10, 10, static_cast<std::uint64_t>(21 + b));
  EXPECT_EQ(winner(blocks, 0.7), "2 permuted blocks");

  const Eigen::MatrixXd W = drawn(16, 16, 16), X = inputs(16, 100, 17), G = X * X.transpose();
  const auto calibrated = project_best<double>(W, 0.5, &G);
  for (const auto& c : calibrated.candidates)
    if (c.name.ends_with("calibrated")) {
      EXPECT_NEAR(c.weighted_error, ((W - c.matrix.to_dense()) * X).norm(), 1e-8 * (W * X).norm());
    }
}

}  // namespace
}  // namespace tessera
