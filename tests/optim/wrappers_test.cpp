#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <tessera/optim/accumulate.hpp>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/any.hpp>
#include <tessera/optim/average.hpp>
#include <tessera/optim/lookahead.hpp>
#include <tessera/optim/projections.hpp>
#include <tessera/optim/sam.hpp>
#include <tessera/optim/schedules_more.hpp>
#include <thread>
#include <vector>

#include "optim/laws.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

/// Momentum 0.5 at rate 0.1, written plainly.
struct PlainMomentum {
  Plain m{std::vector<double>(190 * 181), std::vector<double>(181)};
  void operator()(const Plain& g, Plain& p, double by = 1) {
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t i = 0; i < p[b].size(); ++i) p[b][i] -= 0.1 * (m[b][i] = 0.5 * m[b][i] + by * g[b][i]);
  }
};

TEST(MultiSteps, MovesByTheMeanOfSeveralGradients) {
  PlainMomentum inner;
  Plain sum{std::vector<double>(190 * 181), std::vector<double>(181)};
  obeys(
      multi_steps(sgd(0.1, 0.5), 3),
      [&](Index step, const Plain& g, Plain& p) {
        for (std::size_t b = 0; b < 2; ++b)
          for (std::size_t i = 0; i < g[b].size(); ++i) sum[b][i] += g[b][i];
        if (step == 2) inner(sum, p, 1.0 / 3);
      },
      1e-14);
  EXPECT_THROW(multi_steps(sgd(0.1), 0), unsupported_error);
}

/// Clipping that no one before it knows as that.
struct ClipOfItsOwn {
  static constexpr std::string_view name = "clip_of_its_own";
  ClipByGlobalNorm clip;
  template <class T>
  auto init(const Parameters<T>& params) const {
    return clip.init(params);
  }
  template <class T>
  auto reduce(Context& ctx, std::span<const VectorView<const T>> updates, ClipByGlobalNorm::State& state) const {
    return clip.reduce<T>(ctx, updates, state);
  }
};

template <class T>
void clips_by_a_norm_taken_in_passing(Index every, Index threads) {
  const auto with = [&](const auto& clip, auto before, Model<T>& model, Context& ctx) {
    const auto opt = multi_steps(chain(clip, scale_by_adam()), every);
    const auto second = chain(before, clip, trace(0.9), scale(-0.01));
    auto state = opt.init(model.params);
    auto after = second.init(model.params);
    for (Index step = 0; step < 2 * every + 1; ++step) {
      model.draw(step);
      opt.update(ctx, model.grads, state, model.params);
      second.update(ctx, model.grads, after, model.params);
    }
    return std::pair(std::get<0>(state.inner.links).norm, std::get<1>(after.links).norm);
  };
  Model<T> plain(130, 131), fused(130, 131);  // two pieces, the last one short
  Context one, ctx = Context::with_threads(threads);
  const auto norms = with(ClipOfItsOwn{ClipByGlobalNorm(0.5)}, scale_by_adam(), plain, one);
  EXPECT_EQ(with(clip_by_global_norm(0.5), scale_by_adam(), fused, ctx), norms);
  EXPECT_GT(std::min(norms.first, norms.second), 0.5);
  EXPECT_TRUE(same_bits(plain.w, fused.w) && same_bits(plain.b, fused.b)) << every << " steps, " << threads;
  const auto opt = chain(clip_by_global_norm(0.5), scale(-0.1));  // and told from outside
  auto a = opt.init(plain.params), b = opt.init(fused.params);
  opt.update(one, plain.grads, a, plain.params);
  opt.update(ctx, fused.grads, b, fused.params, global_norm(ctx, fused.grads));
  EXPECT_TRUE(same_bits(plain.w, fused.w) && same_bits(plain.b, fused.b));
}

TEST(ClipByGlobalNorm, NormsTakenInPassingAreThoseOfAPassOfTheirOwn) {
  for (const Index every : {1, 3})
    for (const Index threads : {1, 3}) clips_by_a_norm_taken_in_passing<float>(every, threads);
  clips_by_a_norm_taken_in_passing<double>(2, 2);
}

