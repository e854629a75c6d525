// Recovery of vectors whose support is a Kronecker product.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdio>
#include <ctime>
#include <limits>
#include <numeric>
#include <vector>

#include <tessera/core/rng.hpp>
#include <tessera/methods/kron_sbl.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

using Complex = std::complex<double>;

/// A standard normal number, of variance 1 in both parts together.
template <class S>
S normal(const Philox& draws, std::uint64_t& at) {
  if constexpr (std::is_same_v<S, double>) {
    return draws.normal(at++);
  } else {
    const double re = draws.normal(at++), im = draws.normal(at++);
    return Complex(re, im) * std::sqrt(0.5);
  }
}

template <class S>
Eigen::MatrixX<S> dense_kronecker(const std::vector<Eigen::MatrixX<S>>& H) {
  Eigen::MatrixX<S> product = Eigen::MatrixX<S>::Ones(1, 1);
  for (const auto& h : H) {
    Eigen::MatrixX<S> next(product.rows() * h.rows(), product.cols() * h.cols());
    for (Index i = 0; i < product.rows(); ++i)
      for (Index j = 0; j < product.cols(); ++j)
        next.block(i * h.rows(), j * h.cols(), h.rows(), h.cols()) = product(i, j) * h;
    product = next;
  }
  return product;
}

struct Shape {
  Index m = 5, n = 7, active = 2, block = 1;  // of each of three factors; blocks that are not zero
  bool sampled = false;                       // m rows of a Fourier transform of n, instead of normal numbers
};

template <class S>
struct Problem {
  std::vector<Eigen::MatrixX<S>> H;
  Eigen::MatrixX<S> dense;
  Eigen::VectorX<S> x, y;
  double noise_variance;
  Index nonzeros;
};

template <class S = double>
Problem<S> make_problem(std::uint64_t seed, double snr_db, Shape s = {}) {
  Problem<S> p;
  const Philox draws(seed, 0x5b1);
  std::uint64_t at = 0;
  std::vector<Eigen::VectorXd> support;
  for (int f = 0; f < 3; ++f) {
    Eigen::MatrixX<S> h(s.m, s.n);
    for (Index i = 0; i < h.size(); ++i) h.data()[i] = normal<S>(draws, at) / std::sqrt(static_cast<double>(s.m));
    if constexpr (std::is_same_v<S, Complex>) {
      std::vector<Index> rows(static_cast<std::size_t>(s.n));
      std::iota(rows.begin(), rows.end(), Index{0});
      for (std::size_t i = 0; s.sampled && i < static_cast<std::size_t>(s.m); ++i) {
        std::swap(rows[i], rows[i + draws.below(at++, rows.size() - i)]);
        for (Index j = 0; j < s.n; ++j)
          h(static_cast<Index>(i), j) =
              std::polar(1 / std::sqrt(static_cast<double>(s.m)),
                         -2 * std::acos(-1.0) * static_cast<double>(rows[i] * j) / static_cast<double>(s.n));
      }
    }
    p.H.push_back(h);
    Eigen::VectorXd some = Eigen::VectorXd::Zero(s.n);
    while (some.sum() < static_cast<double>(s.active * s.block))
      some.segment(static_cast<Index>(draws.below(at++, static_cast<std::uint64_t>(s.n / s.block))) * s.block, s.block)
          .setOnes();
    support.push_back(some);
  }
  p.dense = dense_kronecker(p.H);
  p.x = Eigen::VectorX<S>::Zero(p.dense.cols());
  for (Index i = 0; i < p.x.size(); ++i)
    if (support[0][i / s.n / s.n] * support[1][i / s.n % s.n] * support[2][i % s.n] > 0) p.x[i] = normal<S>(draws, at);
  p.y = p.dense * p.x;
  p.noise_variance = p.y.squaredNorm() / static_cast<double>(p.y.size()) * std::pow(10, -snr_db / 10);
  for (S& v : p.y) v += std::sqrt(p.noise_variance) * normal<S>(draws, at);
  p.nonzeros = (p.x.array() != S(0)).count();
  return p;
}

template <class S>
double nmse(const Problem<S>& p, const Eigen::VectorX<S>& x) {
  return (x - p.x).squaredNorm() / p.x.squaredNorm();
}

/// Of as many largest entries as the support has, those in it.
template <class S>
double support_found(const Problem<S>& p, const Eigen::VectorX<S>& x) {
  std::vector<Index> order(static_cast<std::size_t>(x.size()));
  std::iota(order.begin(), order.end(), Index{0});
  std::sort(order.begin(), order.end(),
            [&](Index a, Index b) { return std::pair(-std::abs(x[a]), a) < std::pair(-std::abs(x[b]), b); });
  double found = 0;
  for (Index k = 0; k < p.nonzeros; ++k) found += p.x[order[static_cast<std::size_t>(k)]] != S(0);
  return found / static_cast<double>(p.nonzeros);
}

