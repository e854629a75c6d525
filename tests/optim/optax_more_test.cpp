#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <support/message_of.hpp>
#include <tessera/optim/accumulate.hpp>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/any.hpp>
#include <tessera/optim/cautious.hpp>
#include <tessera/optim/conditional.hpp>
#include <tessera/optim/dog.hpp>
#include <tessera/optim/fromage.hpp>
#include <tessera/optim/linesearch.hpp>
#include <tessera/optim/lookahead.hpp>
#include <tessera/optim/mechanize.hpp>
#include <tessera/optim/momo.hpp>
#include <tessera/optim/monitor.hpp>
#include <tessera/optim/named.hpp>
#include <tessera/optim/partition.hpp>
#include <tessera/optim/polyak.hpp>
#include <tessera/optim/reduce_on_plateau.hpp>
#include <tessera/optim/schedules_pieces.hpp>
#include <tessera/optim/second_order/scale_by_lbfgs.hpp>
#include <vector>

#include "optim/laws.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

using Rule = std::function<void(Index step, double loss, const Plain& g, Plain& x)>;
constexpr std::size_t numbers = 9 * 7 + 7;

double loss_at(Index step) { return 1.5 + std::cos(static_cast<double>(step)) + 10 / static_cast<double>(step + 1); }
/// Gradients of some steps are larger.
double size_at(Index step) { return step % 5 == 3 ? 4 : 1; }

struct Run {
  Model<double> model;
  Context ctx;
  AnyState<double> state;
  Run(const AnyOptimizer<double>& opt, Index rows, Index cols, Index threads = 1)
      : model(rows, cols), ctx(Context::with_threads(threads)), state(opt.init(model.params)) {}
  void step(const AnyOptimizer<double>& opt, Index step) {
    model.draw(step);
    for (auto* g : {&model.dw, &model.db})
      for (double& x : *g) x *= size_at(step);
    opt.step(ctx, {[&] { return loss_at(step); }, {}}, model.grads, state, model.params);
  }
};

/// 100 steps stay by the rule; a run that goes on from its saved state and one of three threads end in the same bits.
void follows(const AnyOptimizer<double>& opt, const Rule& rule, std::size_t bytes, double bound = 1e-11) {
  SCOPED_TRACE(opt.name());
  Run run(opt, 9, 7), again(opt, 9, 7);
  EXPECT_EQ(run.state.state_bytes(), bytes);
  auto x = plain_of(run.model.params);
  for (Index step = 0; step < 100; ++step) {
    if (step == 50) {
      const auto file = saved(run.state);
      restore(again.state, file);
      again.model.w = run.model.w;
      again.model.b = run.model.b;
      again.model.params[0].data = again.model.w.data();
      again.model.params[1].data = again.model.b.data();
    }
    run.step(opt, step);
    if (step >= 50) again.step(opt, step);
    rule(step, loss_at(step), plain_of(run.model.grads), x);
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t i = 0; i < x[b].size(); ++i)
        ASSERT_NEAR(run.model.params[b].data[i], x[b][i], bound) << "step " << step << " block " << b << ' ' << i;
  }
  EXPECT_TRUE(same_bits(run.model.w, again.model.w) && same_bits(run.model.b, again.model.b));
  EXPECT_TRUE(saved(run.state) == saved(again.state));
  Run one(opt, 83, 401), three(opt, 83, 401, 3);
  for (Index step = 0; step < 2; ++step) one.step(opt, step), three.step(opt, step);
  EXPECT_TRUE(same_bits(one.model.w, three.model.w) && same_bits(one.model.b, three.model.b));
  EXPECT_TRUE(saved(one.state) == saved(three.state));
}
template <class Opt>
void follows(const char* name, const Opt& opt, const Rule& rule, std::size_t bytes, double bound = 1e-11) {
  follows(AnyOptimizer<double>(name, opt), rule, bytes, bound);
}