TEST(ClipByGlobalNorm, BlocksOfNoElementsNoBlocksAndNoLinksPass) {
  Context ctx = Context::with_threads(3);
  std::vector<float> x(16385), g(16385, 1.0f);  // one more than a piece
  Parameters<float> params{{"none", std::span<float>()}, {"x", std::span<float>(x)}}, grads = params;
  grads[1].data = g.data();
  const auto opt = multi_steps(chain(clip_by_global_norm(1), scale(-1), clip_by_global_norm(2)), 2);
  auto state = opt.init(params);
  for (int step = 0; step < 2; ++step) opt.update(ctx, grads, state, params);
  EXPECT_DOUBLE_EQ(std::get<0>(state.inner.links).norm, std::sqrt(16385.0));
  EXPECT_NEAR(std::get<2>(state.inner.links).norm, 1, 1e-6);
  for (const float v : x) ASSERT_NEAR(v, -1 / std::sqrt(16385.0f), 1e-9f);
  g.back() = std::numeric_limits<float>::quiet_NaN();
  for (int step = 0; step < 2; ++step) opt.update(ctx, grads, state, params);
  EXPECT_TRUE(std::isnan(std::get<0>(state.inner.links).norm) && std::isnan(std::get<2>(state.inner.links).norm));
  EXPECT_TRUE(std::all_of(x.begin(), x.end(), [](float v) { return std::isnan(v); }));
  Parameters<float> nothing;
  auto of_nothing = opt.init(nothing);
  for (int step = 0; step < 2; ++step) opt.update(ctx, nothing, of_nothing, nothing);
  EXPECT_EQ(std::get<0>(of_nothing.inner.links).norm, 0);
  const auto plain = multi_steps(chain(), 2);
  auto of_plain = plain.init(params);
  for (int step = 0; step < 2; ++step) plain.update(ctx, grads, of_plain, params);
}

TEST(ClipByGlobalNorm, ANormToldWithOtherBlocksIsNotKept) {
  Model<double> model(3, 2), other(4, 2);
  const auto opt = chain(clip_by_global_norm(1), scale(-1));
  auto state = opt.init(model.params);
  Context ctx;
  EXPECT_THROW(opt.update(ctx, other.grads, state, model.params, 7.0), shape_error);
  EXPECT_EQ(std::get<0>(state.links).norm, 0);
}

TEST(ClipByGlobalNorm, SchedulesBeforeItAreAskedOnceABlockByTheCaller) {
  Model<float> model(130, 131);
  int asked = 0;
  const auto caller = std::this_thread::get_id();
  const auto opt = chain(scale_by_schedule([&](Index) {
                           EXPECT_EQ(std::this_thread::get_id(), caller);
                           return ++asked, 1.0;
                         }),
                         clip_by_global_norm(1), scale(-1));
  auto state = opt.init(model.params);
  Context ctx = Context::with_threads(3);
  opt.update(ctx, model.grads, state, model.params);
  EXPECT_EQ(asked, 2);
}

TEST(MultiSteps, OtherParametersAreRefusedAtTheFirst) {
  Model<double> model(3, 2), other(4, 2);
  const auto opt = multi_steps(sgd(0.1), 2);
  auto state = opt.init(model.params);
  Context ctx;
  for (int i = 0; i < 2; ++i) EXPECT_THROW(opt.update(ctx, model.grads, state, other.params), shape_error);
  EXPECT_THROW(opt.update(ctx, other.grads, state, model.params), shape_error);
  EXPECT_EQ(state.mini_step, 0);
  opt.update(ctx, model.grads, state, model.params);
  EXPECT_THROW(opt.update(ctx, model.grads, state, other.params), shape_error);
  EXPECT_EQ(state.mini_step, 1);
}

TEST(Lookahead, AndAnAverageBesideIt) {
  PlainMomentum inner;
  Plain slow, average;
  const auto opt = averaged(lookahead(sgd(0.1, 0.5), 2, 0.25), ema_average{0.75});
  obeys(
      opt,
      [&](Index step, const Plain& g, Plain& p) {
        if (step == 0) slow = average = p;
        inner(g, p);
        for (std::size_t b = 0; b < 2; ++b)
          for (std::size_t i = 0; i < p[b].size(); ++i) {
            if (step % 2 == 1) p[b][i] = slow[b][i] += 0.25 * (p[b][i] - slow[b][i]);
            average[b][i] += 0.25 * (p[b][i] - average[b][i]);
          }
      },
      1e-14);
  Model<double> model(190, 181);
  Context ctx;
  auto state = trained(ctx, opt, model);
  const auto last = model.w;
  opt.swap(state, model.params);
  for (Index i = 0; i < last.size(); ++i) ASSERT_NEAR(model.w[i], average[0][static_cast<std::size_t>(i)], 1e-14);
  EXPECT_THROW(opt.update(ctx, model.grads, state, model.params), unsupported_error);
  opt.swap(state, model.params);
  EXPECT_TRUE(same_bits(last, model.w));
}

