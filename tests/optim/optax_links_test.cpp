#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tessera/optim/accumulate.hpp>
#include <tessera/optim/cocob.hpp>
#include <tessera/optim/first_order.hpp>
#include <tessera/optim/optimistic.hpp>
#include <tessera/optim/rprop.hpp>

#include "optim/first_order.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

double average(double& m, double b, double x) { return m = b * m + (1 - b) * x; }
double sign_of(double x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }

struct Rprop {
  static auto link(bool) { return scale_by_rprop(0.01, {.shrink = 0.4, .grow = 1.3, .least = 1e-3, .most = 0.1}); }
  static constexpr double rate = 1;
  static constexpr bool scale_free = true;
  static constexpr std::size_t slots = 2;
  static double rule(double g, double, double t, double* s) {
    if (t == 1) s[0] = 0.01;
    const double agree = g * s[1];
    if (agree != 0) s[0] = std::clamp(s[0] * (agree > 0 ? 1.3 : 0.4), 1e-3, 0.1);
    s[1] = agree < 0 ? 0 : g;
    return s[0] * sign_of(s[1]);
  }
};

struct Optimistic {
  static auto link(bool) { return scale_by_optimistic_gradient(1.5, 0.5); }
  static constexpr double rate = 0.001;
  static constexpr bool scale_free = false;
  static constexpr std::size_t slots = 1;
  static double rule(double g, double, double t, double* s) {
    const double before = t == 1 ? g : s[0];
    s[0] = g;
    return 2 * g - 0.5 * before;
  }
};

struct Acprop {
  static auto link(bool plain) { return scale_by_acprop({.eps = plain ? 1e-4 : 0, .eps_root = plain ? 1e-8 : 0}); }
  static constexpr double rate = 0.01;
  static constexpr bool scale_free = false;  // its first step is the gradient
  static constexpr std::size_t slots = 2;
  static double rule(double g, double, double t, double* s) {
    const double root = t == 1 ? 1 : std::sqrt(s[1] / (1 - std::pow(0.999, t - 1)));
    average(s[0], 0.9, g);
    average(s[1], 0.999, (g - s[0]) * (g - s[0]));
    s[1] += 1e-8;
    return g / (root + 1e-4);
  }
};

struct Simplified {
  static auto link(bool plain) { return scale_by_simplified_ademamix({.alpha = 3, .eps = plain ? 1e-8 : 0}); }
  static constexpr double rate = 1e-4;
  static constexpr bool scale_free = true;
  static constexpr std::size_t slots = 2;
  static double rule(double g, double, double t, double* s) {
    s[0] = 0.99 * s[0] + g;
    average(s[1], 0.95, g * g);
    return (s[0] + 3 * g) / (std::sqrt(s[1] / (1 - std::pow(0.95, t))) + 1e-8);
  }
};

struct Cocob {
  static auto link(bool) { return scale_by_cocob(10, 1e-6); }
  static constexpr double rate = -1;  // moves by itself
  static constexpr bool scale_free = false;
  static constexpr std::size_t slots = 5;
  static double rule(double g, double p, double t, double* s) {  // x_0, Σ-g, L, G, R
    if (t == 1) s[0] = p, s[2] = 1e-6;
    s[1] -= g;
    s[2] = std::max(s[2], std::abs(g));
    s[3] += std::abs(g);
    s[4] = std::max(s[4] - g * (p - s[0]), 0.0);
    return s[0] + s[1] / (s[2] * std::max(s[3] + s[2], 10 * s[2])) * (s[2] + s[4]) - p;
  }
};

struct Every {
  static auto link(bool) { return apply_every(3); }
  static constexpr double rate = 0.01;
  static constexpr bool scale_free = false;
  static constexpr std::size_t slots = 1;
  static double rule(double g, double, double t, double* s) {
    s[0] += g;
    if (std::fmod(t, 3) != 0) return 0;
    const double sum = s[0];
    s[0] = 0;
    return sum;
  }
};

template <class Case>
class OptaxLinks : public testing::Test {};
using Cases = testing::Types<Rprop, Optimistic, Acprop, Simplified, Cocob, Every>;
TYPED_TEST_SUITE(OptaxLinks, Cases);

TYPED_TEST(OptaxLinks, FollowsItsRuleOver100Steps) {
  follows_its_rule<double, TypeParam>(1e-11);
  follows_its_rule<float, TypeParam>(2e-4);
}
TYPED_TEST(OptaxLinks, KeepsItsBits) { keeps_its_bits<TypeParam>(); }

/// Descent and ascent of x·y run away from its saddle, optimistic ones into it.
TEST(OptaxLinks, OptimismEndsInTheSaddle) {
  const auto end = [](const auto& opt) {
    Buffer<double> x(2), g(2);
    x[0] = x[1] = 1;
    const Parameters<double> params{{"x", std::span<double>(x)}}, grads{{"x", std::span<double>(g)}};
    auto state = opt.init(params);
    Context ctx;
    for (int step = 0; step < 300; ++step) {
      g[0] = x[1];
      g[1] = -x[0];
      opt.update(ctx, grads, state, params);
    }
    return std::hypot(x[0], x[1]);
  };
  EXPECT_GT(end(sgd(0.2)), 100);
  EXPECT_LT(end(optimistic_gradient_descent(0.2)), 0.01);
}

/// |x - 10| from 0 without a rate: a bet grows until it is there.
TEST(OptaxLinks, CoinsFindADistance) {
  Buffer<float> x(1), g(1);
  const Parameters<float> params{{"x", std::span<float>(x)}}, grads{{"x", std::span<float>(g)}};
  const auto opt = cocob();
  auto state = opt.init(params);
  Context ctx;
  double mean = 0;
  for (int step = 0; step < 2000; ++step) {
    g[0] = x[0] < 10 ? -1.0f : 1.0f;
    opt.update(ctx, grads, state, params);
    if (step >= 1000) mean += static_cast<double>(x[0]) / 1000;
  }
  EXPECT_NEAR(mean, 10, 0.3);
}

TEST(OptaxLinks, NaNIsNotHidden) {
  const auto after = [](const auto& link) {
    Buffer<float> x(2), g(2);
    g[0] = std::nanf("");
    g[1] = 1;
    const Parameters<float> params{{"x", std::span<float>(x)}}, grads{{"x", std::span<float>(g)}};
    const auto opt = chain(link);
    auto state = opt.init(params);
    Context ctx;
    for (int step = 0; step < 3; ++step) opt.update(ctx, grads, state, params);
    return std::isnan(x[0]) && std::isfinite(x[1]);
  };
  EXPECT_TRUE(after(scale_by_rprop(0.1)));
  EXPECT_TRUE(after(scale_by_optimistic_gradient()));
  EXPECT_TRUE(after(scale_by_acprop()));
  EXPECT_TRUE(after(scale_by_cocob()));
}

TEST(OptaxLinks, Misuse) { EXPECT_THROW(apply_every(0), unsupported_error); }

}  // namespace
}  // namespace tessera::optim
