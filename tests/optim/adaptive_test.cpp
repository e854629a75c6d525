#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tessera/optim/optim.hpp>

#include "optim/first_order.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

double average(double& m, double b, double x) { return m = b * m + (1 - b) * x; }
double unbiased(double m, double b, double t) { return m / (1 - std::pow(b, t)); }

struct Rss {
  static auto link(bool plain) { return plain ? scale_by_rss() : scale_by_rss(0, 0); }
  static constexpr double rate = 0.1;
  static constexpr bool scale_free = true;
  static constexpr std::size_t slots = 1;
  static double rule(double g, double, double t, double* s) {
    if (t == 1) s[0] = 0.1;
    s[0] += g * g;
    return g / std::sqrt(s[0] + 1e-7);
  }
};

struct Rms {
  static auto link(bool plain) {
    return scale_by_rms(
        {.eps = plain ? 1e-3 : 0, .initial = plain ? 0.5 : 0, .eps_in_sqrt = false, .bias_correction = true});
  }
  static constexpr double rate = 0.01;
  static constexpr bool scale_free = true;
  static constexpr std::size_t slots = 1;
  static double rule(double g, double, double t, double* s) {
    if (t == 1) s[0] = 0.5;
    average(s[0], 0.9, g * g);
    return g / (std::sqrt(unbiased(s[0], 0.9, t)) + 1e-3);
  }
};

struct Stddev {
  static auto link(bool plain) { return scale_by_stddev(0.9, plain ? 1e-8 : 0); }
  static constexpr double rate = 0.01;
  static constexpr bool scale_free = true;
  static constexpr std::size_t slots = 2;
  static double rule(double g, double, double, double* s) {
    average(s[0], 0.9, g);
    average(s[1], 0.9, g * g);
    return g / std::sqrt(s[1] - s[0] * s[0] + 1e-8);
  }
};

struct Adadelta {
  static auto link(bool) { return scale_by_adadelta(0.9, 1e-4); }
  static constexpr double rate = 1;
  static constexpr bool scale_free = false;
  static constexpr std::size_t slots = 2;
  static double rule(double g, double, double, double* s) {
    average(s[0], 0.9, g * g);
    const double u = std::sqrt(s[1] + 1e-4) / std::sqrt(s[0] + 1e-4) * g;
    average(s[1], 0.9, u * u);
    return u;
  }
};

struct Amsgrad {
  static auto link(bool plain) { return scale_by_amsgrad({.b2 = 0.95, .eps = plain ? 1e-8 : 0}); }
  static constexpr double rate = 0.01;
  static constexpr bool scale_free = true;
  static constexpr std::size_t slots = 3;
  static double rule(double g, double, double t, double* s) {
    average(s[0], 0.9, g);
    average(s[1], 0.95, g * g);
    s[2] = std::max(s[2], unbiased(s[1], 0.95, t));
    return unbiased(s[0], 0.9, t) / (std::sqrt(s[2]) + 1e-8);
  }
};

struct Adamax {
  static auto link(bool plain) { return scale_by_adamax({.b2 = 0.97, .eps = plain ? 1e-8 : 0}); }
  static constexpr double rate = 0.01;
  static constexpr bool scale_free = true;
  static constexpr std::size_t slots = 2;
  static double rule(double g, double, double t, double* s) {
    average(s[0], 0.9, g);
    s[1] = std::max(0.97 * s[1], std::abs(g) + 1e-8);
    return unbiased(s[0], 0.9, t) / s[1];
  }
};

struct Yogi {
  static auto link(bool plain) { return scale_by_yogi({.eps = plain ? 1e-3 : 0}, plain ? 1e-6 : 0); }
  static constexpr double rate = 0.01;
  static constexpr bool scale_free = true;
  static constexpr std::size_t slots = 2;
  static double rule(double g, double, double t, double* s) {
    if (t == 1) s[1] = 1e-6;
    average(s[0], 0.9, g);
    s[1] -= 0.001 * (s[1] > g * g ? 1 : s[1] < g * g ? -1 : 0) * g * g;
    return unbiased(s[0], 0.9, t) / (std::sqrt(unbiased(s[1], 0.999, t)) + 1e-3);
  }
};

struct Belief {
  static auto link(bool plain) { return scale_by_belief({.eps = plain ? 1e-16 : 0, .eps_root = plain ? 1e-16 : 0}); }
  static constexpr double rate = 0.01;
  static constexpr bool scale_free = true;
  static constexpr std::size_t slots = 2;
  static double rule(double g, double, double t, double* s) {
    average(s[0], 0.9, g);
    average(s[1], 0.999, (g - s[0]) * (g - s[0]));
    s[1] += 1e-16;
    return unbiased(s[0], 0.9, t) / (std::sqrt(unbiased(s[1], 0.999, t)) + 1e-16);
  }
};

struct Radam {
  static auto link(bool plain) { return scale_by_radam({.b2 = 0.99, .eps = plain ? 1e-8 : 0}); }
  static constexpr double rate = 0.01;
  static constexpr bool scale_free = false;  // its first steps are momentum
  static constexpr std::size_t slots = 2;
  static double rule(double g, double, double t, double* s) {
    average(s[0], 0.9, g);
    average(s[1], 0.99, g * g);
    const double longest = 2 / 0.01 - 1, power = std::pow(0.99, t), rho = longest - 2 * t * power / (1 - power);
    if (rho < 5) return unbiased(s[0], 0.9, t);
    const double r = std::sqrt((rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho));
    return r * unbiased(s[0], 0.9, t) / (std::sqrt(unbiased(s[1], 0.99, t)) + 1e-8);
  }
};

template <class Case>
class Adaptive : public testing::Test {};
using Cases = testing::Types<Rss, Rms, Stddev, Adadelta, Amsgrad, Adamax, Yogi, Belief, Radam>;
TYPED_TEST_SUITE(Adaptive, Cases);

TYPED_TEST(Adaptive, FollowsItsRuleOver100Steps) {
  follows_its_rule<double, TypeParam>(1e-11);
  follows_its_rule<float, TypeParam>(2e-4);
}
TYPED_TEST(Adaptive, KeepsItsBits) { keeps_its_bits<TypeParam>(); }
TYPED_TEST(Adaptive, Descends) {
  if constexpr (!std::is_same_v<TypeParam, Radam>) descends<TypeParam>();
}

TEST(Adaptive, AZeroGradientOfNoHistoryMovesNothing) {
  Buffer<float> x(2), g(2);
  g[1] = 1;
  const Parameters<float> params{{"x", std::span<float>(x)}}, grads{{"x", std::span<float>(g)}};
  Context ctx;
  const auto opt = adagrad(1, 0, 0);
  auto state = opt.init(params);
  opt.update(ctx, grads, state, params);
  EXPECT_EQ(x[0], 0);
  EXPECT_EQ(x[1], -1);
  g[0] = std::nanf("");
  opt.update(ctx, grads, state, params);
  EXPECT_TRUE(std::isnan(x[0]));  // not hidden by the zero's way out
}

}  // namespace
}  // namespace tessera::optim