double product(const std::vector<double>& x, const std::vector<double>& y) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}
double product(const Plain& x, const Plain& y) { return product(x[0], y[0]) + product(x[1], y[1]); }
Plain minus(Plain x, const Plain& y, double by = 1) {
  for (std::size_t b = 0; b < x.size(); ++b)
    for (std::size_t i = 0; i < x[b].size(); ++i) x[b][i] -= by * y[b][i];
  return x;
}
template <class F>
void each(Plain& x, F&& f) {
  for (std::size_t b = 0; b < x.size(); ++b)
    for (std::size_t i = 0; i < x[b].size(); ++i) f(x[b][i], b, i);
}
Plain zeros() { return {std::vector<double>(9 * 7), std::vector<double>(7)}; }
constexpr std::size_t count_bytes = sizeof(Index);

TEST(OptaxRules, OfBlocks) {
  follows(
      "fromage", fromage(0.02),
      [](Index, double, const Plain& g, Plain& x) {
        for (std::size_t b = 0; b < 2; ++b) {
          const double ratio = std::sqrt(product(x[b], x[b]) / product(g[b], g[b]));
          for (std::size_t i = 0; i < x[b].size(); ++i)
            x[b][i] = (x[b][i] - 0.02 * ratio * g[b][i]) / std::sqrt(1 + 0.02 * 0.02);
        }
      },
      count_bytes);
  follows(
      "scale_by_param_block_norm", chain(scale_by_param_block_norm(1.5), scale(-0.01)),
      [](Index, double, const Plain& g, Plain& x) {
        const Plain was = x;
        each(x, [&](double& e, std::size_t b, std::size_t i) {
          e -= 0.01 * std::max(std::sqrt(product(was[b], was[b])), 1.5) * g[b][i];
        });
      },
      count_bytes);
}

TEST(OptaxRules, OfPolyak) {
  follows(
      "polyak_sgd", polyak_sgd(0.5, {.least = 1, .max_rate = 0.05, .eps = 0.1, .positive = true}),
      [](Index, double loss, const Plain& g, Plain& x) {
        x = minus(x, g, 0.5 * std::min(std::max(loss - 1, 0.0) / (product(g, g) + 0.1), 0.05));
      },
      count_bytes);
  // On a quadratic whose least value is known each step reaches half way at once.
  Buffer<double> x(3), g(3);
  x[0] = 1, x[1] = -2, x[2] = 3;
  const Parameters<double> params{{"x", std::span<double>(x)}}, grads{{"x", std::span<double>(g)}};
  const auto opt = polyak_sgd(1.0, {.max_rate = 10});
  auto state = opt.init(params);
  Context ctx;
  const auto f = [&] {
    for (Index i = 0; i < 3; ++i) g[i] = 2 * x[i];
    return x[0] * x[0] + x[1] * x[1] + x[2] * x[2];
  };
  for (int step = 0; step < 5; ++step) {
    observe_loss(state, f());
    opt.update(ctx, grads, state, params);
  }
  EXPECT_NEAR(f(), 14.0 / 1024, 1e-14);
  std::fill(g.begin(), g.end(), 0.0);
  observe_loss(state, 1);
  opt.update(ctx, grads, state, params);  // 0/0 is no step
  EXPECT_NEAR(x[0], 1.0 / 32, 1e-15);
}

TEST(OptaxRules, OfPlateaus) {
  const PlateauOptions o{
      .factor = 0.5, .patience = 3, .rtol = 1e-2, .cooldown = 2, .accumulation = 2, .min_scale = 0.1};
  double scale_now = 1, best = 1e300, sum = 0;
  Index waited = 0, cooling = 0, drops = 0;
  follows(
      "reduce_on_plateau", chain(reduce_on_plateau(o), scale(-0.01)),
      [&](Index step, double loss, const Plain& g, Plain& x) {
        sum += loss;
        if (step % 2 == 1) {
          const double mean = sum / 2;
          sum = 0;
          const bool better = mean < 0.99 * best;
          if (better) best = mean;
          waited = better || cooling > 0 ? 0 : waited + 1;
          if (cooling > 0) {
            --cooling;
          } else if (waited == 3) {
            scale_now = std::max(0.5 * scale_now, 0.1);
            waited = 0;
            cooling = 2;
            ++drops;
          }
        }
        x = minus(x, g, 0.01 * scale_now);
      },
      count_bytes + 6 * sizeof(double));
  EXPECT_GT(drops, 2);
}

