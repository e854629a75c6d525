#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <tessera/core/rng.hpp>
#include <tessera/optim/clip_blocks.hpp>
#include <tessera/optim/conditional.hpp>
#include <tessera/optim/finite.hpp>
#include <tessera/optim/hyper.hpp>
#include <tessera/optim/masked.hpp>
#include <tessera/optim/named.hpp>
#include <tessera/optim/noise.hpp>
#include <tessera/optim/optim.hpp>
#include <tessera/optim/partition.hpp>
#include <tessera/optim/schedules_more.hpp>
#include <tessera/optim/unit_wise.hpp>
#include <utility>
#include <vector>

#include "optim/laws.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

double norm(const std::vector<double>& x) {
  double sum = 0;
  for (double v : x) sum += v * v;
  return std::sqrt(sum);
}
void scale_all(std::vector<double>& x, double by) {
  for (double& v : x) v *= by;
}
void move(Plain& p, const Plain& u, double by) {
  for (std::size_t b = 0; b < p.size(); ++b)
    for (std::size_t i = 0; i < p[b].size(); ++i) p[b][i] += by * u[b][i];
}
template <class F>
std::string message(F&& f) {
  try {
    f();
  } catch (const error& e) {
    return e.what();
  }
  return "nothing";
}

TEST(Links, ClippingFollowsItsFormulas) {
  const auto opt = chain(zero_nans(), clip(0.8), clip_by_block_rms(0.2), clip_by_block_norm(3),
                         normalize_by_update_norm(0.7), scale(-1));
  obeys(
      opt,
      [](Index, Plain g, Plain& p) {
        for (auto& block : g) {
          for (double& x : block) x = std::isnan(x) ? 0 : std::min(0.8, std::max(-0.8, x));
          const double rms = norm(block) / std::sqrt(static_cast<double>(block.size()));
          scale_all(block, 1 / std::max(1.0, rms / 0.2));
          scale_all(block, std::min(1.0, 3 / norm(block)));
        }
        move(p, g, -0.7 / (std::hypot(norm(g[0]), norm(g[1])) + 1e-6));
      },
      1e-14, [](Index step, Parameters<double>& grads) { grads[0].data[7 * step] = nan; });
}

TEST(Links, RowsAreClippedCentredAndGivenNoise) {
  const auto opt = chain(centralize(), adaptive_grad_clip(0.3, 0.5), add_noise(0.01, 0.55, 42), scale(-0.1));
  obeys(
      opt,
      [](Index step, Plain g, Plain& p) {
        for (std::size_t b = 0; b < 2; ++b) {
          const std::size_t cols = g[1].size();  // b is one row
          for (std::size_t from = 0; from < g[b].size(); from += cols) {
            double mean = 0, size = 0, own = 0;
            for (std::size_t i = from; i < from + cols; ++i) mean += g[b][i] / static_cast<double>(cols);
            for (std::size_t i = from; i < from + cols; ++i) {
              if (b == 0) g[b][i] -= mean;
              size += g[b][i] * g[b][i];
              own += p[b][i] * p[b][i];
            }
            const double most = 0.3 * std::max(std::sqrt(own), 0.5);
            if (std::sqrt(size) >= most)
              for (std::size_t i = from; i < from + cols; ++i) g[b][i] *= most / std::sqrt(size);
          }
          const Philox draws(42, static_cast<std::uint64_t>(step) * 2 + b);
          for (std::size_t i = 0; i < g[b].size(); ++i)
            g[b][i] += std::sqrt(0.01 / std::pow(static_cast<double>(step + 1), 0.55)) * draws.normal(i);
        }
        move(p, g, -0.1);
      },
      1e-13);
}

/// The label of a block is its name.
struct by_name {
  std::string operator()(const ParameterInfo& p) const { return p.name; }
};

