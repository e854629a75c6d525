// Recovery of vectors whose support is a Kronecker product.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <support/shared_kernels.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/methods/kron_sbl.hpp>

namespace tessera {
namespace {

struct Problem {
  std::vector<Eigen::MatrixXd> H;
  Eigen::MatrixXd dense;
  Eigen::VectorXd x, y;
  double noise_variance;
};

/// Three factors 5x7 (125 measurements of 343 unknowns), a support of 2x2x2.
Problem make_problem(std::uint64_t seed, double snr_db) {
  Problem p;
  const Index m = 5, n = 7;
  const Philox draws(seed, 0x5b1);
  std::uint64_t at = 0;
  std::vector<Eigen::VectorXd> support;
  p.dense = Eigen::MatrixXd::Ones(1, 1);
  for (int f = 0; f < 3; ++f) {
    Eigen::MatrixXd h(m, n);
    for (Index i = 0; i < h.size(); ++i) h.data()[i] = draws.normal(at++) / std::sqrt(static_cast<double>(m));
    p.H.push_back(h);
    p.dense = kronecker(Eigen::MatrixXd(p.dense), h).to_dense();
    Eigen::VectorXd s = Eigen::VectorXd::Zero(n);
    while (s.sum() < 2) s[static_cast<Index>(draws.below(at++, 7))] = 1;
    support.push_back(s);
  }
  p.x = Eigen::VectorXd::Zero(n * n * n);
  for (Index i = 0; i < p.x.size(); ++i)
    if (support[0][i / 49] * support[1][i / 7 % 7] * support[2][i % 7] > 0) p.x[i] = draws.normal(at++);
  p.y = p.dense * p.x;
  p.noise_variance = p.y.squaredNorm() / static_cast<double>(p.y.size()) * std::pow(10, -snr_db / 10);
  for (double& v : p.y) v += std::sqrt(p.noise_variance) * draws.normal(at++);
  return p;
}

double nmse(const Problem& p, const Eigen::VectorXd& x) { return (x - p.x).squaredNorm() / p.x.squaredNorm(); }

/// Of the 8 largest entries, those in the support.
double support_found(const Problem& p, const Eigen::VectorXd& x) {
  std::vector<Index> order(static_cast<std::size_t>(x.size()));
  std::iota(order.begin(), order.end(), Index{0});
  std::sort(order.begin(), order.end(), [&](Index a, Index b) {
    return std::abs(x[a]) > std::abs(x[b]) || (std::abs(x[a]) == std::abs(x[b]) && a < b);
  });
  int found = 0;
  for (int k = 0; k < 8; ++k) found += p.x[order[static_cast<std::size_t>(k)]] != 0;
  return found / 8.0;
}

Eigen::VectorXd orthogonal_matching_pursuit(const Problem& p, int atoms) {
  Eigen::VectorXd rest = p.y, x = Eigen::VectorXd::Zero(p.x.size());
  std::vector<Index> chosen;
  for (int k = 0; k < atoms; ++k) {
    Index best = 0;
    (p.dense.transpose() * rest).cwiseAbs().cwiseQuotient(p.dense.colwise().norm().transpose()).maxCoeff(&best);
    chosen.push_back(best);
    Eigen::MatrixXd A(p.y.size(), k + 1);
    for (int c = 0; c <= k; ++c) A.col(c) = p.dense.col(chosen[static_cast<std::size_t>(c)]);
    const Eigen::VectorXd fit = A.householderQr().solve(p.y);
    rest = p.y - A * fit;
    x.setZero();
    for (int c = 0; c <= k; ++c) x[chosen[static_cast<std::size_t>(c)]] = fit[c];
  }
  return x;
}

Eigen::VectorXd plain_sbl(const Problem& p, int iterations) {
  Eigen::VectorXd gamma = Eigen::VectorXd::Ones(p.x.size()), mean;
  for (int k = 0; k < iterations; ++k) {
    const Eigen::MatrixXd HG = p.dense * gamma.asDiagonal();
    Eigen::MatrixXd C = HG * p.dense.transpose();
    C.diagonal().array() += p.noise_variance;
    const Eigen::LLT<Eigen::MatrixXd> llt(C);
    mean = HG.transpose() * llt.solve(p.y);
    const Eigen::VectorXd spent = HG.cwiseProduct(llt.solve(HG)).colwise().sum();
    gamma = mean.cwiseAbs2() + (gamma - spent).cwiseMax(0);
  }
  return mean;
}

TEST(KronSbl, PosteriorIsThatOfTheDenseProduct) {
  const Problem p = make_problem(1, 20);
  KronSblOptions<double> options;
  options.iterations = 1;
  const auto one = kron_sbl(p.H, p.y, p.noise_variance, options);  // with unit variances
  Eigen::MatrixXd C = p.dense * p.dense.transpose();
  C.diagonal().array() += p.noise_variance;
  EXPECT_LE((one.x - p.dense.transpose() * C.llt().solve(p.y)).norm(), 1e-10 * one.x.norm());
  const double expected = -0.5 * (std::log(C.determinant()) + p.y.dot(C.llt().solve(p.y)));
  if (std::isfinite(expected)) {
    EXPECT_NEAR(one.log_likelihood[0], expected, 1e-8 * std::abs(expected));
  }
}

TEST(KronSbl, AlternatingNeverLowersTheLikelihood) {
  const Problem p = make_problem(2, 15);
  const auto result = kron_sbl(p.H, p.y, p.noise_variance);
  for (std::size_t k = 1; k < result.log_likelihood.size(); ++k)
    EXPECT_GE(result.log_likelihood[k], result.log_likelihood[k - 1] - 1e-9 * std::abs(result.log_likelihood[k - 1]));
}

TEST(KronSbl, RecoversBetterThanWhatIgnoresTheStructureSlow) {
  double found[4] = {}, error[4] = {};  // alternating, svd, plain SBL, OMP; errors in dB
  for (const double snr : {10.0, 20.0, 30.0}) {
    double each[4] = {};
    for (std::uint64_t seed = 10; seed < 16; ++seed) {
      const Problem p = make_problem(seed, snr);
      KronSblOptions<double> options;
      options.iterations = 300;
      const auto a = kron_sbl(p.H, p.y, p.noise_variance, options).x;
      options.method = KronSblMethod::svd;
      const auto s = kron_sbl(p.H, p.y, p.noise_variance, options).x;
      const Eigen::VectorXd all[] = {a, s, plain_sbl(p, 60), orthogonal_matching_pursuit(p, 8)};
      for (std::size_t k = 0; k < 4; ++k) {
        each[k] += nmse(p, all[k]) / 6;
        found[k] += support_found(p, all[k]) / 18;
      }
    }
    std::printf("SNR %g dB: NMSE alternating %.2e, svd %.2e, plain SBL %.2e, OMP %.2e\n", snr, each[0], each[1],
                each[2], each[3]);
    EXPECT_LT(each[0], each[2]) << snr;
    EXPECT_LT(each[1], each[2]) << snr;
    for (std::size_t k = 0; k < 4; ++k) error[k] += 10 * std::log10(each[k]) / 3;
  }
  std::printf("support %.2f %.2f %.2f %.2f, mean NMSE %.1f %.1f %.1f %.1f dB\n", found[0], found[1], found[2], found[3],
              error[0], error[1], error[2], error[3]);
  // OMP is told how many entries there are and wins where it guesses them all: on average it does not.
  EXPECT_LT(error[1], error[3]);
  EXPECT_GT(found[1], found[2]);
  EXPECT_GT(found[1], found[3]);
}

TEST(KronSbl, RefusesWhatDoesNotFit) {
  const Problem p = make_problem(1, 20);
  EXPECT_THROW(kron_sbl(p.H, Eigen::VectorXd(p.y.head(5)), 0.1), shape_error);
  EXPECT_THROW(kron_sbl(p.H, p.y, 0.0), shape_error);
  EXPECT_THROW(kron_sbl<double>({p.H[0], Eigen::MatrixXd(0, 3)}, Eigen::VectorXd(0), 0.1), shape_error);
}

}  // namespace
}  // namespace tessera