TEST(OptaxRules, OfDistances) {
  struct Far {
    Plain start;
    double r[2] = {}, s[2] = {};
  };
  for (const bool layer_wise : {false, true}) {
    Far far;
    follows(
        layer_wise ? "l_dog" : "dog", dog(1.0, {.relative = 1e-2, .layer_wise = layer_wise}),
        [&](Index step, double, const Plain& g, Plain& x) {
          if (step == 0) {
            far.start = x;
            for (int b : {0, 1})
              far.r[b] =
                  1e-2 *
                  (1 + std::sqrt(layer_wise ? product(x[static_cast<std::size_t>(b)], x[static_cast<std::size_t>(b)])
                                            : product(x, x)));
          }
          const Plain off = minus(x, far.start);
          for (std::size_t b = 0; b < 2; ++b) {
            far.r[b] = std::max(far.r[b], std::sqrt(layer_wise ? product(off[b], off[b]) : product(off, off)));
            far.s[b] += layer_wise ? product(g[b], g[b]) : product(g, g);
            for (std::size_t i = 0; i < x[b].size(); ++i) x[b][i] -= far.r[b] / std::sqrt(far.s[b] + 1e-8) * g[b][i];
          }
        },
        2 * count_bytes + (numbers + (layer_wise ? 4 : 2)) * sizeof(double));
  }
  Far far;
  follows(
      "dog by its first rate", dog(0.5, {.first_rate = 1e-3}),
      [&](Index step, double, const Plain& g, Plain& x) {
        if (step == 0) far.start = x;
        const Plain off = minus(x, far.start);
        far.r[0] = std::max(far.r[0], std::sqrt(product(off, off)));
        far.s[0] += product(g, g);
        x = minus(x, g, 0.5 * (step == 0 ? 1e-3 : far.r[0] / std::sqrt(far.s[0] + 1e-8)));
      },
      2 * count_bytes + (numbers + 2) * sizeof(double));
  Far weighted;
  follows(
      "dowg", dowg(1.0),
      [&](Index step, double, const Plain& g, Plain& x) {
        if (step == 0) weighted.start = x, weighted.r[0] = 1e-4;
        const Plain off = minus(x, weighted.start);
        weighted.r[0] = std::max(weighted.r[0], product(off, off));
        weighted.s[0] += weighted.r[0] * product(g, g);
        x = minus(x, g, weighted.r[0] / (std::sqrt(weighted.s[0]) + 1e-4));
      },
      2 * count_bytes + (numbers + 2) * sizeof(double));
}

/// The model that MoMo minimises, at y.
struct MomoModel {
  Plain m = zeros(), v = zeros(), root = zeros();
  double loss = 0, product_ = 0, bound, rate, decay, rho = 1;
  double at(const Plain& y, const Plain& x) const {
    double near = 0, length = 0;
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t i = 0; i < y[b].size(); ++i) {
        near += root[b][i] * (y[b][i] - x[b][i]) * (y[b][i] - x[b][i]);
        length += root[b][i] * y[b][i] * y[b][i];
      }
    return std::max(loss + product(m, y) - product_, rho * bound) + rho / (2 * rate) * near + rho * decay / 2 * length;
  }
};