TEST(Average, WeightsGiveMeans) {
  const std::vector<double> seen{3, 1, 4, 1, 5, 9, 2, 6};
  double polyak = 0, swa = 0;
  for (std::size_t t = 0; t < seen.size(); ++t) {
    const auto count = static_cast<Index>(t + 1);
    polyak += polyak_average{2}(count) * (seen[t] - polyak);
    swa += swa_average{2, 3}(count) * (seen[t] - swa);
  }
  EXPECT_NEAR(polyak, (4 + 1 + 5 + 9 + 2 + 6) / 6.0, 1e-15);
  EXPECT_NEAR(swa, (1 + 5 + 6) / 3.0, 1e-15);  // from step 2, then after 5 and 8
}

TEST(ScheduleFree, FollowsItsFormulas) {
  const linear rate{.init = 0, .end = 0.2, .steps = 3};
  const auto opt = schedule_free(chain(scale_by_adam({.b1 = 0}), scale_by_learning_rate(rate), ema(0.5)), rate, 0.75);
  Plain x;
  const auto follows = [&](Index rows, Index cols, Index steps) {
    Plain z, v{std::vector<double>(static_cast<std::size_t>(rows * cols)),
               std::vector<double>(static_cast<std::size_t>(cols))};
    Plain e = v;
    double sum = 0;
    obeys(
        opt,
        [&](Index step, const Plain& g, Plain& y) {
          if (step == 0) z = x = y;
          const double eta = rate(step), t = static_cast<double>(step + 1);
          sum += eta * eta;
          const double c = sum > 0 ? eta * eta / sum : 0;
          for (std::size_t b = 0; b < 2; ++b)
            for (std::size_t i = 0; i < y[b].size(); ++i) {
              v[b][i] = 0.999 * v[b][i] + 0.001 * g[b][i] * g[b][i];
              const double u = -eta * g[b][i] / (std::sqrt(v[b][i] / (1 - std::pow(0.999, t))) + 1e-8);
              e[b][i] = 0.5 * e[b][i] + 0.5 * u;
              z[b][i] += e[b][i] / (1 - std::pow(0.5, t));
              x[b][i] = (1 - c) * x[b][i] + c * z[b][i];
              y[b][i] = 0.25 * z[b][i] + 0.75 * x[b][i];
            }
        },
        1e-11, nothing_else, rows, cols, steps);
  };
  follows(9, 7, 100);
  follows(190, 181, law_steps);
  Model<double> model(190, 181);
  Context ctx;
  auto state = trained(ctx, opt, model);
  opt.evaluation(ctx, state, model.params, model.params);
  for (Index i = 0; i < model.w.size(); ++i) ASSERT_NEAR(model.w[i], x[0][static_cast<std::size_t>(i)], 1e-11);
  EXPECT_THROW(schedule_free(sgd(rate), rate, 0), unsupported_error);
}

TEST(Sam, ClimbsAndComesBack) {
  for (const bool adaptive : {false, true}) {
    Model<double> model(3, 4);
    const auto w = model.w;
    const auto opt = sam(sgd(0.5), 0.1, adaptive);
    auto state = opt.init(model.params);
    Context ctx;
    EXPECT_THROW(opt.update(ctx, model.grads, state, model.params), unsupported_error);
    double sum = 0;
    for (const std::size_t b : {std::size_t{0}, std::size_t{1}})
      for (std::size_t i = 0; i < model.grads[b].values().size(); ++i)
        sum += std::pow(model.grads[b].data[i] * (adaptive ? model.params[b].data[i] : 1), 2);
    opt.perturb(ctx, model.grads, state, model.params);
    for (Index i = 0; i < 12; ++i)
      EXPECT_NEAR(model.w[i], w[i] + 0.1 * model.dw[i] * (adaptive ? w[i] * w[i] : 1) / std::sqrt(sum),
                  1e-13);  // beside 1e-12 in the divisor
    EXPECT_THROW(opt.perturb(ctx, model.grads, state, model.params), unsupported_error);
    auto resumed = opt.init(model.params);
    restore(resumed, saved(state));
    model.draw(1);
    opt.update(ctx, model.grads, resumed, model.params);
    for (Index i = 0; i < 12; ++i) EXPECT_EQ(model.w[i], w[i] - 0.5 * model.dw[i]);
  }
}