TEST(Groups, MasksAndPartitionsInsideAChain) {
  std::vector<double> m(190 * 181);
  const auto opt =
      chain(clip_by_global_norm(1), masked(chain(trace(0.9), scale_by_sign()), matrices_only{}),
            masked(scale(0.5), matrices_only{}), partition(by_name{}, group("b", freeze()), group("w", scale(-0.1))));
  obeys(
      opt,
      [&](Index, Plain g, Plain& p) {
        const double all = std::hypot(norm(g[0]), norm(g[1]));
        for (std::size_t i = 0; i < m.size(); ++i) {
          m[i] = 0.9 * m[i] + g[0][i] / all;
          p[0][i] -= 0.05 * (m[i] > 0 ? 1 : -1);
        }
      },
      1e-14);
  Model<double> model(3, 4);
  auto state = opt.init(model.params);
  std::vector<std::string> names;
  state.for_each_buffer([&](const std::string& name, auto) { names.push_back(name); });
  EXPECT_EQ(names, (std::vector<std::string>{"1.masked.count", "1.masked.0.trace.trace.w", "3.partition.w.count"}));
}

auto rated(const HyperValues& h) { return chain(scale_by_adam({.b1 = h["b1"]}), scale_by_learning_rate(h["rate"])); }

TEST(Groups, EachWithItsOptimizerAndHyperparameters) {
  const auto opt = partition(
      by_name{},
      group("w", inject_hyperparams(rated, {{"rate", linear{.init = 0.1, .end = 0.4, .steps = 3}}, {"b1", 0.5}})),
      group("b", sgd(0.25)));
  std::vector<double> m(190 * 181), v(190 * 181);
  obeys(
      opt,
      [&](Index step, Plain g, Plain& p) {
        const double t = static_cast<double>(step + 1), rate = std::min(0.4, 0.1 * t);
        for (std::size_t i = 0; i < m.size(); ++i) {
          m[i] = 0.5 * m[i] + 0.5 * g[0][i];
          v[i] = 0.999 * v[i] + 0.001 * g[0][i] * g[0][i];
          p[0][i] -= rate * m[i] / (1 - std::pow(0.5, t)) / (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-8);
        }
        for (std::size_t i = 0; i < g[1].size(); ++i) p[1][i] -= 0.25 * g[1][i];
      },
      1e-12);
  Model<double> model(3, 4);
  auto state = opt.init(model.params);
  auto& hyper = std::get<0>(state.inner).hyper;
  EXPECT_EQ(hyper["rate"], 0.1);
  EXPECT_EQ(message([&] { hyper.set("rate", 1); }).substr(0, 80),
            "tessera: hyper-parameter 'rate' set to 1, but it follows a schedule; expected on");
  EXPECT_EQ(message([&] { hyper.set("lr", 1); }), "tessera: no hyper-parameter 'lr'; there are: rate, b1");
  EXPECT_EQ(message([&] { partition(by_name{}, group("w", sgd(1.0)), group("rest", freeze())).init(model.params); }),
            "tessera: partition: parameter 'b' has the label 'b'; the groups are: w, rest");
  EXPECT_THROW(partition(by_name{}, group("w", freeze()), group("w", freeze())).init(model.params), unsupported_error);
}

TEST(Groups, HyperparametersChangeWhileRunning) {
  Model<double> model(3, 4);
  const auto before = model.w;
  const auto opt = inject_hyperparams([](const HyperValues& h) { return sgd(h["rate"]); }, {{"rate", 0.5}});
  auto state = opt.init(model.params);
  Context ctx;
  opt.update(ctx, model.grads, state, model.params);
  state.hyper.set("rate", 0.25);
  opt.update(ctx, model.grads, state, model.params);
  for (Index i = 0; i < 12; ++i) EXPECT_NEAR(model.w[i], before[i] - 0.75 * model.dw[i], 1e-15);
  EXPECT_THROW(inject_hyperparams(rated, {{"rate", 0.5}}).init(model.params), unsupported_error);  // b1 is not there
}

