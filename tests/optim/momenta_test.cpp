#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <tessera/optim/optim.hpp>

#include "optim/first_order.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

double average(double& m, double b, double x) { return m = b * m + (1 - b) * x; }
double unbiased(double m, double b, double t) { return m / (1 - std::pow(b, t)); }
double sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }

struct Adan {
  static auto link(bool plain) { return scale_by_adan({.eps = plain ? 1e-8 : 0}); }
  static constexpr double rate = 0.01;
  static constexpr bool scale_free = true;
  static constexpr std::size_t slots = 4;
  static double rule(double g, double, double t, double* s) {
    const double d = t == 1 ? 0 : g - s[3];
    average(s[0], 0.98, g);
    average(s[1], 0.92, d);
    average(s[2], 0.99, (g + 0.92 * d) * (g + 0.92 * d));
    s[3] = g;
    return (unbiased(s[0], 0.98, t) + 0.92 * unbiased(s[1], 0.92, t)) / (std::sqrt(unbiased(s[2], 0.99, t)) + 1e-8);
  }
};

struct Ademamix {
  static auto link(bool plain) { return scale_by_ademamix({.b3 = 0.999, .eps = plain ? 1e-8 : 0, .warmup = 60}); }
  static constexpr double rate = 0.01;
  static constexpr bool scale_free = true;
  static constexpr std::size_t slots = 3;
  static double rule(double g, double, double t, double* s) {
    const double f = t / 60, alpha = std::min(1.0, f) * 5;
    const double half = std::log(0.9) * std::log(0.999) / ((1 - f) * std::log(0.999) + f * std::log(0.9));
    average(s[0], 0.9, g);
    average(s[1], t >= 60 ? 0.999 : std::exp(half), g);
    average(s[2], 0.999, g * g);
    return (unbiased(s[0], 0.9, t) + alpha * s[1]) / (std::sqrt(unbiased(s[2], 0.999, t)) + 1e-8);
  }
};

struct Adopt {
  static auto link(bool) { return scale_by_adopt({.b2 = 0.99}); }
  static constexpr double rate = 0.01;
  static constexpr bool scale_free = true;
  static constexpr std::size_t slots = 2;
  static double rule(double g, double, double t, double* s) {
    if (t > 1) {
      const double most = std::pow(t - 1, 0.25);
      average(s[0], 0.9, std::clamp(g / std::max(std::sqrt(s[1]), 1e-6), -most, most));
    }
    s[1] = t == 1 ? g * g : 0.99 * s[1] + 0.01 * g * g;
    return s[0];
  }
};

template <class Kappa>
struct LionCase {
  static auto link(bool) { return scale_by_lion_k(Kappa{}); }
  static constexpr double rate = std::is_same_v<Kappa, kappa::half_squared> ? 3e-4 : 0.01;
  static constexpr bool scale_free = std::is_same_v<Kappa, kappa::l1>;
  static constexpr std::size_t slots = 1;
  static double rule(double g, double, double, double* s) {
    const double c = 0.9 * s[0] + 0.1 * g;
    average(s[0], 0.99, g);
    if constexpr (std::is_same_v<Kappa, kappa::l1>)
      return sign(c);
    else if constexpr (std::is_same_v<Kappa, kappa::half_squared>)
      return c;
    else
      return std::clamp(c / 1, -1.0, 1.0);
  }
};

struct MadgradCase {
  static auto link(bool) { return madgrad(0.02); }
  static constexpr double rate = -1;  // the link is the end of its chain
  static constexpr bool scale_free = false;
  static constexpr std::size_t slots = 3;
  static double rule(double g, double p, double t, double* s) {
    if (t == 1) s[0] = p;
    const double lambda = 0.02 * std::sqrt(t);
    s[1] += lambda * g;
    s[2] += lambda * g * g;
    return 0.1 * (s[0] - s[1] / (std::cbrt(s[2]) + 1e-6) - p);
  }
};

struct Mars {
  static auto link(bool) { return mars_correction(0.025, 0.95); }
  static constexpr double rate = 3e-4;
  static constexpr bool scale_free = false;
  static constexpr std::size_t slots = 1;
  static double rule(double g, double, double t, double* s) {
    const double before = t == 1 ? g : s[0];
    s[0] = g;
    return g + 0.025 * 0.95 / 0.05 * (g - before);
  }
};

struct GrokfastCase {
  static auto link(bool) { return grokfast(); }
  static constexpr double rate = 2e-4;
  static constexpr bool scale_free = false;
  static constexpr std::size_t slots = 1;
  static double rule(double g, double, double, double* s) { return g + 2 * average(s[0], 0.98, g); }
};

struct Sophia {
  static auto link(bool) { return scale_by_sophia({.gamma = 0.05, .every = 3, .batch = 4}); }
  static constexpr double rate = 0.01;
  static constexpr bool scale_free = false;
  static constexpr std::size_t slots = 2;
  static double rule(double g, double, double t, double* s) {
    average(s[0], 0.96, g);
    if (std::fmod(t - 1, 3) == 0) average(s[1], 0.99, 4 * g * g);
    return std::clamp(s[0] / std::max(0.05 * s[1], 1e-12), -1.0, 1.0);
  }
};

template <class Case>
class Momenta : public testing::Test {};
using Cases = testing::Types<Adan, Ademamix, Adopt, LionCase<kappa::l1>, LionCase<kappa::huber>,
                             LionCase<kappa::half_squared>, MadgradCase, Mars, GrokfastCase, Sophia>;
TYPED_TEST_SUITE(Momenta, Cases);