/// A step that fails where SAM looks leaves no trace: after it all goes on as if it had not been.
TEST(Sam, WhatFailsAtThePerturbedPointIsUndone) {
  const AnyOptimizer<double> opt("sam", sam(adamw(1e-3)));
  for (const bool throws : {false, true}) {
    Model<double> model(3, 4), untouched(3, 4);
    auto state = opt.init(model.params), expected = opt.init(untouched.params);
    Context ctx;
    const auto step = [&](Model<double>& m, auto& its, Index at, bool fails) {
      int looked = 0;
      const auto gradient = [&] {
        m.draw(at + looked);
        if (!fails || looked++ == 0) return 1.0;
        if (throws) throw std::runtime_error("out of data");
        m.dw[5] = std::numeric_limits<double>::quiet_NaN();
        return m.dw[5];
      };
      return opt.step(ctx, {gradient, [] { return 1.0; }}, m.grads, its, m.params);
    };
    const auto same = [&] { return same_bits(model.w, untouched.w) && same_bits(model.b, untouched.b); };
    step(model, state, 0, false);
    step(untouched, expected, 0, false);
    try {
      step(model, state, 1, true);
      FAIL() << "nothing was thrown";
    } catch (const property_error& failure) {
      EXPECT_FALSE(throws);
      EXPECT_STREQ(failure.what(),
                   "tessera: the loss is nan; expected a finite one; the first such element is of the gradient of 'w' "
                   "(3x4), nan at (1, 1)");
    } catch (const std::runtime_error& failure) {
      EXPECT_STREQ(failure.what(), "out of data");
    }
    EXPECT_TRUE(same());
    EXPECT_EQ(step(model, state, 2, false), 1);
    step(untouched, expected, 2, false);
    EXPECT_TRUE(same());
    EXPECT_FALSE(same_bits(model.w, Model<double>(3, 4).w));
  }
}

TEST(Proximal, RowsBecomeZeroAsAWhole) {
  obeys(
      proximal(sgd(0.1, 0.5), prox_rows{40}, constant{0.1}, matrices_only{}),
      [inner = PlainMomentum()](Index, const Plain& g, Plain& p) mutable {
        inner(g, p);
        for (std::size_t row = 0; row < 190; ++row) {
          double sum = 0;
          for (std::size_t i = 0; i < 181; ++i) sum += p[0][row * 181 + i] * p[0][row * 181 + i];
          for (std::size_t i = 0; i < 181; ++i) p[0][row * 181 + i] *= std::max(0.0, 1 - 4 / std::sqrt(sum));
        }
      },
      1e-13);
}

/// x (n) after `map` alone.
template <class Map>
std::vector<double> after(const Map& map, std::vector<double> x, double rate = 1) {
  Context ctx;
  map(ctx, Parameters<double>{{"x", std::span<double>(x)}}, rate);
  return x;
}

TEST(Proximal, MapsByHand) {
  using V = std::vector<double>;
  EXPECT_EQ(after(prox_l1{2}, {3, -0.5, -2, 0.75}, 0.5), (V{2, 0, -1, 0}));
  EXPECT_EQ(after(prox_l2{2}, {3, -1.5}, 0.25), (V{2, -1}));
  EXPECT_EQ(after(project_box{-1, 2}, {3, -0.5, -2}), (V{2, -0.5, -1}));
  EXPECT_EQ(after(project_box{}, {3, -0.5, -2}), (V{3, 0, 0}));
  EXPECT_EQ(after(project_l2_ball{2.5}, {3, 4}), (V{1.5, 2}));
  EXPECT_EQ(after(project_l2_ball{6}, {3, 4}), (V{3, 4}));
  EXPECT_EQ(after(project_simplex{}, {2, 1.5, 0}), (V{0.75, 0.25, 0}));
  EXPECT_EQ(after(project_simplex{}, {-3}), (V{1}));
  EXPECT_EQ(after(project_l1_ball{1}, {-2, 1.5, 0.25}), (V{-0.75, 0.25, 0}));
  EXPECT_EQ(after(project_l1_ball{4}, {-2, 1.5, 0.25}), (V{-2, 1.5, 0.25}));
  EXPECT_TRUE(after(project_simplex{}, {}).empty());
  for (double x : after(project_simplex{}, {1, std::numeric_limits<double>::quiet_NaN(), 2}))
    EXPECT_TRUE(std::isnan(x));
}

