#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <support/message_of.hpp>
#include <tessera/optim/finite.hpp>
#include <utility>

#include "optim/named_training.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

using test::message_of;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// A model with its objective, whose loss and last gradient may be spoilt.
struct Faulty {
  Model<double> model{4, 3};
  Context ctx;
  AnyOptimizer<double> opt;
  AnyState<double> state;
  double loss = 1, last = 0.5;

  explicit Faulty(AnyOptimizer<double> its) : opt(std::move(its)), state(opt.init(model.params)) {}
  Objective<double> objective() {
    auto targets = linear_targets(model, 1);
    targets.backward = [this, of = targets.backward](MatrixView<const double> dz, const SeeLayer<double>& see) {
      of(dz, see);
      model.grads[1].data[2] = last;
    };
    if (!std::isfinite(loss)) targets.loss = [this](const auto&, const auto&) { return loss; };
    const auto gradient = [this] {
      model.draw(1);
      model.grads[1].data[2] = last;
      return loss;
    };
    return {gradient, [this] { return loss; }, targets};
  }
  template <class E>
  std::string refused(const Parameters<double>& grads, const Parameters<double>& params, AnyState<double>& its) {
    const auto w = model.w, b = model.b;
    const auto before = file_of(its).bytes;
    const auto text = message_of<E>([&] { opt.step(ctx, objective(), grads, its, params); });
    EXPECT_TRUE(same_bits(w, model.w) && same_bits(b, model.b));
    EXPECT_EQ(file_of(its).bytes, before);
    return text;
  }
};

using Blocks = Parameters<double>;
void as_they_are(Blocks&) {}
void one_less(Blocks& all) { all.pop_back(); }
void one_more(Blocks& all) { all.push_back(all[1]); }
void renamed(Blocks& all) { all[1].name = "c"; }
void shorter(Blocks& all) { all[1].cols = 2; }
void swapped(Blocks& all) { std::swap(all[0], all[1]); }
void turned(Blocks& all) { std::swap(all[0].rows, all[0].cols); }
void without_memory(Blocks& all) { all[0].data = nullptr; }

/// What is done to parameters and to gradients that are w (4x3) and b (1x3), and what is said of it.
const struct {
  void (*of_params)(Blocks&);
  void (*of_grads)(Blocks&);
  const char* says;
} wrong_blocks[] = {
    {one_less, as_they_are, "1 blocks of parameters, but 2 of optimizer state"},
    {one_more, as_they_are, "3 blocks of parameters, but 2 of optimizer state"},
    {renamed, as_they_are, "block 1 of parameters is 'c' with 3 elements, of optimizer state 'b' with 3"},
    {shorter, as_they_are, "block 1 of parameters is 'b' with 2 elements, of optimizer state 'b' with 3"},
    {swapped, as_they_are, "block 0 of parameters is 'b' with 3 elements, of optimizer state 'w' with 12"},
    {turned, as_they_are, "block 0 of parameters, 'w', is (3x4), of optimizer state (4x3)"},
    {without_memory, as_they_are, "parameter 'w' (4x3) has no memory; expected 12 elements"},
    {as_they_are, one_less, "1 blocks of gradients, but 2 of parameters"},
    {as_they_are, one_more, "3 blocks of gradients, but 2 of parameters"},
    {as_they_are, renamed, "block 1 of gradients is 'c' with 3 elements, of parameters 'b' with 3"},
    {as_they_are, shorter, "block 1 of gradients is 'b' with 2 elements, of parameters 'b' with 3"},
    {as_they_are, swapped, "block 0 of gradients is 'b' with 3 elements, of parameters 'w' with 12"},
    {as_they_are, turned, "block 0 of gradients, 'w', is (3x4), of parameters (4x3)"},
    {as_they_are, without_memory, "gradient of 'w' (4x3) has no memory; expected 12 elements"},
};

TEST(Misuse, OfStatesAndShapesByEveryName) {
  for (const auto& name : optimizer_names<double>()) {
    SCOPED_TRACE(name);
    Faulty run(made(name));
    auto& model = run.model;
    AnyState<double> none;
    EXPECT_SAYS(run.refused<unsupported_error>(model.grads, model.params, none),
                name + ": no state; expected the one that init(params) gave");
    const std::string other_name = name == "lamb" ? "lars" : "lamb";
    auto others = made(other_name).init(model.params);
    EXPECT_SAYS(run.refused<unsupported_error>(model.grads, model.params, others),
                name + ": the state is of '" + other_name + "'; expected the one that its own init(params) gave");
    for (const auto& [of_params, of_grads, says] : wrong_blocks) {
      auto params = model.params, grads = model.grads;
      of_params(params);
      of_grads(grads);
      EXPECT_SAYS(run.refused<shape_error>(grads, params, run.state), says);
    }
    auto wrong = model.params;
    without_memory(wrong);
    EXPECT_SAYS(message_of<shape_error>([&] { run.opt.init(wrong); }), "parameter 'w' (4x3) has no memory");
  }
}