/// Told how many entries there are.
template <class S>
Eigen::VectorX<S> orthogonal_matching_pursuit(const Problem<S>& p) {
  Eigen::VectorX<S> rest = p.y, x = Eigen::VectorX<S>::Zero(p.x.size());
  std::vector<Index> chosen;
  for (Index k = 0; k < p.nonzeros; ++k) {
    Index best = 0;
    (p.dense.adjoint() * rest).cwiseAbs().cwiseQuotient(p.dense.colwise().norm().transpose()).maxCoeff(&best);
    chosen.push_back(best);
    Eigen::MatrixX<S> A(p.y.size(), k + 1);
    for (Index c = 0; c <= k; ++c) A.col(c) = p.dense.col(chosen[static_cast<std::size_t>(c)]);
    const Eigen::VectorX<S> fit = (A.adjoint() * A).ldlt().solve(A.adjoint() * p.y);
    rest = p.y - A * fit;
    x.setZero();
    for (Index c = 0; c <= k; ++c) x[chosen[static_cast<std::size_t>(c)]] = fit[c];
  }
  return x;
}

template <class S>
Eigen::VectorX<S> plain_sbl(const Problem<S>& p, int iterations) {
  Eigen::VectorXd gamma = Eigen::VectorXd::Ones(p.x.size());
  Eigen::VectorX<S> mean;
  for (int k = 0; k < iterations; ++k) {
    const Eigen::MatrixX<S> HG = p.dense * gamma.asDiagonal();
    Eigen::MatrixX<S> C = HG * p.dense.adjoint();
    C.diagonal().array() += p.noise_variance;
    const Eigen::LLT<Eigen::MatrixX<S>> llt(C);
    mean = HG.adjoint() * llt.solve(p.y);
    const Eigen::VectorXd spent = llt.matrixL().solve(HG).colwise().squaredNorm();
    gamma = mean.cwiseAbs2() + (gamma - spent).cwiseMax(0);
  }
  return mean;
}

template <class S>
void expect_dense_posterior() {
  const auto p = make_problem<S>(1, 20);
  KronSblOptions<double> options;
  options.iterations = 1;
  const auto one = kron_sbl(p.H, p.y, p.noise_variance, options);  // with unit variances
  Eigen::MatrixX<S> C = p.dense * p.dense.adjoint();
  C.diagonal().array() += p.noise_variance;
  const Eigen::LLT<Eigen::MatrixX<S>> llt(C);
  EXPECT_LE((one.x - p.dense.adjoint() * llt.solve(p.y)).norm(), 1e-10 * one.x.norm());
  const double half = Eigen::NumTraits<S>::IsComplex ? 1 : 0.5;
  const double expected = -half * (2 * llt.matrixLLT().diagonal().real().array().log().sum() +
                                   std::real(p.y.dot(Eigen::VectorX<S>(llt.solve(p.y)))));
  EXPECT_NEAR(one.log_likelihood[0], expected, 1e-9 * std::abs(expected));
}
TEST(KronSbl, PosteriorIsThatOfTheDenseProduct) {
  expect_dense_posterior<double>();
  expect_dense_posterior<Complex>();
}

TEST(KronSbl, ProductsAreThoseOfTheDenseProduct) {
  const Philox draws(4);
  std::uint64_t at = 0;
  std::vector<Eigen::MatrixXcd> H{{3, 4}, {2, 5}, {4, 1}, {6, 3}};
  for (auto& h : H)
    for (Index i = 0; i < h.size(); ++i) h.data()[i] = normal<Complex>(draws, at);
  const Eigen::MatrixXcd dense = dense_kronecker(H);
  Eigen::VectorXcd x(dense.cols()), y(dense.rows());
  for (Complex& v : x) v = normal<Complex>(draws, at);
  for (Complex& v : y) v = normal<Complex>(draws, at);
  const Eigen::VectorXcd Hx = dense * x, Hy = dense.adjoint() * y;
  EXPECT_LE((detail::kron_times(H, Op::none, x) - Hx).norm(), 1e-10 * Hx.norm());
  EXPECT_LE((detail::kron_times(H, Op::transpose, y) - Hy).norm(), 1e-10 * Hy.norm());
}