TEST(Finite, StepsThatAreNotAreLeftOutUpToALimit) {
  const auto opt = apply_if_finite(sgd(0.5, 0.5), 2);
  std::vector<double> m(190 * 181), n(181);
  obeys(
      opt,
      [&](Index step, Plain g, Plain& p) {
        if (step == 1 || step == 3) return;
        for (std::size_t i = 0; i < m.size(); ++i) p[0][i] -= 0.5 * (m[i] = 0.5 * m[i] + g[0][i]);
        for (std::size_t i = 0; i < n.size(); ++i) p[1][i] -= 0.5 * (n[i] = 0.5 * n[i] + g[1][i]);
      },
      1e-14,
      [](Index step, Parameters<double>& grads) {
        if (step == 1) grads[1].data[180] = nan;
        if (step == 3) grads[0].data[190 * 181 - 1] = -std::numeric_limits<double>::infinity();
      });
  Model<double> model(3, 4);
  auto state = opt.init(model.params);
  Context ctx;
  model.db[2] = nan;
  for (int step = 0; step < 3; ++step) {
    EXPECT_FALSE(std::isnan(model.b[2]));
    opt.update(ctx, model.grads, state, model.params);
  }
  EXPECT_TRUE(std::isnan(model.b[2]));  // the third in a row is carried out
  EXPECT_EQ(state.total, 3);
  EXPECT_EQ(state.last, "b");
  model.db[2] = 1e200;  // its square is beyond double
  opt.update(ctx, model.grads, state, model.params);
  EXPECT_EQ(state.in_a_row, 0);
}

TEST(Finite, OtherParametersAreRefusedWhateverTheirGradients) {
  Model<double> model(3, 2), other(4, 2);
  other.dw[3] = nan;
  Parameters<double> none;
  Context ctx;
  const auto refuses = [&](const auto& opt, auto&& seen) {
    auto state = opt.init(model.params);
    EXPECT_THROW(opt.update(ctx, other.grads, state, other.params), shape_error);
    EXPECT_THROW(opt.update(ctx, other.grads, state, model.params), shape_error);
    EXPECT_THROW(opt.update(ctx, other.grads, state, none), shape_error);
    EXPECT_THROW(opt.update(ctx, none, state, none), shape_error);
    EXPECT_EQ(seen(state), 0);
  };
  refuses(apply_if_finite(sgd(0.1), 5), [](const auto& state) { return state.total; });
  refuses(skip_updates(sgd(0.1), not_finite{}), [](const auto& state) { return state.skipped; });
  const auto never = [](Index) { return false; };
  refuses(conditionally_transform(sgd(0.1), never), [](const auto& state) { return state.count; });
}

TEST(Finite, ErrorsNameTheParameter) {
  Model<double> model(3, 4);
  const auto before = model.w;
  model.dw[6] = nan;
  const auto opt = chain(require_finite(), scale(-1));
  auto state = opt.init(model.params);
  Context ctx;
  EXPECT_EQ(
      message([&] { opt.update(ctx, model.grads, state, model.params); }),
      "tessera: the gradient of 'w' (3x4) has 1 elements that are not finite, the first nan at (1, 2); expected none");
  EXPECT_TRUE(same_bits(before, model.w));
  EXPECT_EQ(state.count, 0);
}

TEST(Named, LinksAreFoundAndListedByTheirNames) {
  Model<double> model(3, 4);
  model.dw[3] = nan;
  const auto opt = chain(named<"bad">(zero_nans()), named<"slow">(trace(0.5)), scale(-1));
  auto state = opt.init(model.params);
  Context ctx;
  opt.update(ctx, model.grads, state, model.params);
  EXPECT_EQ(link_state<"bad">(state).total, 1);
  EXPECT_EQ(link_state<"slow">(state).blocks[0][0][3], 0);
  EXPECT_EQ(saved(state).count("1.slow.trace.b"), 1u);
}

