#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tessera/optim/scale.hpp>
#include <tessera/optim/second_order/mfac.hpp>
#include <tessera/optim/second_order/scale_by_mfac.hpp>
#include <vector>

#include "optim/kronecker.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

using namespace kronecker;
using Vector = Eigen::VectorXd;

Matrix dense_fisher(const Matrix& G, double lambda) {
  return lambda * Matrix::Identity(G.cols(), G.cols()) + G.transpose() * G / static_cast<double>(G.rows());
}

TEST(MFac, StaticIsTheInverse) {
  constexpr Index d = 300, m = 32;
  const Matrix G = random_matrix(m, d, 1);
  const Matrix inverse = dense_fisher(G, 0.01).inverse();
  const MFacStatic<double> F(view(G), 0.01);
  Context ctx;
  const Vector x = random_matrix(d, 1, 2);
  EXPECT_LT((F.ihvp(ctx, x) - inverse * x).norm(), 1e-8 * (inverse * x).norm());
  for (Index i = 0; i < d; i += 7)
    for (Index j = 0; j < d; j += 11) ASSERT_NEAR(F.inv_elem(i, j), inverse(i, j), 1e-8);
  EXPECT_EQ(F.inverse().rank(), m);
  EXPECT_THROW(F.ihvp(ctx, Vector(3)), shape_error);
  EXPECT_THROW(MFacStatic<double>(view(G), 0), unsupported_error);
}

TEST(MFac, WindowIsTheInverseThroughAThousandReplacements) {
  constexpr Index d = 300, m = 32;
  MFacDynamic<double> F(d, m, 0.01);
  Context ctx;
  const Vector x = random_matrix(d, 1, 2);
  Vector y(d), z(d);
  const auto product = [&](MFacDynamic<double>& of) {
    of.ihvp(ctx, vec(x), VectorView<double>(y.data(), d));
    return y;
  };
  EXPECT_LT((product(F) - x / 0.01).norm(), 1e-12 * x.norm() / 0.01);  // no gradients yet
  for (std::uint64_t step = 0; step < 1000 + m; ++step) {
    const Vector g = random_matrix(d, 1, 10 + step);
    ASSERT_TRUE(F.push(ctx, vec(g)));
    if (step % 300 == 5) {
      F.ihvp_newest(ctx, VectorView<double>(z.data(), d));
      F.ihvp(ctx, vec(g), VectorView<double>(y.data(), d));
      ASSERT_LT((y - z).norm(), 1e-12 * y.norm());
    }
  }
  EXPECT_EQ(F.count(), 1000 + m);
  MFacDynamic<double> fresh(d, m, 0.01);
  Matrix G(m, d);
  for (Index i = 0; i < m; ++i) {
    G.row(i) = random_matrix(d, 1, static_cast<std::uint64_t>(1010 + i)).transpose();
    fresh.push(ctx, vec(Vector(G.row(i).transpose())));
  }
  const Vector expected = dense_fisher(G, 0.01).llt().solve(x);
  EXPECT_LT((product(F) - expected).norm(), 1e-8 * expected.norm());
  EXPECT_LT((product(fresh) - expected).norm(), 1e-8 * expected.norm());
  const auto fisher = F.fisher();  // F itself, an expression of the library
  fisher.apply(ctx, Op::none, 1, view(std::as_const(expected)), 0, view(z));
  EXPECT_LT((z - x).norm(), 1e-8 * x.norm());

  Vector bad = x;
  bad[7] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(F.push(ctx, vec(bad)));  // left out
  EXPECT_LT((product(F) - expected).norm(), 1e-8 * expected.norm());
  EXPECT_THROW(F.push(ctx, VectorView<const double>(x.data(), 3)), shape_error);
  EXPECT_THROW(MFacDynamic<double>(d, 0, 1), unsupported_error);
}

/// Flops of a product with F⁻¹, and numbers kept, for d parameters and m gradients.
TEST(MFac, CostsAreLinearInParametersAndGradients) {
  const auto fixed = [](Index d, Index m) {
    const Matrix G = random_matrix(m, d, 1);
    return flops(MFacStatic<double>(view(G), 0.1).inverse(), 1);
  };
  const auto window = [](Index d, Index m) {
    MFacDynamic<double> F(d, m, 0.1);
    std::size_t bytes = 0;
    F.list_buffers("", [&](const std::string&, auto values) { bytes += values.size_bytes(); });
    EXPECT_EQ(bytes, static_cast<std::size_t>(m * (d + m)) * sizeof(double) + 2 * sizeof(Index));
    return flops(F.fisher(), 1);
  };
  for (const Index d : {50, 100, 1000})
    for (const Index m : {1, 8, 64}) {
      EXPECT_EQ(fixed(d, m), static_cast<double>(2 * d + 4 * d * m));
      EXPECT_NEAR(window(d, m), static_cast<double>(4 * d * m), static_cast<double>(3 * d));
    }
}