template <class S>
void expect_rising(Shape shape, std::vector<Index> blocks) {
  const auto p = make_problem<S>(2, 15, shape);
  KronSblOptions<double> options;
  options.blocks = std::move(blocks);
  const auto result = kron_sbl(p.H, p.y, p.noise_variance, options);
  EXPECT_GT(result.log_likelihood.size(), 5u);
  for (std::size_t k = 1; k < result.log_likelihood.size(); ++k)
    EXPECT_GE(result.log_likelihood[k], result.log_likelihood[k - 1] - 1e-9 * std::abs(result.log_likelihood[k - 1]));
}
TEST(KronSbl, AlternatingNeverLowersTheLikelihood) {
  expect_rising<double>({}, {});
  expect_rising<Complex>({}, {});
  expect_rising<double>({.m = 5, .n = 8, .active = 1, .block = 2}, {2, 4, 1});
  expect_rising<Complex>({.m = 4, .n = 6, .active = 1, .block = 2}, {2, 2, 2});
}

TEST(KronSbl, ComplexOfRealsIsReal) {
  const auto p = make_problem(3, 20);
  std::vector<Eigen::MatrixXcd> H;
  for (const auto& h : p.H) H.push_back(h.cast<Complex>());
  KronSblOptions<double> options;
  options.iterations = 10;
  options.tolerance = 0;
  const auto real = kron_sbl(p.H, p.y, p.noise_variance, options);
  const auto complex = kron_sbl(H, Eigen::VectorXcd(p.y.cast<Complex>()), p.noise_variance, options);
  EXPECT_LE((complex.x - real.x.cast<Complex>()).norm(), 1e-9 * real.x.norm());
  EXPECT_NEAR(complex.log_likelihood.back(), 2 * real.log_likelihood.back(),
              1e-9 * std::abs(real.log_likelihood.back()));
}

/// Alternating, svd, plain SBL and OMP, the mean over problems.
template <class S>
void compare(Shape shape, std::uint64_t problems, int plain_iterations) {
  double found[4] = {}, error[4] = {}, seconds[2] = {};  // errors in dB
  std::size_t iterations[2] = {};
  for (const double snr : {10.0, 20.0, 30.0}) {
    double each[4] = {}, each_found[4] = {};
    for (std::uint64_t seed = 10; seed < 10 + problems; ++seed) {
      const auto p = make_problem<S>(seed, snr, shape);
      KronSblOptions<double> options;
      options.iterations = 300;
      const auto solve = [&](KronSblMethod method) {
        const auto start = std::clock();
        options.method = method;
        auto result = kron_sbl(p.H, p.y, p.noise_variance, options);
        seconds[static_cast<int>(method)] += static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
        iterations[static_cast<int>(method)] += result.log_likelihood.size();
        return result.x;
      };
      const Eigen::VectorX<S> a = solve(KronSblMethod::alternating), s = solve(KronSblMethod::svd);
      const Eigen::VectorX<S> all[] = {a, s, plain_sbl(p, plain_iterations), orthogonal_matching_pursuit(p)};
      for (std::size_t k = 0; k < 4; ++k) {
        each[k] += nmse(p, all[k]) / static_cast<double>(problems);
        each_found[k] += support_found(p, all[k]) / static_cast<double>(problems);
      }
    }
    std::printf("SNR %g dB: NMSE alternating %.2e, svd %.2e, plain SBL %.2e, OMP %.2e; support %.2f %.2f %.2f %.2f\n",
                snr, each[0], each[1], each[2], each[3], each_found[0], each_found[1], each_found[2], each_found[3]);
    for (std::size_t other = 2; other < 4; ++other) {
      EXPECT_LT(each[0], each[other]) << snr;
      EXPECT_GE(each_found[0], each_found[other]) << snr;
    }
    for (std::size_t k = 0; k < 4; ++k) found[k] += each_found[k] / 3;
    for (std::size_t k = 0; k < 4; ++k) error[k] += 10 * std::log10(each[k]) / 3;
  }
  std::printf("support %.2f %.2f %.2f %.2f, mean NMSE %.1f %.1f %.1f %.1f dB\n", found[0], found[1], found[2], found[3],
              error[0], error[1], error[2], error[3]);
  std::printf("alternating: %zu iterations, %.2f s; svd: %zu, %.2f s\n", iterations[0], seconds[0], iterations[1],
              seconds[1]);
  EXPECT_LT(iterations[1], iterations[0]);  // SVDs are faster: an iteration of either costs the same
  for (std::size_t k = 0; k < 2; ++k)
    for (std::size_t other = 2; other < 4; ++other) {
      EXPECT_LT(error[k], error[other]) << k << ' ' << other;
      EXPECT_GT(found[k], found[other]) << k << ' ' << other;
    }
}
TEST(KronSbl, RecoversBetterThanWhatIgnoresTheStructureSlow) { compare<double>({}, 6, 60); }
TEST(KronSbl, RecoversComplexVectorsBetterSlow) { compare<Complex>({.m = 5, .n = 7, .active = 3}, 2, 40); }

