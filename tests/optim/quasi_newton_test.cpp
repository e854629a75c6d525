#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <tessera/optim/scale.hpp>
#include <tessera/optim/second_order/lbfgs.hpp>
#include <tessera/optim/second_order/natural_gradient.hpp>
#include <tessera/optim/second_order/scale_by_lbfgs.hpp>
#include <utility>
#include <vector>

#include "optim/kronecker.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

using namespace kronecker;
using Vector = Eigen::VectorXd;

Parameters<double> block(Vector& x) { return {{"x", std::span<double>(x.data(), static_cast<std::size_t>(x.size()))}}; }
Eigen::Map<Vector> values(const Parameters<double>& p) { return {p[0].data, p[0].size()}; }

/// Σ 100 (x_{i+1} - x_i²)² + (1 - x_i)²
double rosenbrock(const Parameters<double>& p, const Parameters<double>& grads) {
  const auto x = values(p);
  auto g = values(grads);
  g.setZero();
  double f = 0;
  for (Index i = 0; i + 1 < x.size(); ++i) {
    const double a = 1 - x[i], b = x[i + 1] - x[i] * x[i];
    f += a * a + 100 * b * b;
    g[i] += -2 * a - 400 * x[i] * b;
    g[i + 1] += 200 * b;
  }
  return f;
}

TEST(StrongWolfe, FindsStepsThatSatisfyIt) {
  const auto check = [](auto&& phi, double first, double c2) {
    const auto [f0, d0] = phi(0.0);
    WolfePoint last;
    const auto recorded = [&](double a) {
      const auto [f, d] = phi(a);
      last = {a, f, d};
      return std::pair(f, d);
    };
    const WolfeOptions o{.c2 = c2};
    const auto found = strong_wolfe(recorded, f0, d0, first, o);
    ASSERT_TRUE(found.success) << first << ' ' << c2;
    EXPECT_EQ(last.step, found.best.step);
    EXPECT_LE(found.best.value, f0 + o.c1 * found.best.step * d0);
    EXPECT_LE(std::abs(found.best.slope), -c2 * d0);
    EXPECT_LE(found.evaluations, 25);
  };
  // J. Moré, D. Thuente (1994), functions 1, 2 and 3-like: a wide valley, one near 0, ripples.
  const auto wide = [](double a) { return std::pair(-a / (a * a + 2), (a * a - 2) / ((a * a + 2) * (a * a + 2))); };
  const auto near = [](double a) {
    const double t = a + 0.004, t3 = t * t * t;
    return std::pair(t3 * t * t - 2 * t3 * t, 5 * t3 * t - 8 * t3);
  };
  const auto ripples = [](double a) {
    constexpr double w = 39 * 3.14159265358979 / 2, l = 0.01;
    return std::pair((a - 1) * (a - 1) / 2 + 2 * (1 - l) / (w * l) * l * std::sin(w * a) / 20,
                     a - 1 + 2 * (1 - l) * std::cos(w * a) / 20);
  };
  for (const double first : {1e-3, 1e-1, 1.0, 10.0, 1e3}) {
    for (const double c2 : {0.9, 0.1, 1e-3}) {
      check(wide, first, c2);
      check(near, first, c2);
      check(ripples, first, std::max(c2, 0.1));
    }
  }
  const auto down = strong_wolfe([](double a) { return std::pair(-a, -1.0); }, 0, -1, 1);  // no minimum
  EXPECT_FALSE(down.success);
  EXPECT_LE(down.evaluations, 30);
  EXPECT_FALSE(strong_wolfe([](double a) { return std::pair(a, 1.0); }, 0, 1, 1).success);  // uphill
  // Not finite beyond 0.3.
  const auto wall = [](double a) {
    return a > 0.3 ? std::pair(std::nan(""), std::nan("")) : std::pair(a * a - a, 2 * a - 1);
  };
  EXPECT_TRUE(strong_wolfe(wall, 0, -1, 1, {.c2 = 0.5}).success);
}

TEST(LbfgsMinimiser, MinimisesRosenbrock) {
  for (const Index d : {2, 100}) {
    Vector x = Vector::Zero(d);
    if (d == 2) x << -1.2, 1;
    const auto opt = lbfgs({.tolerance = 1e-8});
    auto state = opt.init(block(x));
    Context ctx;
    const auto status = opt.minimize(ctx, rosenbrock, state, block(x));
    EXPECT_TRUE(status.converged()) << text_of(status.end);
    EXPECT_LT((x - Vector::Ones(d)).norm(), 1e-6);
    EXPECT_LT(status.evaluations, d == 2 ? 60 : 700);
    EXPECT_EQ(state.state_bytes(), static_cast<std::size_t>(2 * 10 * d + 30 + 2) * 8);
  }
}