template <bool Adam>
void momo_follows(bool adapt, double lower_bound, double rate, double decay) {
  MomoModel model{.bound = lower_bound, .rate = rate, .decay = decay};
  Index shorter = 0;
  const MomoOptions<> options{.rate = {rate}, .lower_bound = lower_bound, .adapt = adapt, .weight_decay = decay};
  const Rule rule = [&](Index step, double loss, const Plain& g, Plain& x) {
    const double b1 = !Adam && step == 0 ? 0 : 0.9, t = static_cast<double>(step + 1);
    auto& o = model;
    o.rho = Adam ? 1 - std::pow(0.9, t) : 1;
    o.loss = b1 * o.loss + (1 - b1) * loss;
    o.product_ = b1 * o.product_ + (1 - b1) * product(g, x);
    each(o.m, [&](double& m, std::size_t b, std::size_t i) {
      m = b1 * m + (1 - b1) * g[b][i];
      o.v[b][i] = 0.999 * o.v[b][i] + 0.001 * g[b][i] * g[b][i];
      o.root[b][i] = Adam ? std::sqrt(o.v[b][i] / (1 - std::pow(0.999, t))) + 1e-8 : 1;
    });
    double square = 0;
    each(o.m, [&](double& m, std::size_t b, std::size_t i) { square += m * m / o.root[b][i]; });
    const double w = 1 + rate * decay, shrunk = w * (o.loss - o.product_) + product(o.m, x);
    if (adapt && shrunk < w * o.rho * o.bound) o.bound = std::max(shrunk / (2 * w * o.rho), lower_bound);
    const double tau = std::min(rate / o.rho, std::max(shrunk - w * o.rho * o.bound, 0.0) / square);
    shorter += tau < rate / o.rho ? 1 : 0;
    Plain y = x;
    each(y, [&](double& e, std::size_t b, std::size_t i) { e = (e - tau * o.m[b][i] / o.root[b][i]) / w; });
    for (int k = 0; k < 3; ++k)  // it is the least of the model
      for (const double far : {1e-3, 1e-1}) {
        Plain z = y;
        each(z, [&](double& e, std::size_t b, std::size_t i) {
          e += far * (k == 0 ? o.m[b][i] / o.root[b][i] : std::sin(static_cast<double>(7 * i + b) * k));
        });
        ASSERT_GE(o.at(z, x), o.at(y, x) - 1e-12);
      }
    if (adapt) o.bound = std::max((o.loss + product(o.m, x) - o.product_ - 0.5 * tau * square) / o.rho, lower_bound);
    x = y;
  };
  const std::size_t bytes = 2 * count_bytes + ((Adam ? 2 : 1) * numbers + 3) * sizeof(double);
  if constexpr (Adam)
    follows("momo_adam", chain(momo_adam(options)), rule, bytes, 1e-9);
  else
    follows("momo", chain(momo(options)), rule, bytes, 1e-10);
  EXPECT_GT(shorter, 5);
}
TEST(OptaxRules, OfMomo) {
  momo_follows<false>(false, 1.2, 0.2, 0);
  momo_follows<false>(false, 1.2, 0.2, 0.05);
  momo_follows<false>(true, 0, 0.2, 0.05);
  momo_follows<true>(false, 1.2, 0.02, 0);
  momo_follows<true>(true, 0.1, 0.02, 0.05);
}

TEST(OptaxRules, OfMechanic) {
  Plain start, delta = zeros();
  std::vector<double> m(6), v(6), r(6), s(6, 1e-3);
  const auto total = [&] { return s[0] + s[1] + s[2] + s[3] + s[4] + s[5]; };
  follows(
      "mechanize", mechanize(sgd(1), {.start = 1e-3}),
      [&](Index step, double, const Plain& g, Plain& x) {
        if (step == 0) start = x;
        const double before = total();
        delta = minus(x, start, 1);
        each(delta, [&](double& d, std::size_t, std::size_t) { d /= before + 1e-8; });
        Plain decayed = g;
        const double by = 1e-2 * before * std::sqrt(product(g, g)) / (std::sqrt(product(x, x)) + 1e-8);
        each(decayed, [&](double& e, std::size_t b, std::size_t i) { e += by * x[b][i]; });
        const double h = -product(decayed, delta);
        for (std::size_t i = 0; i < 6; ++i) {
          const double beta = 1 - std::pow(0.1, static_cast<double>(i + 1)), cut = std::clamp(h, -m[i], m[i]);
          m[i] = std::max(beta * m[i], std::abs(h) + 1e-8);
          v[i] = beta * beta * v[i] + h * h;
          r[i] = beta * r[i] + cut * s[i];
          s[i] = (1e-3 / 6 * m[i] + std::max(r[i], 0.0)) / (std::sqrt(v[i]) + 1e-8);
        }
        delta = minus(delta, g);
        x = minus(start, delta, -total());
      },
      2 * count_bytes + (numbers + 24) * sizeof(double), 1e-9);
}

