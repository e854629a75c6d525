// Surrogates in target space: above the loss, equal to SGD for one step, fewer gradients of the loss for more.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/target_surrogate.hpp>
#include <vector>

#include "optim/model.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

/// z = Xθ with X (m, n), and the mean logistic loss of z for labels; L is 1/(4m).
struct Linear {
  static constexpr Index m = 60, n = 8;
  Buffer<double> X = random_buffer<double>(m * n, 1), theta{n}, grad{n};
  Parameters<double> params{{"theta", std::span<double>(theta)}}, grads{{"theta", std::span<double>(grad)}};
  int asked = 0;

  Linear() {
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < n; ++j) X[i * n + j] *= std::pow(0.8, static_cast<double>(j));
  }
  void forward(Context&, VectorView<double> z) const {
    for (Index i = 0; i < m; ++i) {
      z[i] = 0;
      for (Index j = 0; j < n; ++j) z[i] += X[i * n + j] * theta[j];
    }
  }
  void backward(Context&, VectorView<const double> dz, const Parameters<double>& to) const {
    for (Index j = 0; j < n; ++j) {
      to[0].data[j] = 0;
      for (Index i = 0; i < m; ++i) to[0].data[j] += X[i * n + j] * dz[i];
    }
  }
  double loss(VectorView<const double> z, VectorView<double> g) {
    ++asked;
    double sum = 0;
    for (Index i = 0; i < m; ++i) {
      const double y = i % 3 == 0 || X[i * n] > 0.5 ? 1 : -1, a = y * z[i];
      sum += (std::max(-a, 0.0) + std::log1p(std::exp(-std::abs(a)))) / m;
      g[i] = -y / (1 + std::exp(a)) / m;
    }
    return sum;
  }
  double smoothness() const {  // largest eigenvalue of XᵀX
    std::vector<double> v(n, 1), w(n);
    double norm = 0;
    for (int it = 0; it < 200; ++it) {
      std::fill(w.begin(), w.end(), 0);
      for (Index i = 0; i < m; ++i) {
        double z = 0;
        for (Index j = 0; j < n; ++j) z += X[i * n + j] * v[static_cast<std::size_t>(j)];
        for (Index j = 0; j < n; ++j) w[static_cast<std::size_t>(j)] += X[i * n + j] * z;
      }
      norm = 0;
      for (double x : w) norm += x * x;
      norm = std::sqrt(norm);
      for (std::size_t j = 0; j < v.size(); ++j) v[j] = w[j] / norm;
    }
    return norm;
  }
};

constexpr double eta = 4 * Linear::m;  // 1/L

/// Gradients of the loss that `steps` inner steps each need to bring it to within 1e-6 of its least.
int gradients_needed(Index steps, double least) {
  Linear model;
  const auto opt = target_surrogate_opt(sgd(eta / model.smoothness()), constant{eta}, steps);
  auto state = opt.init(model.params);
  Context ctx;
  double before = 1e9;
  for (int k = 0; k < 5000; ++k) {
    const double now = opt.step(
        ctx, model, [&](auto z, auto g) { return model.loss(z, g); }, Linear::m, state, model.grads, model.params);
    EXPECT_LE(now, before + 1e-15) << steps << ' ' << k;
    if (now < least + 1e-6) return model.asked;
    before = now;
  }
  return 5000;
}

TEST(TargetSurrogate, MoreInnerStepsNeedFewerGradientsOfTheLoss) {
  Linear model;
  Context ctx;
  const auto opt = target_surrogate_opt(sgd(eta / model.smoothness()), constant{eta}, 400);
  auto state = opt.init(model.params);
  double least = 0;
  for (int k = 0; k < 60; ++k)
    least = opt.step(
        ctx, model, [&](auto z, auto g) { return model.loss(z, g); }, Linear::m, state, model.grads, model.params);
  const int one = gradients_needed(1, least), four = gradients_needed(4, least), twenty = gradients_needed(20, least),
            hundred = gradients_needed(100, least);
  std::printf("gradients of the loss for 1, 4, 20, 100 inner steps: %d %d %d %d\n", one, four, twenty, hundred);
  EXPECT_LT(3 * four, one);
  EXPECT_LT(twenty, four);  // and no fewer than where each surrogate is solved
  EXPECT_LE(hundred, twenty);
  EXPECT_LT(5 * hundred, one);
}

TEST(TargetSurrogate, LiesAboveTheLoss) {
  Linear model;
  Context ctx;
  Buffer<double> z0(Linear::m), z(Linear::m), g(Linear::m), unused(Linear::m);
  const VectorView<double> at0(z0.data(), Linear::m), at(z.data(), Linear::m);
  model.forward(ctx, at0);
  const double value = model.loss(at0, {g.data(), Linear::m});
  for (std::uint64_t draw = 0; draw < 200; ++draw) {
    const double size = std::pow(10, static_cast<double>(draw % 5) - 2);
    model.theta = random_buffer<double>(Linear::n, 10 + draw);
    for (double& v : model.theta) v *= size;
    model.forward(ctx, at);
    EXPECT_GE(target_surrogate<double>(value, g, z0, z, eta) + 1e-13, model.loss(at, {unused.data(), Linear::m}));
  }
  EXPECT_THROW(target_surrogate<double>(value, std::span<const double>(g.data(), 2), z0, z, eta), shape_error);
}

TEST(TargetSurrogate, OneInnerStepIsSgdAndSeveralAreTheFormula) {
  Linear one, plain, three;
  Context ctx;
  const auto opt = target_surrogate_opt(sgd(0.5), constant{eta}, 1);
  const auto sgd_alone = sgd(0.5);
  auto state = opt.init(one.params);
  auto plain_state = sgd_alone.init(plain.params);
  Buffer<double> z(Linear::m), g(Linear::m);
  for (int k = 0; k < 5; ++k) {
    opt.step(
        ctx, one, [&](auto a, auto b) { return one.loss(a, b); }, Linear::m, state, one.grads, one.params);
    plain.forward(ctx, {z.data(), Linear::m});
    plain.loss({z.data(), Linear::m}, {g.data(), Linear::m});
    plain.backward(ctx, {g.data(), Linear::m}, plain.grads);
    sgd_alone.update(ctx, plain.grads, plain_state, plain.params);
    EXPECT_TRUE(same_bits(one.theta, plain.theta));
  }
  const auto more = target_surrogate_opt(sgd(0.5), constant{eta}, 3);
  auto its = more.init(three.params);
  more.step(
      ctx, three, [&](auto a, auto b) { return three.loss(a, b); }, Linear::m, its, three.grads, three.params);
  EXPECT_EQ(three.asked, 1);
  Linear expected;
  Buffer<double> z0(Linear::m);
  expected.forward(ctx, {z0.data(), Linear::m});
  expected.loss({z0.data(), Linear::m}, {g.data(), Linear::m});
  for (int k = 0; k < 3; ++k) {
    expected.forward(ctx, {z.data(), Linear::m});
    for (Index i = 0; i < Linear::m; ++i) z[i] = g[i] + (z[i] - z0[i]) / eta;
    expected.backward(ctx, {z.data(), Linear::m}, expected.grads);
    for (Index j = 0; j < Linear::n; ++j) expected.theta[j] -= 0.5 * expected.grad[j];
  }
  for (Index j = 0; j < Linear::n; ++j) EXPECT_NEAR(three.theta[j], expected.theta[j], 1e-14);
  EXPECT_THROW(target_surrogate_opt(sgd(0.5), constant{1}, 0), unsupported_error);
}

}  // namespace
}  // namespace tessera::optim
