// Boosted hidden layers: stages that help, sums that are one network, errors beside a network trained at once.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <support/message_of.hpp>
#include <tessera/optim/gbnn.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

struct Set {
  Index n, d;
  Buffer<double> X;
  std::vector<double> y;
  MatrixView<const double> rows() const { return {X.data(), n, d}; }
};
/// sin(2x₀) + x₁x₂ - |x₃|, with noise; or its sign with a tenth of all labels wrong.
Set data(Index n, bool signs, std::uint64_t seed) {
  constexpr Index d = 5;
  Set set{n, d, test::random_buffer<double>(n * d, seed), {}};
  const Philox noise(seed + 1);
  for (Index i = 0; i < n; ++i) {
    const double* x = set.X.data() + i * d;
    const double f = std::sin(2 * x[0]) + x[1] * x[2] - std::abs(x[3]) + 0.5;
    const auto at = static_cast<std::uint64_t>(i);
    set.y.push_back(!signs ? f + 0.3 * noise.normal(at) : (f > 0) == (noise.below(at, 10) > 0) ? 1.0 : -1.0);
  }
  return set;
}
/// Mean square, or share of wrong signs, of what the first stages say.
double error(Context& ctx, const Gbnn<double>& net, const Set& set, bool signs, Index stages = -1) {
  Buffer<double> said(set.n);
  net.predict(ctx, set.rows(), VectorView<double>(said.data(), set.n), stages);
  double sum = 0;
  for (Index i = 0; i < set.n; ++i) {
    const double y = set.y[static_cast<std::size_t>(i)];
    sum += signs ? (y * said[i] <= 0 ? 1 : 0) : (y - said[i]) * (y - said[i]);
  }
  return sum / static_cast<double>(set.n);
}

TEST(Gbnn, EveryStageHelpsAndTheirSumIsOneNetwork) {
  Context ctx;
  for (const bool signs : {false, true}) {
    const Set train = data(300, signs, 1), held = data(400, signs, 2);
    const GbnnOptions options{
        .stages = 10, .units = 4, .loss = signs ? BoostLoss::logistic : BoostLoss::squared, .inner_steps = 120};
    const auto net = gbnn_fit<double>(ctx, train.rows(), train.y, options);
    ASSERT_EQ(net.history.size(), 11u);
    for (std::size_t t = 0; t < 10; ++t) EXPECT_LT(net.history[t + 1], net.history[t]) << t;

    // The expansion, stage by stage and unit by unit.
    Buffer<double> said(held.n), before(held.n);
    double largest = 0;
    for (Index used = 0; used <= 10; ++used) {
      net.predict(ctx, held.rows(), VectorView<double>(said.data(), held.n), used);
      double moved = 0;
      for (Index i = 0; i < held.n; ++i) {
        double sum = net.start;
        for (Index t = 0; t < used; ++t) {
          sum += net.offset[t];
          for (Index k = 4 * t; k < 4 * t + 4; ++k) {
            double z = net.bias[k];
            for (Index j = 0; j < held.d; ++j) z += net.W[k * held.d + j] * held.X[i * held.d + j];
            sum += net.output[k] * std::tanh(z);
          }
        }
        ASSERT_NEAR(said[i], sum, 1e-6);
        moved += used > 0 ? std::abs(said[i] - before[i]) / static_cast<double>(held.n) : 0;
      }
      if (used == 1) largest = moved;
      EXPECT_LE(moved, 1.2 * largest) << used;  // no later stage says more than the first
      before = said;
    }

    // Fewer stages are worse by little, and all are as good as all units trained at once.
    const auto at_once = gbnn_fit<double>(
        ctx, train.rows(), train.y,
        {.stages = 1, .units = 40, .loss = options.loss, .shrinkage = 1, .inner_steps = 300, .rate = 0.03});
    const double none = error(ctx, net, held, signs, 0), half = error(ctx, net, held, signs, 5),
                 most = error(ctx, net, held, signs, 8), all = error(ctx, net, held, signs),
                 peer = error(ctx, at_once, held, signs);
    std::printf("held out, 0, 5, 8, 10 stages: %.3f %.3f %.3f %.3f; at once %.3f\n", none, half, most, all, peer);
    EXPECT_LT(all, 0.75 * none);
    EXPECT_LT(half, none);
    EXPECT_LT(most, 1.25 * all);
    EXPECT_LT(all, 1.35 * peer);
  }
}

TEST(Gbnn, GradientsOfItsUnitsAreTheirs) {  // a unit is found again where the data is one
  Context ctx;
  Set set{40, 2, test::random_buffer<double>(80, 8), {}};
  for (Index i = 0; i < 40; ++i)
    set.y.push_back(0.7 + 1.5 * std::tanh(0.8 * set.X[2 * i] - 0.4 * set.X[2 * i + 1] + 0.2));
  const auto net = gbnn_fit<double>(ctx, set.rows(), set.y,
                                    {.stages = 1, .units = 2, .shrinkage = 1, .inner_steps = 1000, .rate = 0.05});
  EXPECT_LT(net.history[1], 1e-3 * net.history[0]);
}

TEST(Gbnn, SameBitsForThreadsAndRefusals) {
  Context ctx;
  auto threads = Context::with_threads(3);
  const Set set = data(700, true, 3);
  const GbnnOptions options{.stages = 2, .units = 3, .loss = BoostLoss::logistic, .inner_steps = 10};
  const auto one = gbnn_fit<double>(ctx, set.rows(), set.y, options),
             three = gbnn_fit<double>(threads, set.rows(), set.y, options);
  for (Index k = 0; k < one.W.size(); ++k) ASSERT_EQ(one.W[k], three.W[k]);
  for (Index k = 0; k < one.output.size(); ++k) ASSERT_EQ(one.output[k], three.output[k]);
  Buffer<double> said(700);
  const VectorView<double> to(said.data(), 700);
  EXPECT_THROW(one.predict(ctx, set.rows(), to, 3), shape_error);
  EXPECT_THROW(one.predict(ctx, MatrixView<const double>(set.X.data(), 875, 4), to), shape_error);
  EXPECT_THROW(gbnn_fit<double>(ctx, set.rows(), std::span(set.y).first(3)), shape_error);
  auto odd = set.y;
  odd[5] = 0;
  EXPECT_THROW(gbnn_fit<double>(ctx, set.rows(), odd, options), unsupported_error);
  odd[5] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_SAYS(test::message_of<property_error>([&] { gbnn_fit<double>(ctx, set.rows(), odd, {}); }),
              "gbnn_fit: target 5 is nan; expected a finite number");
  Set spoilt = set;
  spoilt.X[13] = -std::numeric_limits<double>::infinity();
  EXPECT_SAYS(test::message_of<property_error>([&] { gbnn_fit<double>(ctx, spoilt.rows(), set.y, options); }),
              "gbnn_fit: X(2, 3) is -inf; expected a finite number");
}

}  // namespace
}  // namespace tessera::optim
