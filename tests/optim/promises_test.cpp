#include "optim/promises.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

/// Gradients times 8 move by as much. `bound` 0: bit for bit.
TEST(Promises, OfScale) {
  struct Case {
    std::string name;
    Hyper hyper;
    double bound;
  };
  const Hyper exact{{"eps", 0}};
  const std::vector<Case> cases{{"sign_sgd", {}, 0},
                                {"signum", {}, 0},
                                {"lion", {}, 0},
                                {"adam", exact, 0},
                                {"adamw", exact, 0},
                                {"nadam", exact, 0},
                                {"rmsprop", exact, 0},
                                {"rmsprop_centered", exact, 0},
                                {"adagrad", {{"eps", 0}, {"initial", 0}}, 0},
                                {"amsgrad", exact, 0},
                                {"adamax", exact, 0},
                                {"adan", exact, 0},
                                {"adopt", exact, 0},
                                {"lamb", exact, 0},
                                {"novograd", exact, 0},
                                {"adam_mini", exact, 0},
                                {"sm3", {}, 0},
                                {"lookahead", exact, 0},
                                {"averaged", exact, 0},
                                {"schedule_free", exact, 0},
                                {"apollo", {{"eps", 0}, {"rank", 3}, {"refresh", 2}}, 0},
                                {"apollo_mini", {{"eps", 0}, {"refresh", 2}}, 0},
                                {"flora", {{"eps", 0}, {"rank", 3}, {"refresh", 2}}, 0},
                                {"galore", {{"eps", 0}, {"rank", 3}, {"refresh", 2}}, 1e-12},
                                {"frugal", {{"eps", 0}, {"refresh", 2}}, 0},
                                {"frugal_svd", {{"eps", 0}, {"rank", 3}, {"refresh", 2}}, 1e-12},
                                {"frugal_blocks", {{"eps", 0}, {"refresh", 2}}, 0},
                                {"badam", {{"eps", 0}, {"refresh", 2}}, 0},
                                {"soap", {{"eps", 0}, {"every", 2}}, 1e-12},
                                {"lbfgs", {}, 0},
                                {"lion_lp", {}, 1e-12},
                                {"lion_rows", {}, 1e-12},
                                {"lion_spectral", {}, 1e-6},
                                {"scion", {}, 1e-6},
                                {"muon", exact, 1e-6}};
  for (const auto& one : cases) {
    const auto opt = make_optimizer<double>(one.name, one.hyper);
    Model<double> as_is(9, 7), scaled(9, 7);
    run(opt, as_is, 5, [] {});
    run(opt, scaled, 5, [&] { times(scaled, 8); });
    EXPECT_LE(farthest(as_is, scaled), one.bound) << one.name;
  }
  Model<double> as_is(9, 7), scaled(9, 7);
  run(made("sgd"), as_is, 5, [] {});
  run(made("sgd"), scaled, 5, [&] { times(scaled, 8); });
  EXPECT_GT(farthest(as_is, scaled), 1e-3);  // which promises nothing
  // M-FAC's F is of gradients' squares, λ with it: its steps are as the gradients' inverses; damped by them, as they.
  for (const double damping : {0.0, 0.1}) {
    Model<double> one(9, 7), other(9, 7);
    run(made("mfac", {{"damping", damping}, {"lambda", 0.1}, {"rate", 0.08}}), one, 5, [] {});
    run(made("mfac", {{"damping", damping}, {"lambda", 6.4}, {"rate", damping > 0 ? 0.01 : 0.64}}), other, 5,
        [&] { times(other, 8); });
    EXPECT_LE(farthest(one, other), 1e-13) << damping;
  }
}

/// From zeros, opposite gradients go the opposite way.
TEST(Promises, OfSign) {
  for (const std::string name : {"sgd",
                                 "momentum",
                                 "adam",
                                 "adamw",
                                 "nadam",
                                 "adagrad",
                                 "rmsprop",
                                 "rmsprop_centered",
                                 "adadelta",
                                 "amsgrad",
                                 "adamax",
                                 "yogi",
                                 "adabelief",
                                 "radam",
                                 "adan",
                                 "ademamix",
                                 "adopt",
                                 "lion",
                                 "madgrad",
                                 "mars",
                                 "grokfast",
                                 "sophia",
                                 "sign_sgd",
                                 "signum",
                                 "lamb",
                                 "lars",
                                 "novograd",
                                 "adam_mini",
                                 "adafactor",
                                 "sm3",
                                 "prodigy",
                                 "dadapt_adam",
                                 "muon",
                                 "scion",
                                 "lookahead",
                                 "schedule_free",
                                 "averaged",
                                 "apollo",
                                 "apollo_mini",
                                 "flora",
                                 "galore",
                                 "frugal",
                                 "frugal_svd",
                                 "frugal_blocks",
                                 "badam",
                                 "shampoo",
                                 "soap",
                                 "lbfgs",
                                 "mfac",
                                 "lion_huber",
                                 "lion_relativistic",
                                 "lion_lp",
                                 "lion_rows",
                                 "lion_spectral"}) {
    Model<double> there(9, 7), back(9, 7);
    for (auto* model : {&there, &back}) {
      std::fill_n(model->w.data(), model->w.size(), 0.0);
      std::fill_n(model->b.data(), model->b.size(), 0.0);
    }
    const Hyper some{{"rank", 3}, {"refresh", 2}};
    run(made(name, some), there, 5, [] {});
    run(made(name, some), back, 5, [&] { times(back, -1); });
    EXPECT_EQ(farthest(there, back, -1), 0) << name;
  }
}

