#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <numbers>
#include <string>
#include <tessera/optim/first_order.hpp>
#include <tessera/optim/optim.hpp>
#include <vector>

#include "optim/model.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

TEST(Schedules, WarmupCosineHasOptaxsValues) {
  const warmup_cosine schedule{.init = 0.1, .peak = 1, .warmup_steps = 10, .decay_steps = 110, .end = 0.2};
  EXPECT_DOUBLE_EQ(schedule(0), 0.1);
  EXPECT_DOUBLE_EQ(schedule(5), 0.55);
  EXPECT_DOUBLE_EQ(schedule(10), 1);
  EXPECT_NEAR(schedule(60), 0.6, 1e-15);  // half way: mean of peak and end
  EXPECT_NEAR(schedule(35), 0.2 + 0.8 * 0.5 * (1 + std::cos(std::numbers::pi / 4)), 1e-15);
  EXPECT_DOUBLE_EQ(schedule(110), 0.2);
  EXPECT_DOUBLE_EQ(schedule(100000), 0.2);
  EXPECT_DOUBLE_EQ((warmup_cosine{.peak = 3, .decay_steps = 4})(0), 3);  // no warm-up
  EXPECT_EQ(constant{0.5}(7), 0.5);
}

TEST(Adam, FirstStepsByHand) {
  // g = 0.5 and -2 from p = 1: at the first step mu_hat = g and nu_hat = g², so u = ±1/(1 + eps/|g|).
  Buffer<double> p(2), g(2);
  p[0] = p[1] = 1;
  g[0] = 0.5;
  g[1] = -2;
  const Parameters<double> params{{"p", std::span<double>(p)}}, grads{{"p", std::span<double>(g)}};
  const auto opt = adam(0.1);
  auto state = opt.init(params);
  Context ctx;
  opt.update(ctx, grads, state, params);
  EXPECT_NEAR(p[0], 1 - 0.1 * 0.5 / (0.5 + 1e-8), 1e-15);
  EXPECT_NEAR(p[1], 1 + 0.1 * 2 / (2 + 1e-8), 1e-15);
  // Second step with g = 1.5: mu = 0.9·0.05 + 0.1·1.5 = 0.195, nu = 0.999·0.00025 + 0.001·2.25 = 0.00249975.
  const double before = p[0];
  g[0] = 1.5;
  opt.update(ctx, grads, state, params);
  EXPECT_NEAR(before - p[0], 0.1 * (0.195 / (1 - 0.81)) / (std::sqrt(0.00249975 / (1 - 0.998001)) + 1e-8), 1e-12);
  EXPECT_EQ(state.count, 2);
}

/// AdamW, clipped and scheduled, as the papers write it, in double.
struct PlainAdamW {
  double b1 = 0.9, b2 = 0.95, eps = 1e-8, decay = 0.1, clip = 1;
  warmup_cosine rate{.init = 0, .peak = 0.01, .warmup_steps = 5, .decay_steps = 50, .end = 0.001};
  std::map<std::string, std::vector<double>> m, v, p;
  int t = 0;

  template <class T>
  explicit PlainAdamW(const Parameters<T>& params) {
    for (const auto& block : params) {
      for (T x : block.values()) p[block.name].push_back(static_cast<double>(x));
      m[block.name].assign(block.values().size(), 0);
      v[block.name].assign(block.values().size(), 0);
    }
  }
  template <class T>
  void step(const Parameters<T>& grads) {
    double norm = 0;
    for (const auto& block : grads)
      for (T x : block.values()) norm += static_cast<double>(x) * static_cast<double>(x);
    norm = std::sqrt(norm);
    const double eta = rate(t++);
    for (const auto& block : grads)
      for (std::size_t i = 0; i < block.values().size(); ++i) {
        const double g = static_cast<double>(block.values()[i]) * (norm < clip ? 1 : clip / norm);
        double &mi = m[block.name][i], &vi = v[block.name][i], &pi = p[block.name][i];
        mi = b1 * mi + (1 - b1) * g;
        vi = b2 * vi + (1 - b2) * g * g;
        const double direction = mi / (1 - std::pow(b1, t)) / (std::sqrt(vi / (1 - std::pow(b2, t))) + eps);
        pi -= eta * (direction + (block.rows > 1 ? decay : 0) * pi);
      }
  }
};

template <class T>
class AdamW : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(AdamW, Reals);

TYPED_TEST(AdamW, FollowsItsFormulasOver100Steps) {
  using T = TypeParam;
  Model<T> model(9, 7);
  PlainAdamW plain(model.params);
  const auto opt = chain(clip_by_global_norm(1), scale_by_adam({.b2 = 0.95}), add_decayed_weights(0.1, matrices_only{}),
                         scale_by_schedule(plain.rate), scale(-1));
  auto state = opt.init(model.params);
  Context ctx;
  for (Index step = 0; step < 100; ++step) {
    model.draw(step);
    plain.step(model.grads);
    opt.update(ctx, model.grads, state, model.params);
  }
  // Each step moves a parameter by at most about rate·(direction + decay) and errs by a few units of that.
  const double bound = 100 * 40 * 0.01 * static_cast<double>(std::numeric_limits<T>::epsilon()) +
                       100 * 2 * static_cast<double>(std::numeric_limits<T>::epsilon());
  for (const auto& block : model.params)
    for (std::size_t i = 0; i < block.values().size(); ++i)
      ASSERT_NEAR(static_cast<double>(block.values()[i]), plain.p[block.name][i], bound) << block.name << ' ' << i;
}

