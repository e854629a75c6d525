#include "optim/promises.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <string>
#include <tessera/optim/subspace.hpp>
#include <vector>

#include "optim/plain_matrices.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

/// M-FAC's F is of gradients' squares, λ with it: its steps are as the gradients' inverses; damped by them, as they.
TEST(Promises, OfScaleWithMFac) {
  for (const double damping : {0.0, 0.1}) {
    Model<double> one(9, 7), other(9, 7);
    run(made("mfac", {{"damping", damping}, {"lambda", 0.1}, {"rate", 0.08}}), one, 5, [] {});
    run(made("mfac", {{"damping", damping}, {"lambda", 6.4}, {"rate", damping > 0 ? 0.01 : 0.64}}), other, 5,
        [&] { times(other, 8); });
    EXPECT_LE(farthest(one, other), 1e-13) << damping;
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
      {"optimistic_adam",
       [=](double g, double, double t, double* s) {  // Nesterov's Adam, twice the direction less the one before
         average(s[0], 0.9, g);
         average(s[1], 0.999, g * g);
         const double ahead = 0.9 * s[0] / (1 - std::pow(0.9, t + 1)) + 0.1 * g / (1 - std::pow(0.9, t));
         const double u = ahead / (std::sqrt(s[1] / (1 - std::pow(0.999, t))) + 1e-8);
         const double before = t == 1 ? u : s[2];
         s[2] = u;
         return 1e-3 * (2 * u - before);
       }},
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

/// Scion: matrices go a hundredth of the way to radius·√(out/in) times the nearest orthogonal matrix that five steps
/// find to the momentum, vectors to the sphere.
TEST(Promises, OfScion) {
  for (const auto& shape : {std::array<std::size_t, 2>{9, 7}, {7, 9}}) {
    const std::size_t m = shape[0], n = shape[1];
    Model<double> model(static_cast<Index>(m), static_cast<Index>(n));
    Vec w(model.w.begin(), model.w.end()), b(model.b.begin(), model.b.end()), mw(w.size()), mb(n);
    run(made("scion"), model, 100, [&] {
      for (std::size_t i = 0; i < w.size(); ++i) mw[i] = 0.9 * mw[i] + model.dw[static_cast<Index>(i)];
      for (std::size_t i = 0; i < n; ++i) mb[i] = 0.9 * mb[i] + model.db[static_cast<Index>(i)];
      const Vec u = newton_schulz(mw, m, n);
      const double spectral = 30 * std::sqrt(static_cast<double>(m) / static_cast<double>(n)),
                   sphere = 30 * std::sqrt(static_cast<double>(n) / square(mb));
      for (std::size_t i = 0; i < w.size(); ++i) w[i] -= 1e-2 * (spectral * u[i] + w[i]);
      for (std::size_t i = 0; i < n; ++i) b[i] -= 1e-2 * (sphere * mb[i] + b[i]);
    });
    for (std::size_t i = 0; i < w.size(); ++i) ASSERT_NEAR(model.w[static_cast<Index>(i)], w[i], 1e-11) << m;
    for (std::size_t i = 0; i < n; ++i) ASSERT_NEAR(model.b[static_cast<Index>(i)], b[i], 1e-11) << m;
  }
}

/// Flora: Adam of P·G, or of G·Pᵀ where columns are fewer, a quarter of it brought back by Pᵀ; P is drawn anew after
/// each twenty steps, and Adam goes on.
TEST(Promises, OfFlora) {
  constexpr std::size_t rank = 3;
  for (const auto& shape : {std::array<std::size_t, 2>{9, 7}, {7, 9}}) {
    const std::size_t m = shape[0], n = shape[1], side = std::min(m, n), longer = std::max(m, n);
    Model<double> model(static_cast<Index>(m), static_cast<Index>(n));
    Vec w(model.w.begin(), model.w.end()), mu(rank * longer), nu(rank * longer), P(rank * side);
    Context ctx;
    double t = 0;
    run(made("flora", {{"rank", rank}, {"refresh", 20}, {"seed", 5}}), model, 100, [&] {
      const MatrixView<double> view(P.data(), rank, static_cast<Index>(side));
      gaussian_projection{5}(ctx, MatrixView<const double>(view), 0, static_cast<Index>(t) / 20, view);
      ++t;
      const auto at = [&](std::size_t i, std::size_t j) {
        return m <= n ? i * n + j : j * n + i;
      };  // of the side first
      for (std::size_t j = 0; j < longer; ++j)
        for (std::size_t r = 0; r < rank; ++r) {
          double g = 0;
          for (std::size_t i = 0; i < side; ++i) g += P[r * side + i] * model.dw[static_cast<Index>(at(i, j))];
          double &first = mu[r * longer + j], &second = nu[r * longer + j];
          first = 0.9 * first + 0.1 * g;
          second = 0.999 * second + 0.001 * g * g;
          const double u = first / (1 - std::pow(0.9, t)) / (std::sqrt(second / (1 - std::pow(0.999, t))) + 1e-8);
          for (std::size_t i = 0; i < side; ++i) w[at(i, j)] -= 1e-2 * 0.25 * P[r * side + i] * u;
        }
    });
    for (std::size_t i = 0; i < w.size(); ++i) ASSERT_NEAR(model.w[static_cast<Index>(i)], w[i], 1e-11) << m;
  }
}

}  // namespace
}  // namespace tessera::optim