TEST(MFac, StepsTheSameForAnyThreadsAndAfterARoundTrip) {
  const MFacOptions o{.window = 3, .lambda = 0.1};
  std::vector<Vector> seen;
  const auto plain = [&](Index, const Plain& g, Plain& p) {
    Vector all(g[0].size() + g[1].size());
    all << Eigen::Map<const Vector>(g[0].data(), static_cast<Index>(g[0].size())),
        Eigen::Map<const Vector>(g[1].data(), static_cast<Index>(g[1].size()));
    seen.push_back(all);
    if (seen.size() > 3) seen.erase(seen.begin());
    Matrix F = 0.1 * Matrix::Identity(all.size(), all.size());
    for (const Vector& one : seen) F += one * one.transpose() / 3;
    const Vector u = F.llt().solve(all);
    for (std::size_t i = 0; i < g[0].size(); ++i) p[0][i] -= 0.1 * u[static_cast<Index>(i)];
    for (std::size_t i = 0; i < g[1].size(); ++i) p[1][i] -= 0.1 * u[static_cast<Index>(g[0].size() + i)];
  };
  obeys(chain(scale_by_mfac(o), scale(-0.1)), plain, 1e-9, nothing_else, 9, 7, 100);
}

/// F >= λ·I: whole-batch gradients of a quadratic of curvatures up to L, below and above what that promises.
TEST(MFac, FallsAtRatesBelowTwiceLambdaOverTheCurvature) {
  const auto rises = [](MFacOptions o, double rate, double* end = nullptr) {
    Model<double> model(6, 5);
    const auto opt = chain(scale_by_mfac(o), scale(-rate));
    auto state = opt.init(model.params);
    Context ctx;
    const auto loss = [&] {
      double sum = 0;
      for (std::size_t b = 0; b < 2; ++b)
        for (Index i = 0; i < model.params[b].size(); ++i) {
          const double curvature = std::pow(100.0, static_cast<double>(i * 7 % 30) / 29), x = model.params[b].data[i];
          model.grads[b].data[i] = curvature * x;
          sum += 0.5 * curvature * x * x;
        }
      return sum;
    };
    int count = 0;
    double last = loss();
    const double first = last;
    for (int step = 0; step < 300; ++step) {
      opt.update(ctx, model.grads, state, model.params);
      const double now = loss();
      count += now > last;
      last = now;
    }
    if (end != nullptr) *end = last / first;
    return count;
  };
  double end = 1;
  EXPECT_EQ(rises({.lambda = 1e-1}, 1.9e-3), 0);
  EXPECT_EQ(rises({.damping = 0.1}, 1.9e-2, &end), 0);
  EXPECT_LT(end, 1e-2);
  EXPECT_GT(rises({.lambda = 1e-5}, 1e-3), 10);  // five thousand times 2λ/L
  EXPECT_THROW(chain(scale_by_mfac({.damping = -1})).init(Model<double>(2, 2).params), unsupported_error);
}

TEST(MFac, ManyPiecesAddUpTheSameForAnyThreads) {
  constexpr Index d = 200003, m = 3;
  std::vector<Buffer<float>> ends;
  for (const Index threads : {1, 3}) {
    auto ctx = Context::with_threads(threads);
    MFacDynamic<float> F(d, m, 0.5);
    Buffer<float> y(d);
    for (std::uint64_t step = 0; step < 4; ++step) {
      const auto g = random_buffer<float>(d, step);
      F.push(ctx, VectorView<const float>(g.data(), d));
    }
    F.ihvp_newest(ctx, VectorView<float>(y.data(), d));
    ends.push_back(y);
  }
  EXPECT_TRUE(same_bits(ends[0], ends[1]));
}

/// Logistic regression of features with a covariance of condition 1e4, along no axes.
struct Logistic {
  static constexpr Index samples = 200;
  static constexpr double ridge = 1e-5;
  Index d;
  Matrix X;
  Vector labels, w, sizes;  // of features, |X_j|²
  explicit Logistic(Index features) : d(features), w(Vector::Zero(features)) {
    const Matrix root = spread(d, 100, 3);
    X = random_matrix(samples, d, 5) * root;
    const Vector z = X * root.llt().solve(random_matrix(d, 1, 6)) + random_matrix(samples, 1, 7);
    labels = (z.array() > 0).cast<double>();
    sizes = X.colwise().squaredNorm().transpose();
  }
  double loss(const Vector& at) const {
    double sum = 0;
    const Vector z = X * at;
    for (Index i = 0; i < samples; ++i)
      sum += std::log1p(std::exp(-std::abs(z[i]))) + std::max(z[i], 0.0) - labels[i] * z[i];
    return sum / samples + ridge / 2 * (at.array().square() * sizes.array()).sum();
  }
  /// A gradient a row: one for each sample.
  Matrix sample_gradients(const Vector& at) const {
    const Vector errors = (1 / (1 + (-(X * at).array()).exp())) - labels.array();
    return errors.asDiagonal() * X;
  }
  Vector gradient(const Vector& at) const {
    return sample_gradients(at).colwise().mean().transpose() + ridge * (at.array() * sizes.array()).matrix();
  }
  Matrix hessian(const Vector& at) const {
    const Eigen::ArrayXd p = 1 / (1 + (-(X * at).array()).exp());
    Matrix H = X.transpose() * (p * (1 - p)).matrix().asDiagonal() * X / samples;
    H.diagonal() += ridge * sizes;
    return H;
  }
  Vector minimum() const {
    Vector at = w;
    for (int i = 0; i < 50; ++i) at -= hessian(at).llt().solve(gradient(at));
    return at;
  }
};