// Rows of transforms are near to orthogonal columns, which leaves less to win: from 20 dB on OMP, told how many entries
// there are, finds all of them too, and then solves for those alone.
TEST(KronSbl, FromSampledTransformsOmpLosesAt10dBAloneSlow) {
  for (const double snr : {10.0, 20.0, 30.0}) {
    double each[3] = {}, found[3] = {};
    for (std::uint64_t seed = 10; seed < 12; ++seed) {
      const auto p = make_problem<Complex>(seed, snr, {.sampled = true});
      KronSblOptions<double> options;
      options.iterations = 300;
      std::vector<Eigen::VectorXcd> all{kron_sbl(p.H, p.y, p.noise_variance, options).x};
      options.method = KronSblMethod::svd;
      all.push_back(kron_sbl(p.H, p.y, p.noise_variance, options).x);
      all.push_back(orthogonal_matching_pursuit(p));
      for (std::size_t k = 0; k < 3; ++k) {
        each[k] += nmse(p, all[k]) / 2;
        found[k] += support_found(p, all[k]) / 2;
      }
    }
    std::printf("SNR %g dB: NMSE alternating %.2e, svd %.2e, OMP %.2e; support %.2f %.2f %.2f\n", snr, each[0], each[1],
                each[2], found[0], found[1], found[2]);
    EXPECT_EQ(found[0], 1) << snr;
    EXPECT_EQ(found[1], 1) << snr;
    EXPECT_EQ(found[2] < 1, snr == 10) << snr;
    for (const double ours : {each[0], each[1]}) {
      EXPECT_EQ(ours < each[2], snr == 10) << snr;
      EXPECT_LT(ours, 5 * each[2]) << snr;
    }
  }
}

TEST(KronSbl, BlocksHelpWhereTheSupportIsOfBlocks) {
  double with = 0, without = 0;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    const auto p = make_problem<Complex>(seed, 15, {.m = 4, .n = 8, .active = 1, .block = 2});
    KronSblOptions<double> options;
    options.method = seed % 2 == 0 ? KronSblMethod::svd : KronSblMethod::alternating;
    without += nmse(p, kron_sbl(p.H, p.y, p.noise_variance, options).x) / 4;
    options.blocks = {2, 2, 2};
    const auto result = kron_sbl(p.H, p.y, p.noise_variance, options);
    with += nmse(p, result.x) / 4;
    EXPECT_EQ(result.gamma[0].size(), 4);
  }
  std::printf("NMSE with blocks %.2e, without %.2e\n", with, without);
  EXPECT_LT(with, without);
}

TEST(KronSbl, NeedsNoMemoryOfTheDenseProduct) {
  // The dense dictionary would have 92 GB, the posterior's covariance 282 GB.
  const auto n = Index{57}, m = Index{40};
  const Philox draws(9);
  std::uint64_t at = 0;
  std::vector<Eigen::MatrixXd> H;
  for (int f = 0; f < 3; ++f) {
    H.emplace_back(m, n);
    for (double& v : H.back().reshaped()) v = draws.normal(at++) / std::sqrt(static_cast<double>(m));
  }
  Eigen::VectorXd x = Eigen::VectorXd::Zero(n * n * n);
  for (const Index i : {3, 40})
    for (const Index j : {0, 17}) x[(i * n + j) * n + 5] = 1 + static_cast<double>(i);
  Eigen::VectorXd y = detail::kron_times(H, Op::none, x);
  KronSblOptions<double> options;
  options.iterations = 15;
  options.method = KronSblMethod::svd;
  const auto result = kron_sbl(H, y, 1e-6, options);
  EXPECT_LT((result.x - x).norm(), 1e-2 * x.norm());
}

TEST(KronSbl, RefusesWhatDoesNotFit) {
  const auto p = make_problem(1, 20);
  EXPECT_THROW(kron_sbl(p.H, Eigen::VectorXd(p.y.head(5)), 0.1), shape_error);
  EXPECT_THROW(kron_sbl(p.H, p.y, 0.0), shape_error);
  EXPECT_THROW(kron_sbl(p.H, p.y, std::numeric_limits<double>::quiet_NaN()), shape_error);
  EXPECT_THROW(kron_sbl<double>({p.H[0], Eigen::MatrixXd(0, 3)}, Eigen::VectorXd(0), 0.1), shape_error);
  EXPECT_THROW(kron_sbl<double>(std::vector<Eigen::MatrixXd>(64, p.H[0]), p.y, 0.1), shape_error);
  for (const auto& blocks : std::vector<std::vector<Index>>{{1, 1}, {2, 1, 1}, {0, 1, 1}, {1, 1, -7}}) {
    KronSblOptions<double> options;
    options.blocks = blocks;
    EXPECT_THROW(kron_sbl(p.H, p.y, 0.1, options), shape_error);
  }
}

}  // namespace
}  // namespace tessera