TEST(LbfgsMinimiser, EndsAQuadraticAsConjugateGradientsDo) {  // with exact searches, in as many steps as dimensions
  constexpr Index d = 12;
  const Matrix A = spread(d, 100, 3);
  Vector x = random_matrix(d, 1, 4);
  const auto quadratic = [&](const Parameters<double>& p, const Parameters<double>& grads) {
    values(grads) = A * values(p);
    return 0.5 * values(p).dot(values(grads));
  };
  const auto opt = lbfgs({.memory = d, .tolerance = 1e-7, .wolfe = {.c2 = 1e-8}});
  auto state = opt.init(block(x));
  Context ctx;
  const auto status = opt.minimize(ctx, quadratic, state, block(x));
  EXPECT_TRUE(status.converged()) << text_of(status.end);
  EXPECT_LE(status.iterations, d + 1);
  EXPECT_LE(status.evaluations, 3 * (d + 1));
}

TEST(LbfgsMinimiser, TurnsWithItsCoordinatesAndContinues) {
  constexpr Index d = 8;
  const Matrix Q = Eigen::HouseholderQR<Matrix>(random_matrix(d, d, 7)).householderQ();
  Vector x = Vector::Zero(d), y = x, z = x, part(d), slope(d);
  const auto turned = [&](const Parameters<double>& p, const Parameters<double>& grads) {  // f(Q y)
    part = Q * values(p);
    const double f = rosenbrock(block(part), block(slope));
    values(grads) = Q.transpose() * slope;
    return f;
  };
  const auto run = [](Index steps) { return lbfgs({.memory = 4, .max_iterations = steps, .tolerance = 1e-9}); };
  auto of_x = run(12).init(block(x)), of_y = run(12).init(block(y)), of_z = run(6).init(block(z));
  Context ctx, three = Context::with_threads(3);
  const auto whole = run(12).minimize(ctx, rosenbrock, of_x, block(x));
  run(12).minimize(ctx, turned, of_y, block(y));
  EXPECT_LT((Q * y - x).norm(), 1e-6 * x.norm());
  EXPECT_EQ(whole.end, LbfgsEnd::iterations);
  run(6).minimize(three, rosenbrock, of_z, block(z));
  const auto second = run(6).minimize(three, rosenbrock, of_z, block(z));
  EXPECT_EQ(z, x);  // its state is all that it remembers
  EXPECT_EQ(second.value, whole.value);
}

TEST(LbfgsMinimiser, SaysHowItEnded) {
  Vector x = Vector::Ones(3);
  const auto opt = lbfgs({.max_iterations = 20});
  auto state = opt.init(block(x));
  Context ctx;
  const auto nan = [](const Parameters<double>&, const Parameters<double>& grads) {
    values(grads).setOnes();
    return std::nan("");
  };
  EXPECT_EQ(opt.minimize(ctx, nan, state, block(x)).end, LbfgsEnd::not_finite);
  const auto wrong = [](const Parameters<double>& p, const Parameters<double>& grads) {  // the opposite gradient
    values(grads) = -values(p);
    return 0.5 * values(p).squaredNorm();
  };
  const auto status = opt.minimize(ctx, wrong, state, block(x));
  EXPECT_EQ(status.end, LbfgsEnd::line_search) << text_of(status.end);
  EXPECT_EQ(x, Vector::Ones(3));
  const auto plane = [](const Parameters<double>& p, const Parameters<double>& grads) {
    values(grads).setOnes();
    return values(p).sum();
  };
  EXPECT_EQ(opt.minimize(ctx, plane, state, block(x)).end, LbfgsEnd::iterations);
  EXPECT_THROW(lbfgs({.memory = 0}).init(block(x)), unsupported_error);
}