TEST(OptaxRules, OfCaution) {
  Plain trace_of = zeros();
  follows(
      "cautious", chain(cautious(trace(0.9), 1), scale(-0.001)),
      [&](Index, double, const Plain& g, Plain& x) {
        for (std::size_t b = 0; b < 2; ++b) {
          double kept = 0;
          for (std::size_t i = 0; i < x[b].size(); ++i) {
            trace_of[b][i] = 0.9 * trace_of[b][i] + g[b][i];
            kept += trace_of[b][i] * g[b][i] > 0 ? 1 : 0;
          }
          for (std::size_t i = 0; i < x[b].size(); ++i)
            if (trace_of[b][i] * g[b][i] > 0)
              x[b][i] -= 0.001 * trace_of[b][i] * static_cast<double>(x[b].size()) / (kept + 1);
        }
      },
      2 * count_bytes + numbers * sizeof(double));
}

TEST(OptaxRules, OfConditions) {
  const auto third = [](Index step) { return step % 3 == 0; };
  const auto above = [](Index, double loss) { return loss > 1.5; };
  Plain m = zeros();
  const auto momentum = [&](const Plain& g, Plain& x, double by) {
    each(x, [&](double& e, std::size_t b, std::size_t i) { e -= by * (m[b][i] = 0.9 * m[b][i] + g[b][i]); });
  };
  const std::size_t bytes = 2 * count_bytes + numbers * sizeof(double);
  follows(
      "conditionally_transform", chain(conditionally_transform(trace(0.9), third), scale(-0.01)),
      [&](Index step, double, const Plain& g, Plain& x) {
        if (step % 3 == 0)
          momentum(g, x, 0.01);
        else
          x = minus(x, g, 0.01);
      },
      bytes + count_bytes);
  m = zeros();
  follows(
      "conditionally_mask", conditionally_mask(sgd(0.01, 0.9), above),
      [&](Index, double loss, const Plain& g, Plain& x) {
        if (loss > 1.5) momentum(g, x, 0.01);
      },
      bytes);
  m = zeros();
  Index skipped = 0;
  const Rule small_only = [&](Index, double, const Plain& g, Plain& x) {
    if (product(g, g) < 100)
      momentum(g, x, 0.01);
    else
      ++skipped;
  };
  follows("skip_large_updates", skip_large_updates(sgd(0.01, 0.9), 100), small_only, bytes);
  EXPECT_GE(skipped, 20);
  m = zeros();
  follows("as a link", chain(skip_large_updates(trace(0.9), 100), scale(-0.01)), small_only, bytes + count_bytes);
  Plain sum = zeros();
  Index taken = 0;
  follows(
      "multi_steps", multi_steps(sgd(0.01), 2, large_updates{100}),
      [&](Index, double, const Plain& g, Plain& x) {
        if (product(g, g) >= 100) return;
        sum = minus(sum, g, -0.5);
        if (++taken % 2 == 0) x = minus(x, sum, 0.01), sum = zeros();
      },
      2 * count_bytes + numbers * sizeof(double));
}

TEST(OptaxRules, OfConditionsOnNaN) {
  Model<double> model(4, 3);
  Context ctx;
  const auto opt = skip_updates(sgd(0.1), not_finite{});
  auto state = opt.init(model.params);
  const auto before = model.w;
  model.grads[1].data[1] = std::nan("");
  opt.update(ctx, model.grads, state, model.params);
  EXPECT_TRUE(same_bits(model.w, before));
  EXPECT_EQ(state.skipped, 1);
  EXPECT_TRUE((large_updates{1e300}(
      ctx, std::span<const VectorView<const double>>(std::vector{VectorView<const double>(model.grads[1].view())}))));
}

TEST(OptaxRules, OfSnapshots) {
  const auto norm = [](Context& ctx, auto updates) { return global_norm(ctx, updates); };
  const auto opt =
      chain(scale(2), named<"norm">(snapshot(norm)), named<"mean">(measure_with_ema(norm, 0.9)), scale(-0.1));
  Model<double> model(9, 7);
  auto state = opt.init(model.params);
  Context ctx;
  double sum = 0;
  for (Index step = 0; step < 100; ++step) {
    model.draw(step);
    opt.update(ctx, model.grads, state, model.params);
    const double now = 2 * global_norm(ctx, model.grads);
    sum = 0.9 * sum + 0.1 * now;
    ASSERT_NEAR(link_state<"norm">(state).value, now, 1e-12);
    ASSERT_NEAR(link_state<"mean">(state).value, sum / (1 - std::pow(0.9, static_cast<double>(step + 1))), 1e-12);
  }
}