/// Of one type, but some hyper-parameters say what is kept; where they do not any value goes on.
TEST(Misuse, OfStatesForOtherHyperParameters) {
  std::map<std::string, std::set<std::string>> refused;
  for (const auto& name : optimizer_names<double>())
    for (const auto& [hyper, usual] : optimizer_hyper_parameters<double>(name))
      for (const double value : {1.0, 2.0}) {
        SCOPED_TRACE(name + ' ' + hyper);
        Faulty run(made(name));
        AnyState<double> others;
        try {
          others = made(name, {{hyper, value}}).init(run.model.params);
        } catch (const error&) {
          continue;  // that is no value for it
        }
        const auto w = run.model.w;
        const auto before = file_of(others).bytes;
        try {
          for (int step = 0; step < 3; ++step)
            run.opt.step(run.ctx, run.objective(), run.model.grads, others, run.model.params);
        } catch (const unsupported_error& e) {
          EXPECT_SAYS(std::string(e.what()), name + ": the state is for other hyper-parameters: it keeps ");
          EXPECT_SAYS(std::string(e.what()), "as its own init(params) gives");
          EXPECT_TRUE(same_bits(w, run.model.w));
          EXPECT_EQ(file_of(others).bytes, before);
          refused[hyper].insert(name);
        }
      }
  const std::map<std::string, std::set<std::string>> expected{{"density", {"badam", "frugal", "frugal_blocks"}},
                                                              {"layer_wise", {"dog"}},
                                                              {"max_dim", {"shampoo", "soap"}},
                                                              {"memory", {"lbfgs"}},
                                                              {"min_dim", {"adafactor"}},
                                                              {"rank", {"apollo", "flora", "frugal_svd", "galore"}},
                                                              {"side", {"shampoo_tiles"}},
                                                              {"window", {"mfac"}}};
  EXPECT_EQ(refused, expected);
}

TEST(Misuse, OfObjectivesWithoutTargets) {
  for (const std::string name : {"kfac", "mkor", "natural_gradient", "target_surrogate"}) {
    Faulty run(made(name));
    EXPECT_SAYS(
        message_of<unsupported_error>([&] {
          run.opt.step(run.ctx, {[] { return 0.0; }, [] { return 0.0; }}, run.model.grads, run.state, run.model.params);
        }),
        "the objective has no targets; expected Targets")
        << name;
    EXPECT_SAYS(
        message_of<unsupported_error>([&] { run.opt.update(run.ctx, run.model.grads, run.state, run.model.params); }),
        "expected step");
  }
}

TEST(Misuse, OfALossThatIsNotFiniteByEveryName) {
  for (const auto& name : optimizer_names<double>())
    for (const double loss : {nan, std::numeric_limits<double>::infinity()}) {
      SCOPED_TRACE(name);
      Faulty run(made(name));
      run.loss = loss;
      run.last = std::numeric_limits<double>::infinity();
      run.model.grads[1].data[2] = run.last;  // for those who look at values alone
      const auto w = run.model.w;
      const auto text = message_of<property_error>(
          [&] { run.opt.step(run.ctx, run.objective(), run.model.grads, run.state, run.model.params); });
      EXPECT_SAYS(text, std::isnan(loss) ? "the loss is nan; expected a finite one" : "the loss is inf; expected");
      EXPECT_SAYS(text, "gradient of 'b' (1x3), inf at (0, 2)");
      for (Index i = 0; i < w.size(); ++i) ASSERT_NEAR(run.model.w[i], w[i], 1e-14);
    }
}

/// Behind `require_finite_gradients` a gradient with NaN is refused by name; else it shows where it came from.
TEST(Misuse, OfGradientsWithNaNByEveryName) {
  const std::map<std::string, std::string> sees_none{{"mezo", "looks at no gradient"},
                                                     {"sparse_mezo", "looks at no gradient"}},
      stay{{"badam", "moves the other block first"},
           {"soap", "only finds its bases at the first step"},
           {"zoom", "finds no step along it"}};
  for (const auto& name : optimizer_names<double>()) {
    SCOPED_TRACE(name);
    Faulty guarded(made(name)), run(made(name));
    guarded.last = run.last = nan;
    const auto w = run.model.w, b = run.model.b;
    const auto text = message_of<property_error>([&] {
      guarded.opt.step(guarded.ctx, require_finite_gradients(guarded.ctx, guarded.objective(), guarded.model.grads),
                       guarded.model.grads, guarded.state, guarded.model.params);
    });
    if (sees_none.contains(name)) {
      EXPECT_EQ(text, "nothing was thrown");
      continue;
    }
    EXPECT_SAYS(text,
                "the gradient of 'b' (1x3) has 1 elements that are not finite, the first nan at (0, 2); expected none");
    for (Index i = 0; i < w.size(); ++i) ASSERT_NEAR(guarded.model.w[i], w[i], 1e-14);
    for (Index i = 0; i < b.size(); ++i) ASSERT_NEAR(guarded.model.b[i], b[i], 1e-14);
    run.opt.step(run.ctx, run.objective(), run.model.grads, run.state, run.model.params);
    EXPECT_EQ(std::isnan(run.model.b[2]), !stay.contains(name));
  }
}

}  // namespace
}  // namespace tessera::optim