TEST(ScaleByLbfgs, FollowsTheTwoLoops) {
  std::vector<Vector> points, slopes;
  const auto plain = [&](Index, const Plain& g, Plain& p) {
    const auto join = [](const Plain& a) {
      Vector all(a[0].size() + a[1].size());
      all << Eigen::Map<const Vector>(a[0].data(), static_cast<Index>(a[0].size())),
          Eigen::Map<const Vector>(a[1].data(), static_cast<Index>(a[1].size()));
      return all;
    };
    points.push_back(join(p));
    slopes.push_back(join(g));
    const Index d = points[0].size();
    // BFGS's own formula, in full: H ← (I - ρ s yᵀ) H (I - ρ y sᵀ) + ρ s sᵀ over the pairs of positive curvature.
    std::vector<std::pair<Vector, Vector>> pairs;
    for (std::size_t i = 1; i < points.size(); ++i)
      if (const Vector s = points[i] - points[i - 1], y = slopes[i] - slopes[i - 1]; s.dot(y) > 0)
        pairs.emplace_back(s, y);
    if (pairs.size() > 2) pairs.erase(pairs.begin(), pairs.end() - 2);
    Matrix H = Matrix::Identity(d, d) * std::min(1.0, 1 / slopes.back().norm());
    if (!pairs.empty())
      H = Matrix::Identity(d, d) * pairs.back().first.dot(pairs.back().second) / pairs.back().second.squaredNorm();
    for (const auto& [s, y] : pairs) {
      const Matrix V = Matrix::Identity(d, d) - y * s.transpose() / s.dot(y);
      H = V.transpose() * H * V + s * s.transpose() / s.dot(y);
    }
    const Vector u = H * slopes.back();
    Index at = 0;
    for (auto& b : p)
      for (double& v : b) v -= 0.5 * u[at++];
  };
  const auto pull = [](Index, Parameters<double>& grads) {  // so that curvatures are of both signs
    for (auto& g : grads)
      for (double& v : g.values()) v *= 0.1;
  };
  obeys(chain(scale_by_lbfgs(2), scale(-0.5)), plain, 1e-8, pull, 7, 5, 100);
  EXPECT_THROW(scale_by_lbfgs(0), unsupported_error);
}

TEST(NaturalGradient, SolvesWithTheUsersProduct) {
  constexpr Index d = 20;
  const Matrix F = spread(d, 1e3, 3);
  const auto product = [&](Context&, VectorView<const double> v, VectorView<double> out) {
    Eigen::Map<Vector>(out.data(), d) = F * Eigen::Map<const Vector>(v.data(), d);
  };
  Vector u = random_matrix(d, 1, 4);
  const Vector g = u;
  const auto link = scale_by_natural_gradient(product, {.damping = 0.01, .solve = {.tolerance = 1e-10}});
  auto state = link.init(block(u));
  Context ctx;
  const VectorView<double> all[] = {VectorView<double>(u.data(), d)};
  link.transform(ctx, std::span<const VectorView<double>>(all), state, block(u));
  const Vector expected = (F + 0.01 * Matrix::Identity(d, d)).llt().solve(g);
  EXPECT_LT((u - expected).norm(), 1e-8 * expected.norm());
  EXPECT_TRUE(state.status.converged);
  EXPECT_LE(state.status.iterations, 2 * d);

  u = g;
  const auto close = scale_by_natural_gradient(product, {.damping = 0.01, .radius = 0.1});
  close.transform(ctx, std::span<const VectorView<double>>(all), state, block(u));
  EXPECT_NEAR(u.dot((F + 0.01 * Matrix::Identity(d, d)) * u) / 2, 0.1, 1e-4);
}

TEST(NaturalGradient, StepsTheSameWhateverTheParameters) {  // w = T v: F_v = Tᵀ F T, g_v = Tᵀ g, so T u_v = u
  constexpr Index d = 10;
  const Matrix F = spread(d, 50, 3), T = random_matrix(d, d, 9) + 4 * Matrix::Identity(d, d);
  const Vector g = random_matrix(d, 1, 4);
  const auto update_of = [&](const Matrix& fisher, Vector u) {
    const auto product = [&](Context&, VectorView<const double> v, VectorView<double> out) {
      Eigen::Map<Vector>(out.data(), d) = fisher * Eigen::Map<const Vector>(v.data(), d);
    };
    const auto link =
        scale_by_natural_gradient(product, {.damping = 0, .solve = {.tolerance = 1e-12, .max_iterations = 200}});
    auto state = link.init(block(u));
    Context ctx;
    const VectorView<double> all[] = {VectorView<double>(u.data(), d)};
    link.transform(ctx, std::span<const VectorView<double>>(all), state, block(u));
    return u;
  };
  const Vector expected = update_of(F, g), got = T * update_of(T.transpose() * F * T, T.transpose() * g);
  EXPECT_LT((expected - got).norm(), 1e-8 * expected.norm());
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::optim