TEST(Proximal, ProjectionsAreTheNearestPoints) {
  const auto draws = random_buffer<double>(50, 7);
  const std::vector<double> x(draws.begin(), draws.end());
  for (const bool ball : {false, true}) {
    const auto p = ball ? after(project_l1_ball{1}, x) : after(project_simplex{}, x);
    double sum = 0, inner = 0;  // <x - p, y - p> <= 0 for every corner y
    for (std::size_t i = 0; i < x.size(); ++i) {
      EXPECT_TRUE(ball || p[i] >= 0);
      sum += std::abs(p[i]);
      inner += (x[i] - p[i]) * p[i];
    }
    EXPECT_NEAR(sum, 1, 1e-14);
    for (std::size_t i = 0; i < x.size(); ++i)
      EXPECT_LE((ball ? std::abs(x[i] - p[i]) : x[i] - p[i]) - inner, 1e-14) << i;
  }
}

/// Four pairs of blocks, each pulled to a target; only pair 2 matters much. Pairs that are not zero in the end.
std::vector<std::string> pairs_left(double lambda) {
  std::vector<std::string> names;
  for (const char* layer : {"0", "1", "2", "3"})
    for (const char* part : {"a", "b"}) names.push_back(std::string(layer) + part);
  std::vector<std::vector<double>> p(8, std::vector<double>(6, 0.5)), g = p;
  Parameters<double> params, grads;
  for (std::size_t b = 0; b < 8; ++b) {
    params.emplace_back(names[b], std::span<double>(p[b]));
    grads.emplace_back(names[b], std::span<double>(g[b]));
  }
  const auto layer = [](const ParameterInfo& block) { return block.name.substr(0, 1); };
  const auto opt = proximal(sgd(0.2), group_lasso_prox(layer, lambda), constant{0.2});
  auto state = opt.init(params);
  Context ctx;
  for (int step = 0; step < 60; ++step) {
    for (std::size_t b = 0; b < 8; ++b)
      for (std::size_t i = 0; i < 6; ++i) {
        const double target = b / 2 == 2 ? 1 : 0.02 * static_cast<double>(b / 2 + 1);
        g[b][i] = p[b][i] - (b % 2 == 0 ? target : -target);
      }
    opt.update(ctx, grads, state, params);
  }
  std::vector<std::string> left;
  for (std::size_t b = 0; b < 8; b += 2) {
    const bool zero = std::count(p[b].begin(), p[b].end(), 0) == 6;
    EXPECT_EQ(zero, std::count(p[b + 1].begin(), p[b + 1].end(), 0) == 6);
    if (!zero) left.push_back(names[b].substr(0, 1));
  }
  return left;
}

TEST(Proximal, GroupLassoLeavesTheLayerThatMatters) {
  EXPECT_EQ(pairs_left(0).size(), 4u);
  EXPECT_EQ(pairs_left(0.1).size(), 3u);
  EXPECT_EQ(pairs_left(0.2), (std::vector<std::string>{"2", "3"}));
  EXPECT_EQ(pairs_left(0.5), std::vector<std::string>{"2"});
  EXPECT_TRUE(pairs_left(10).empty());
}

TEST(Proximal, ParametersStayNonNegative) {
  Model<double> model(3, 4);
  for (double& x : model.w) x = std::abs(x);
  for (double& x : model.b) x = std::abs(x);
  const auto before = model.w;
  const auto opt = chain(scale(-3), keep_params_nonnegative());
  auto state = opt.init(model.params);
  Context ctx;
  opt.update(ctx, model.grads, state, model.params);
  for (Index i = 0; i < 12; ++i) EXPECT_NEAR(model.w[i], std::max(0.0, before[i] - 3 * model.dw[i]), 1e-15);
  EXPECT_GE(*std::min_element(model.w.begin(), model.w.end()), 0);
}

}  // namespace
}  // namespace tessera::optim