TYPED_TEST(AdamW, EqualsItsLinksOneByOne) {
  using T = TypeParam;
  Model<T> fused(13, 11), single(13, 11);
  const auto opt = chain(scale_by_adam(), add_decayed_weights(0.1), trace(0.5, true), scale(-0.01));
  // The same links with the updates written to memory between them.
  const auto apart = chain(scale_by_adam(), clip_by_global_norm(1e30), add_decayed_weights(0.1),
                           clip_by_global_norm(1e30), trace(0.5, true), clip_by_global_norm(1e30), scale(-0.01));
  auto state = opt.init(fused.params);
  auto other = apart.init(single.params);
  Context ctx;
  for (Index step = 0; step < 10; ++step) {
    fused.draw(step);
    single.draw(step);
    opt.update(ctx, fused.grads, state, fused.params);
    apart.update(ctx, single.grads, other, single.params);
  }
  EXPECT_TRUE(same_bits(fused.w, single.w));
  EXPECT_TRUE(same_bits(fused.b, single.b));
}

TYPED_TEST(AdamW, BitIdenticalForAnyThreadCount) {
  using T = TypeParam;
  Buffer<T> first;
  for (Index threads : {1, 2, 3}) {
    Model<T> model(317, 401);  // several pieces of work, a ragged end
    auto ctx = Context::with_threads(threads);
    const auto opt = chain(clip_by_global_norm(1), scale_by_adam(), clip_by_global_norm(3), scale(-0.01));
    auto state = opt.init(model.params);
    for (Index step = 0; step < 3; ++step) opt.update(ctx, model.grads, state, model.params);
    if (threads == 1)
      first = model.w;
    else
      EXPECT_TRUE(same_bits(model.w, first)) << threads;
  }
}

TYPED_TEST(AdamW, EveryLaneAgrees) {
  using T = TypeParam;
  Buffer<T> first;
  for (const char* kernel : {"map:ref", "map:xsimd", "map:avx2", "map:avx512"}) {
    Model<T> model(17, 29);
    Context ctx;
    ctx.force(kernel);
    const auto opt = adamw(0.01);
    auto state = opt.init(model.params);
    try {
      for (Index step = 0; step < 5; ++step) opt.update(ctx, model.grads, state, model.params);
    } catch (const unsupported_error&) {
      std::printf("not here: %s\n", kernel);
      continue;
    }
    if (first.size() == 0) first = model.w;
    for (Index i = 0; i < first.size(); ++i)
      ASSERT_NEAR(model.w[i], first[i], 32 * std::numeric_limits<T>::epsilon()) << kernel;
  }
}

TEST(Nesterov, AdamLooksAhead) {
  Model<double> model(9, 7);
  const auto opt = nadam(0.01);
  auto state = opt.init(model.params);
  std::vector<double> x(model.w.begin(), model.w.end()), m(x.size()), v(x.size());
  Context ctx;
  for (int t = 1; t <= 100; ++t) {
    model.draw(t);
    opt.update(ctx, model.grads, state, model.params);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double g = model.dw[static_cast<Index>(i)];
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.999 * v[i] + 0.001 * g * g;
      const double ahead = 0.9 * m[i] / (1 - std::pow(0.9, t + 1)) + 0.1 * g / (1 - std::pow(0.9, t));
      x[i] -= 0.01 * ahead / (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-8);
      ASSERT_NEAR(model.w[static_cast<Index>(i)], x[i], 1e-12) << t << ' ' << i;
    }
  }
}

TEST(Trace, MomentumByHand) {
  Buffer<float> p(1), q(1), g(1);
  g[0] = 1;
  const Parameters<float> params{{"p", std::span<float>(p)}}, others{{"p", std::span<float>(q)}},
      grads{{"p", std::span<float>(g)}};
  const auto heavy = sgd(0.5, 0.5), nesterov = sgd(0.5, 0.5, true);
  auto state = heavy.init(params);
  auto other = nesterov.init(others);
  Context ctx;
  for (int step = 0; step < 3; ++step) {
    heavy.update(ctx, grads, state, params);
    nesterov.update(ctx, grads, other, others);
  }
  EXPECT_EQ(p[0], -0.5f * (1 + 1.5f + 1.75f));
  EXPECT_EQ(q[0], -0.5f * (1.5f + 1.75f + 1.875f));
}

}  // namespace
}  // namespace tessera::optim