TYPED_TEST(Momenta, FollowsItsRuleOver100Steps) {
  follows_its_rule<double, TypeParam>(1e-11);
  follows_its_rule<float, TypeParam>(2e-4);
}
TYPED_TEST(Momenta, KeepsItsBits) { keeps_its_bits<TypeParam>(); }
TYPED_TEST(Momenta, Descends) { descends<TypeParam>(); }

/// f = ½(x-c)ᵀA(x-c) in three dimensions, and Lion on it.
struct Box {
  static constexpr std::array<std::array<double, 3>, 3> A{{{4, 1, 0}, {1, 3, 0.5}, {0, 0.5, 2}}};
  static constexpr std::array<double, 3> c{2, -3, 0.1};
  Buffer<double> x{3}, g{3};
  Parameters<double> params{{"x", std::span<double>(x)}}, grads{{"x", std::span<double>(g)}};

  static double gradient(const double* at, double* to) {
    double f = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      to[i] = 0;
      for (std::size_t j = 0; j < 3; ++j) to[i] += A[i][j] * (at[j] - c[j]);
      f += 0.5 * to[i] * (at[i] - c[i]);
    }
    return f;
  }
  static double farthest(const Buffer<double>& x) { return std::max({std::abs(x[0]), std::abs(x[1]), std::abs(x[2])}); }
};

TEST(Lion, FallsIntoItsBoxAndStays) {
  Box box;
  const double rate = 0.01, decay = 2;  // |x| <= 1/2
  box.x[0] = 7, box.x[1] = -5, box.x[2] = 0.2;
  const auto opt = lion(rate, 0.9, 0.99, decay);
  auto state = opt.init(box.params);
  Context ctx;
  for (int step = 0; step < 1000; ++step) {
    const double before = std::max(0.0, Box::farthest(box.x) - 1 / decay);
    Box::gradient(box.x.data(), box.g.data());
    opt.update(ctx, box.grads, state, box.params);
    ASSERT_LE(std::max(0.0, Box::farthest(box.x) - 1 / decay), (1 - rate * decay) * before + 1e-15) << step;
  }
  // The box's own minimum, by projected gradients.
  std::array<double, 3> y{}, d{};
  for (int step = 0; step < 5000; ++step) {
    Box::gradient(y.data(), d.data());
    for (std::size_t i = 0; i < 3; ++i) y[i] = std::clamp(y[i] - 0.1 * d[i], -0.5, 0.5);
  }
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(box.x[static_cast<Index>(i)], y[i], 5 * rate) << i;
}

TEST(Lion, FindsAnInnerMinimumAndLosesItsLyapunovValue) {
  Box box;
  const double rate = 1e-3, decay = 0.2;  // |x| <= 5
  const auto opt = lion(rate, 0.9, 0.99, decay);
  auto state = opt.init(box.params);
  Context ctx;
  double last = 0, first = 0;
  for (int step = 0; step < 8000; ++step) {
    Box::gradient(box.x.data(), box.g.data());
    opt.update(ctx, box.grads, state, box.params);
    const auto& m = std::get<0>(state.links).blocks[0][0];
    double l1 = 0, product = 0, unused[3];
    for (Index i = 0; i < 3; ++i) {
      l1 += std::abs(m[i]);
      product += m[i] * box.x[i];
    }
    const double value = lion_lyapunov(Box::gradient(box.x.data(), unused), l1, product, rate, decay);
    if (step == 0)
      first = value;
    else
      ASSERT_LE(value, last + 50 * rate * rate) << step;
    last = value;
  }
  EXPECT_LT(last, 0.01 * first);
  for (Index i = 0; i < 3; ++i) EXPECT_NEAR(box.x[i], Box::c[static_cast<std::size_t>(i)], 30 * rate);
}

TEST(Lion, OtherKappasByHand) {
  Buffer<double> x(2), g(2);
  g[0] = 1;
  g[1] = -30;
  const Parameters<double> params{{"x", std::span<double>(x)}}, grads{{"x", std::span<double>(g)}};
  Context ctx;
  const auto cut = chain(scale_by_lion_k(kappa::soft_threshold{1}), scale(-1));
  auto state = cut.init(params);
  cut.update(ctx, grads, state, params);  // c = 0.1, -3
  EXPECT_EQ(x[0], 0);
  EXPECT_EQ(x[1], 1);
  x[1] = 0;
  const auto smooth = chain(scale_by_lion_k(kappa::relativistic{4}), scale(-1));
  auto other = smooth.init(params);
  smooth.update(ctx, grads, other, params);
  EXPECT_NEAR(x[1], 3.0 / 5, 1e-15);
}

TEST(Sophia, TakesHessiansFromOutside) {
  Buffer<float> x(2), g(2), h(2);
  g[0] = 1, g[1] = 100;
  h[0] = 4, h[1] = 2;
  const Parameters<float> params{{"x", std::span<float>(x)}}, grads{{"x", std::span<float>(g)}},
      hessian{{"x", std::span<float>(h)}};
  const auto link = scale_by_sophia({.b1 = 0.5, .b2 = 0.5, .gamma = 1, .every = 0});
  const auto opt = chain(link, scale(-1));
  auto state = opt.init(params);
  Context ctx;
  link.observe_hessian(ctx, std::get<0>(state.links), hessian);
  opt.update(ctx, grads, state, params);
  EXPECT_EQ(x[0], -0.25f);  // 0.5 over 2
  EXPECT_EQ(x[1], -1);      // 50 over 1, cut
  EXPECT_THROW(link.observe_hessian(ctx, std::get<0>(state.links), {}), shape_error);
}

}  // namespace
}  // namespace tessera::optim
