// The Step Law: its formula, planted laws found again, bowls and their intervals.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <support/message_of.hpp>
#include <tessera/optim/step_law.hpp>
#include <vector>

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

using test::message_of;

TEST(StepLaw, IsItsFormula) {
  for (const auto [N, D] : {std::array{2.15e8, 1.14e10}, {1.07e9, 1e11}, {1.0, 1.0}}) {
    const auto [rate, batch] = step_law(N, D);
    EXPECT_NEAR(std::log(rate), std::log(1.79) - 0.713 * std::log(N) + 0.307 * std::log(D), 1e-12);
    EXPECT_NEAR(std::log(batch), std::log(0.58) + 0.571 * std::log(D), 1e-12);
  }
  EXPECT_NEAR(step_law(1e9, 1e11).learning_rate, 1.6325e-3, 1e-6);
  EXPECT_NEAR(step_law(1e9, 1e11).batch_size, 1.10771e6, 1e2);
  EXPECT_THROW(step_law(0, 1), unsupported_error);
  EXPECT_THROW(step_law(1, std::nan("")), unsupported_error);
}

TEST(StepLaw, APlantedLawIsFoundAgain) {
  const StepLaw planted{3.1, -0.6, 0.25, 0.9, 0.48};
  const Philox draws(4);
  std::vector<StepLawPoint> exact, noisy;
  for (std::uint64_t i = 0; i < 40; ++i) {
    const double N = 1e8 * std::exp(3.0 * static_cast<double>(draws.uniform(2 * i)));
    const double D = 1e10 * std::exp(4.0 * static_cast<double>(draws.uniform(2 * i + 1)));
    const auto [rate, batch] = planted(N, D);
    exact.push_back({N, D, rate, batch});
    noisy.push_back(
        {N, D, rate * std::exp(0.05 * draws.normal(1000 + i)), batch * std::exp(0.05 * draws.normal(2000 + i))});
  }
  const StepLaw found = fit_step_law(exact), near = fit_step_law(noisy);
  EXPECT_NEAR(found.rate_N, -0.6, 1e-10);
  EXPECT_NEAR(found.rate_D, 0.25, 1e-10);
  EXPECT_NEAR(found.batch_D, 0.48, 1e-10);
  EXPECT_NEAR(found.rate_factor, 3.1, 1e-8);
  EXPECT_NEAR(found.batch_factor, 0.9, 1e-8);
  EXPECT_NEAR(near.rate_N, -0.6, 0.04);  // five standard errors: 0.05/(√40·0.87), D's 1.15
  EXPECT_NEAR(near.rate_D, 0.25, 0.04);
  EXPECT_NEAR(near.batch_D, 0.48, 0.04);
  EXPECT_THROW(fit_step_law(std::span(exact).first(2)), unsupported_error);
  std::vector<StepLawPoint> one_size(exact.begin(), exact.begin() + 5);
  for (auto& p : one_size) p.N = 1e9;
  EXPECT_THROW(fit_step_law(one_size), unsupported_error);
  for (const double wrong : {0.0, std::numeric_limits<double>::infinity(), std::nan("")}) {
    std::vector<StepLawPoint> spoilt = exact;
    spoilt[7].learning_rate = wrong;
    EXPECT_SAYS(message_of<unsupported_error>([&] { fit_step_law(spoilt); }), "fit_step_law: point 7 has ");
  }
}

TEST(StepLaw, BowlsHaveTheirMinimumAndItsInterval) {
  std::vector<double> rates, losses, noisy;
  const Philox draws(6);
  for (std::uint64_t i = 0; i < 15; ++i) {
    rates.push_back(1e-4 * std::pow(1.4, static_cast<double>(i)));
    const double d = std::log(rates.back() / 1.2e-3);
    losses.push_back(2.5 + 0.04 * d * d);
    noisy.push_back(losses.back() + 0.004 * draws.normal(i));
  }
  const LossBowl bowl = fit_loss_bowl(rates, losses);
  EXPECT_TRUE(bowl.convex);
  EXPECT_NEAR(bowl.best, 1.2e-3, 1e-12);
  EXPECT_NEAR(bowl.least, 2.5, 1e-12);
  EXPECT_NEAR(bowl.curvature, 0.08, 1e-12);
  EXPECT_NEAR(bowl(3e-3), 2.5 + 0.04 * std::pow(std::log(2.5), 2), 1e-12);
  const auto [low, high, without] = bootstrap_bowl(rates, noisy, 300);
  EXPECT_LT(low, 1.2e-3);
  EXPECT_GT(high, 1.2e-3);
  EXPECT_LT(high / low, 1.6);
  EXPECT_EQ(without, 0);
  for (const double wrong : {0.0, -1.0, std::numeric_limits<double>::infinity(), std::nan("")}) {
    auto spoilt = rates;
    spoilt[4] = wrong;
    EXPECT_SAYS(message_of<unsupported_error>([&] { fit_loss_bowl(spoilt, losses); }), "fit_loss_bowl: point 4 is ");
    spoilt = losses;
    spoilt[3] = wrong;
    if (std::isfinite(wrong)) continue;
    EXPECT_SAYS(message_of<unsupported_error>([&] { fit_loss_bowl(rates, spoilt); }), "fit_loss_bowl: point 3 is ");
  }
  for (double& l : losses) l = -l;
  EXPECT_FALSE(fit_loss_bowl(rates, losses).convex);
  EXPECT_THROW(bootstrap_bowl(rates, losses, 50), unsupported_error);
  EXPECT_THROW(bootstrap_bowl(rates, losses, 50, 1.5), unsupported_error);
  EXPECT_THROW(fit_loss_bowl(std::span(rates).first(2), std::span(losses).first(2)), unsupported_error);
  EXPECT_THROW(fit_loss_bowl(rates, std::span(losses).first(2)), shape_error);

  // How often the interval has the truth in it: 95% is asked for; 15 points' residuals are narrower than the noise.
  int inside = 0;
  for (std::uint64_t trial = 0; trial < 30; ++trial) {
    for (std::uint64_t i = 0; i < 15; ++i) {
      const double d = std::log(rates[i] / 1.2e-3);
      noisy[i] = 2.5 + 0.04 * d * d + 0.004 * draws.normal(100 + 15 * trial + i);
    }
    const auto interval = bootstrap_bowl(rates, noisy, 80, 0.95, trial);
    inside += interval.low <= 1.2e-3 && 1.2e-3 <= interval.high;
  }
  EXPECT_GE(inside, 23);
}

}  // namespace
}  // namespace tessera::optim