/// What `step` of a line search asks.
struct Looks {
  std::function<double()> gradient, loss;
};
/// Rosenbrock's function of two numbers.
struct Valley {
  Buffer<double> x{2}, g{2};
  Parameters<double> params{{"x", std::span<double>(x)}}, grads{{"x", std::span<double>(g)}};
  Context ctx;
  Index looks = 0;
  Looks objective{[this] { return gradient(); }, [this] { return value(); }};
  Valley() { x[0] = -1.2, x[1] = 1; }
  double value() {
    ++looks;
    const double a = 1 - x[0], b = x[1] - x[0] * x[0];
    return a * a + 100 * b * b;
  }
  double gradient() {
    const double a = 1 - x[0], b = x[1] - x[0] * x[0];
    g[0] = -2 * a - 400 * x[0] * b;
    g[1] = 200 * b;
    return value();
  }
};

TEST(OptaxSearches, BacktrackingIsArmijos) {
  Valley valley, plain;
  const AnyOptimizer<double> opt("backtracking", backtracking_linesearch(sgd(1)));
  auto state = opt.init(valley.params);
  EXPECT_EQ(state.state_bytes(), 3 * sizeof(double) + count_bytes);
  double rate = 1;
  for (int step = 0; step < 100; ++step) {
    opt.step(valley.ctx, {valley.objective.gradient, valley.objective.loss}, valley.grads, state, valley.params);
    const double f = plain.gradient(), square = plain.g[0] * plain.g[0] + plain.g[1] * plain.g[1];
    const double from[2] = {plain.x[0], plain.x[1]};
    rate = std::min(1.5 * rate, 1.0);
    for (int tries = 0;; ++tries, rate *= 0.8) {
      for (Index i = 0; i < 2; ++i) plain.x[i] = from[i] - rate * plain.g[i];
      if (plain.value() <= f - 1e-4 * rate * square || tries == 29) break;
    }
    for (Index i = 0; i < 2; ++i) ASSERT_NEAR(valley.x[i], plain.x[i], 1e-9) << step;
  }
  EXPECT_EQ(valley.looks, plain.looks);
  EXPECT_LT(valley.value(), 0.2);  // of 24.2
}

TEST(OptaxSearches, ZoomIsStrongWolfe) {
  Valley valley;
  const auto opt = zoom_linesearch(chain(scale_by_lbfgs(10), scale(-1)), {}, false);
  auto state = opt.init(valley.params);
  int steps = 0;
  for (; steps < 60 && valley.gradient() > 1e-12; ++steps) {
    const double before[2] = {valley.x[0], valley.x[1]}, from[2] = {valley.g[0], valley.g[1]}, f = valley.gradient();
    optimizer_step(opt, valley.ctx, {valley.objective.gradient, valley.objective.loss}, valley.grads, state,
                   valley.params);
    const double now = valley.gradient(), moved[2] = {valley.x[0] - before[0], valley.x[1] - before[1]};
    const double slope = from[0] * moved[0] + from[1] * moved[1];
    ASSERT_TRUE(state.last.success) << steps;
    EXPECT_LE(now, f + 1e-4 * slope + 1e-13);
    EXPECT_LE(std::abs(valley.g[0] * moved[0] + valley.g[1] * moved[1]), -0.9 * slope);
  }
  EXPECT_LT(steps, 60);
}

TEST(OptaxSearches, LostOnesStay) {
  Valley valley;
  valley.objective.loss = [] { return std::nan(""); };
  const auto opt = backtracking_linesearch(sgd(1));
  auto state = opt.init(valley.params);
  opt.step(valley.ctx, valley.objective, valley.grads, state, valley.params);
  EXPECT_EQ(valley.x[0], -1.2);
  EXPECT_EQ(valley.x[1], 1);
  EXPECT_FALSE(state.last.success);
  EXPECT_EQ(state.rate, 1);  // so that the next step has one to begin with
  valley.objective.gradient = [] { return std::nan(""); };
  EXPECT_THROW(opt.step(valley.ctx, valley.objective, valley.grads, state, valley.params), property_error);
}

using test::message_of;