Index steps_to(const PlainStep& step, double goal, Index most) {
  Logistic problem(20);
  for (Index t = 1; t <= most; ++t) {
    step(problem.w, problem.gradient(problem.w), static_cast<double>(t));
    const double now = problem.loss(problem.w);
    if (now <= goal) return t;
    if (!(now < 1e3)) return most;
  }
  return most;
}

TEST(MFac, NeedsFewerStepsWhereFeaturesAreIllConditioned) {
  Logistic problem(20);
  const Vector end = problem.minimum();
  const double goal = problem.loss(end) + 1e-4 * (problem.loss(problem.w) - problem.loss(end));
  Index momentum = 500, by_adam = 500, by_mfac = 500;
  Context ctx;
  for (const double rate : {0.1, 0.3, 1.0, 3.0, 10.0}) {
    momentum = std::min(momentum, steps_to(momentum_step(rate), goal, momentum));
    by_adam = std::min(by_adam, steps_to(adam_step(rate), goal, by_adam));
    MFacDynamic<double> F(20, 64, 3e-4);
    const auto by_fisher = [&](Eigen::Ref<Vector> w, const Vector& g, double t) {
      const Matrix each = problem.sample_gradients(w);
      const Philox draws(static_cast<std::uint64_t>(t));
      for (std::uint64_t i = 0; i < 8; ++i) {
        const Vector one = each.row(static_cast<Index>(draws.below(i, Logistic::samples))).transpose();
        F.push(ctx, vec(one));
      }
      Vector u(20);
      F.ihvp(ctx, vec(g), VectorView<double>(u.data(), 20));
      w -= rate * u;
    };
    by_mfac = std::min(by_mfac, steps_to(by_fisher, goal, by_mfac));
  }
  const std::string all = detail::concat(momentum, " momentum, ", by_adam, " Adam, ", by_mfac, " M-FAC");
  RecordProperty("steps", all);
  EXPECT_LT(by_mfac, std::min(momentum, by_adam)) << all;
}

TEST(MFac, SurgeonPrunesBetterThanMagnitude) {  // least squares of correlated features
  Matrix X = random_matrix(200, 20, 5);
  Vector truth = random_matrix(20, 1, 6);
  for (Index j = 1; j < 20; ++j) X.col(j) = 0.9 * X.col(j - 1) + std::sqrt(0.19) * X.col(j);
  for (Index j = 0; j < 20; ++j) {
    X.col(j) *= std::pow(100.0, -static_cast<double>(j * 7 % 20) / 19);
    truth[j] /= X.col(j).norm();
  }
  const Vector y = X * truth + 0.05 * random_matrix(X.rows(), 1, 7);
  const Vector end = X.colPivHouseholderQr().solve(y);
  const auto loss = [&](const Vector& w) { return (X * w - y).squaredNorm(); };
  const Matrix G = (X * end - y).asDiagonal() * X;  // a gradient a sample
  const MFacStatic<double> F(view(G), 1e-9);
  for (const Index count : {3, 6, 10, 14}) {
    Context ctx;
    Vector surgeon = end, magnitude = end;
    const auto pruned = F.prune(ctx, std::span<double>(surgeon.data(), 20), count);
    EXPECT_EQ(static_cast<Index>(pruned.size()), count);
    // The others stand at the quadratic model's minimum: its gradient F (w - end) vanishes there.
    const Vector slope = dense_fisher(G, 1e-9) * (surgeon - end);
    std::vector<Index> order(20);
    for (Index i = 0; i < 20; ++i) {
      order[static_cast<std::size_t>(i)] = i;
      if (std::find(pruned.begin(), pruned.end(), i) == pruned.end()) {
        EXPECT_NEAR(slope[i], 0, 1e-6 * slope.cwiseAbs().maxCoeff());
      } else {
        EXPECT_EQ(surgeon[i], 0);
      }
    }
    std::sort(order.begin(), order.end(), [&](Index i, Index j) { return std::abs(end[i]) < std::abs(end[j]); });
    for (Index i = 0; i < count; ++i) magnitude[order[static_cast<std::size_t>(i)]] = 0;
    EXPECT_LT(loss(surgeon), loss(magnitude)) << count;
  }
  Context ctx;
  Buffer<double> w(20);
  EXPECT_THROW(F.prune(ctx, std::span<double>(w), 21), shape_error);
  EXPECT_THROW(F.saliency(std::span<const double>(w.data(), 5)), shape_error);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::optim