/// Whole optimizers at their usual hyper-parameters, as published: x ← x - update, by element, over 100 steps.
TEST(Promises, OfPublishedRules) {
  struct Rule {
    std::string name;
    std::function<double(double g, double x, double t, double* s)> update;
  };
  const auto average = [](double& m, double b, double x) { return m = b * m + (1 - b) * x; };
  const auto adam = [average](double g, double t, double* s, double b1, double b2) {
    average(s[0], b1, g);
    average(s[1], b2, g * g);
    return s[0] / (1 - std::pow(b1, t)) / (std::sqrt(s[1] / (1 - std::pow(b2, t))) + 1e-8);
  };
  const auto sign = [](double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0; };
  const std::vector<Rule> rules{
      {"sgd", [](double g, double, double, double*) { return 1e-2 * g; }},
      {"momentum", [](double g, double, double, double* s) { return 1e-2 * (s[0] = 0.9 * s[0] + g); }},
      {"adam", [=](double g, double, double t, double* s) { return 1e-3 * adam(g, t, s, 0.9, 0.999); }},
      {"adamw", [=](double g, double x, double t, double* s) { return 1e-3 * (adam(g, t, s, 0.9, 0.999) + 1e-4 * x); }},
      {"averaged",
       [=](double g, double x, double t, double* s) { return 1e-3 * (adam(g, t, s, 0.9, 0.999) + 1e-4 * x); }},
      {"adagrad",
       [](double g, double, double t, double* s) {
         if (t == 1) s[0] = 0.1;
         return 1e-2 * g / std::sqrt((s[0] += g * g) + 1e-7);
       }},
      {"rmsprop",
       [=](double g, double, double, double* s) { return 1e-3 * g / std::sqrt(average(s[0], 0.9, g * g) + 1e-8); }},
      {"lion",
       [=](double g, double x, double, double* s) {
         const double c = 0.9 * s[0] + 0.1 * g;
         average(s[0], 0.99, g);
         return 1e-4 * (sign(c) + 1e-3 * x);
       }},
      {"grokfast",
       [=](double g, double x, double t, double* s) {
         return 1e-3 * (adam(g + 2 * average(s[2], 0.98, g), t, s, 0.9, 0.999) + 1e-4 * x);
       }},
      {"signum", [=](double g, double, double, double* s) { return 1e-3 * sign(s[0] = 0.9 * s[0] + g); }},
      {"lookahead", [=](double g, double x, double t, double* s) {
         const double step = 1e-3 * (adam(g, t, s, 0.9, 0.999) + 1e-4 * x);
         if (t == 1) s[2] = x;
         if (std::fmod(t, 5) != 0) return step;
         return x - (s[2] += 0.5 * (x - step - s[2]));
       }}};
  for (const auto& rule : rules) {
    // Every block decays, as published.
    const auto opt = make_optimizer<double>(rule.name, {}, {.decayed = everything{}});
    Model<double> model(9, 7);
    std::vector<std::vector<double>> x(2), s(2);
    for (std::size_t b = 0; b < 2; ++b) {
      x[b].assign(model.params[b].values().begin(), model.params[b].values().end());
      s[b].resize(3 * x[b].size());
    }
    double t = 0;
    run(opt, model, 100, [&] {
      ++t;
      for (std::size_t b = 0; b < 2; ++b)
        for (std::size_t i = 0; i < x[b].size(); ++i)
          x[b][i] -= rule.update(model.grads[b].values()[i], x[b][i], t, &s[b][3 * i]);
    });
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t i = 0; i < x[b].size(); ++i)
        ASSERT_NEAR(model.params[b].values()[i], x[b][i], 1e-12) << rule.name << ' ' << b << ' ' << i;
  }
}

/// Rules of whole blocks: LAMB's and LARS's trust ratios, each block's own.
TEST(Promises, OfPublishedRulesOfLayers) {
  const auto norm = [](const std::vector<double>& v) {
    double sum = 0;
    for (double e : v) sum += e * e;
    return std::sqrt(sum);
  };
  for (const std::string name : {"lamb", "lars"}) {
    const auto opt = make_optimizer<double>(name, {}, {.decayed = everything{}});
    Model<double> model(9, 7);
    std::vector<std::vector<double>> x(2), m(2), v(2);
    for (std::size_t b = 0; b < 2; ++b) {
      x[b].assign(model.params[b].values().begin(), model.params[b].values().end());
      m[b].resize(x[b].size());
      v[b].resize(x[b].size());
    }
    double t = 0;
    run(opt, model, 100, [&] {
      ++t;
      for (std::size_t b = 0; b < 2; ++b) {
        std::vector<double> r(model.grads[b].values().begin(), model.grads[b].values().end());
        for (std::size_t i = 0; i < r.size(); ++i) {
          if (name == "lamb") {
            m[b][i] = 0.9 * m[b][i] + 0.1 * r[i];
            v[b][i] = 0.999 * v[b][i] + 0.001 * r[i] * r[i];
            r[i] = m[b][i] / (1 - std::pow(0.9, t)) / (std::sqrt(v[b][i] / (1 - std::pow(0.999, t))) + 1e-6);
          }
          r[i] += 1e-4 * x[b][i];
        }
        const double trust = norm(x[b]) / norm(r);
        for (std::size_t i = 0; i < r.size(); ++i)
          x[b][i] -= name == "lamb" ? 1e-3 * trust * r[i] : m[b][i] = 0.9 * m[b][i] + 1e-3 * trust * r[i];
      }
    });
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t i = 0; i < x[b].size(); ++i)
        ASSERT_NEAR(model.params[b].values()[i], x[b][i], 1e-12) << name << ' ' << b << ' ' << i;
  }
}

}  // namespace
}  // namespace tessera::optim