TEST(OptaxMisuse, SaysWhatWasExpected) {
  Model<double> model(4, 3);
  Context ctx;
  const AnyOptimizer<double> all[] = {
      AnyOptimizer<double>("a", polyak_sgd()), AnyOptimizer<double>("b", chain(momo())),
      AnyOptimizer<double>("c", lookahead(chain(reduce_on_plateau(), scale(-1)), 2)),
      AnyOptimizer<double>("d", conditionally_mask(sgd(1), [](Index, double loss) { return loss > 0; }))};
  const std::string names[] = {"scale_by_polyak", "momo", "reduce_on_plateau", "conditionally_mask"};
  for (int i = 0; i < 4; ++i) {
    auto state = all[i].init(model.params);
    const auto update = [&] { all[i].update(ctx, model.grads, state, model.params); };
    const std::string expected =
        "tessera: " + names[i] + ": no value of the objective; expected observe_loss(state, value)";
    EXPECT_EQ(message_of<unsupported_error>(update).find(expected), 0u) << message_of<unsupported_error>(update);
    observe_loss(state, 1);
    update();
    EXPECT_THROW(update(), unsupported_error);  // one is good for one update
  }
  // Through groups and optimizers chosen at run time.
  const auto parted =
      partition([](const ParameterInfo& p) { return p.name; }, group("w", all[0]), group("b", freeze()));
  auto state = parted.init(model.params);
  observe_loss(state, 1);
  parted.update(ctx, model.grads, state, model.params);
  EXPECT_THROW(parted.update(ctx, model.grads, state, model.params), unsupported_error);
  const auto plateau = [](PlateauOptions o) { return message_of<unsupported_error>([&] { reduce_on_plateau(o); }); };
  EXPECT_EQ(plateau({.factor = 1}), "tessera: reduce_on_plateau: factor 1; expected one between 0 and 1");
  EXPECT_THROW(reduce_on_plateau({.rtol = 0}), unsupported_error);
  EXPECT_THROW(reduce_on_plateau({.accumulation = 0}), unsupported_error);
  EXPECT_THROW(backtracking_linesearch(sgd(1), {.decrease = 1}), unsupported_error);
}

TEST(OptaxSchedules, OfPieces) {
  const piecewise_interpolate straight{2, {{4, 0.5}, {4, 3}, {8, 0.1}}}, round{2, {{4, 0.5}, {8, 4}}, true};
  EXPECT_EQ(straight(0), 2);
  EXPECT_EQ(straight(1), 1.75);
  EXPECT_EQ(straight(4), 3);  // the empty piece jumps
  EXPECT_NEAR(straight(6), 1.65, 1e-15);
  EXPECT_NEAR(straight(8), 0.3, 1e-15);
  EXPECT_NEAR(straight(100), 0.3, 1e-15);
  EXPECT_NEAR(round(1), 1 + 0.5 * (1 + std::cos(std::acos(-1.0) / 4)), 1e-15);
  EXPECT_NEAR(round(6), 2.5, 1e-15);
  EXPECT_EQ(round(8), 4);
  const warmup_constant warm{1, 3, 4};
  EXPECT_EQ(warm(0), 1);
  EXPECT_EQ(warm(3), 2.5);
  EXPECT_EQ(warm(9), 3);
  const warmup_exponential_decay falling{1, 2, {.init = 3, .rate = 0.5, .steps = 2, .begin = 1, .end = 0.5}};
  EXPECT_EQ(falling(1), 2);
  EXPECT_EQ(falling(2), 3);
  EXPECT_EQ(falling(3), 3);
  EXPECT_NEAR(falling(5), 1.5, 1e-15);
  EXPECT_EQ(falling(50), 0.5);
  const warmup_cosine first{.peak = 1, .warmup_steps = 2, .decay_steps = 6, .end = 0.5, .exponent = 2},
      second{.init = 0.5, .peak = 2, .warmup_steps = 1, .decay_steps = 4};
  const sgdr_cycles cycles{{first, second}};
  EXPECT_EQ(cycles(1), 0.5);
  EXPECT_NEAR(cycles(4), 0.5 + 0.5 * 0.25, 1e-15);
  EXPECT_EQ(cycles(6), 0.5);
  EXPECT_EQ(cycles(7), 2);
  EXPECT_EQ(cycles(20), 0);
}

}  // namespace
}  // namespace tessera::optim