TEST(Schedules, OptaxsFormulas) {
  EXPECT_DOUBLE_EQ((linear{.init = 1, .end = 0, .steps = 4, .begin = 2})(3), 0.75);
  EXPECT_DOUBLE_EQ((polynomial{.init = 1, .end = 0.5, .power = 2, .steps = 4})(2), 0.625);
  EXPECT_DOUBLE_EQ((polynomial{.init = 1, .end = 0.5, .power = 2, .steps = 4})(99), 0.5);
  EXPECT_DOUBLE_EQ((exponential_decay{.init = 2, .rate = 0.25, .steps = 4})(2), 1);
  EXPECT_DOUBLE_EQ((exponential_decay{.init = 2, .rate = 0.25, .steps = 4, .staircase = true})(7), 0.5);
  EXPECT_DOUBLE_EQ((exponential_decay{.init = 2, .rate = 0.25, .steps = 4, .begin = 3, .end = 0.3})(3), 2);
  EXPECT_DOUBLE_EQ((exponential_decay{.init = 2, .rate = 0.25, .steps = 4, .end = 0.3})(99), 0.3);
  const piecewise_constant steps{.init = 1, .factors = {{3, 0.5}, {5, 0.1}}};
  EXPECT_DOUBLE_EQ(steps(2), 1);
  EXPECT_DOUBLE_EQ(steps(3), 0.5);
  EXPECT_DOUBLE_EQ(steps(5), 0.05);
  EXPECT_DOUBLE_EQ((cosine_decay{.init = 2, .steps = 10, .alpha = 0.1})(5), 1.1);
  const one_cycle cycle{.peak = 1, .steps = 100};
  EXPECT_NEAR(cycle(0), 0.04, 1e-15);
  EXPECT_NEAR(cycle(15), 0.52, 1e-15);
  EXPECT_NEAR(cycle(30), 1, 1e-15);
  EXPECT_NEAR(cycle(65), (1 + 0.04 / 1e4) / 2, 1e-15);
  EXPECT_NEAR(cycle(1000), 0.04 / 1e4, 1e-15);
  const one_cycle lines{.peak = 1, .steps = 100, .straight = true};
  EXPECT_NEAR(lines(85), 0.04, 1e-15);
  EXPECT_NEAR(lines(57), 1 - 0.96 * 27 / 55, 1e-15);
  for (const auto shape : {Cooldown::linear, Cooldown::cosine, Cooldown::one_minus_sqrt}) {
    const warmup_stable_decay wsd{.peak = 1, .end = 0.2, .warmup = 10, .stable = 20, .decay = 16, .shape = shape};
    EXPECT_DOUBLE_EQ(wsd(5), 0.5);
    EXPECT_DOUBLE_EQ(wsd(29), 1);
    EXPECT_DOUBLE_EQ(wsd(34), 0.2 + 0.8 * (shape == Cooldown::linear   ? 0.75
                                           : shape == Cooldown::cosine ? 0.5 + 0.25 * std::sqrt(2.0)
                                                                       : 0.5));
    EXPECT_DOUBLE_EQ(wsd(46), 0.2);
  }
  EXPECT_DOUBLE_EQ((inverse_sqrt{.peak = 2, .warmup = 4})(1), 1);
  EXPECT_DOUBLE_EQ((inverse_sqrt{.peak = 2, .warmup = 4})(15), 1);
  const sgdr restarts{.peak = 1, .period = 4, .growth = 2};
  EXPECT_DOUBLE_EQ(restarts(2), 0.5);
  EXPECT_DOUBLE_EQ(restarts(4), 1);
  EXPECT_DOUBLE_EQ(restarts(8), 0.5);
  EXPECT_DOUBLE_EQ(restarts(12), 1);
  EXPECT_GE((sgdr{.period = 3, .growth = std::numeric_limits<Index>::max()})(std::numeric_limits<Index>::max()), 0);
  const auto joined = join_schedules({3, 7}, linear{.init = 0, .end = 3, .steps = 3}, constant{3},
                                     linear{.init = 3, .end = 0, .steps = 6});
  for (const auto& [step, value] : {std::pair<Index, double>{0, 0}, {2, 2}, {3, 3}, {6, 3}, {7, 3}, {9, 2}, {99, 0}})
    EXPECT_DOUBLE_EQ(joined(step), value) << step;
  EXPECT_THROW(join_schedules({7, 3}, constant{1}, constant{2}, constant{3}), unsupported_error);
}

}  // namespace
}  // namespace tessera::optim
