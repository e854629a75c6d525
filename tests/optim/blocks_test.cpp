#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>
#include <tessera/optim/optim.hpp>
#include <vector>

#include "optim/model.hpp"
#include "optim/plain_matrices.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

constexpr std::size_t rows = 12, cols = 9;  // of block 0; block 1 is a vector (cols)

/// What a rule sees of a step: gradients that it turns into updates, parameters, and what it keeps.
struct Step {
  double t = 0;
  std::array<Vec, 2> u, p;
  std::map<std::string, Vec> s;
  Vec& kept(const std::string& name, std::size_t size) {
    auto& x = s[name];
    x.resize(size);
    return x;
  }
};

template <class T>
std::vector<VectorView<T>> views(const Parameters<T>& blocks) {
  std::vector<VectorView<T>> all;
  for (const auto& b : blocks) all.push_back(b.view());
  return all;
}

/// The link alone, on updates in memory.
template <class T, class Link, class State>
void apply(Context& ctx, const Link& link, const Parameters<T>& grads, State& state, const Parameters<T>& params) {
  const auto updates = views(grads);
  if constexpr (WholeTransform<Link>) {
    link.transform(ctx, std::span<const VectorView<T>>(updates), state, params);
  } else {
    const std::vector<VectorView<const T>> read(updates.begin(), updates.end());
    const auto steps = link.reduce(ctx, std::span<const VectorView<const T>>(read), state, params);
    for (std::size_t b = 0; b < updates.size(); ++b)
      for (Index i = 0; i < updates[b].extent(0); ++i) {
        simd::Vec<T, simd::Scalar> u(updates[b][i]);
        steps.block(b)(u, u);
        updates[b][i] = u.v;
      }
  }
}

/// 100 steps on random gradients by the rule, in double; the numbers kept are `numbers`.
template <class Link, class Rule>
void follows(const Link& link, double rate, Index numbers, const Rule& rule) {
  Model<double> model(rows, cols);
  Step step;
  for (std::size_t b = 0; b < 2; ++b)
    for (double v : model.params[b].values()) step.p[b].push_back(v);
  auto state = link.init(model.params);
  Index all = 0;
  if constexpr (requires { state.blocks; })
    for (const auto& block : state.blocks)
      for (const auto& slot : block) all += slot.size();
  EXPECT_EQ(all, numbers);
  Context ctx;
  for (step.t = 1; step.t <= 100; ++step.t) {
    model.draw(static_cast<Index>(step.t));
    for (std::size_t b = 0; b < 2; ++b)
      step.u[b].assign(model.grads[b].values().begin(), model.grads[b].values().end());
    rule(step);
    apply(ctx, link, model.grads, state, model.params);
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t i = 0; i < step.p[b].size(); ++i) {
        step.p[b][i] -= rate * step.u[b][i];
        double& x = model.params[b].values()[i];
        x -= rate * model.grads[b].values()[i];
        ASSERT_NEAR(x, step.p[b][i], 1e-10 * (1 + std::abs(x))) << step.t << ' ' << b << ' ' << i;
      }
  }
}

/// The same bits for one thread and three over matrices of several pieces; where asked, for gradients times 8 as well.
template <class Link>
void keeps_its_bits(const Link& link, bool scale_free, std::size_t blocks = 2) {
  std::vector<float> first;
  for (const Index threads : {1, 3, 0}) {
    if (threads == 0 && !scale_free) continue;
    Model<float> model(17, 2111);
    for (auto* x : {&model.params, &model.grads}) x->erase(x->begin() + static_cast<std::ptrdiff_t>(blocks), x->end());
    auto ctx = Context::with_threads(std::max<Index>(threads, 1));
    auto state = link.init(model.params);
    std::vector<float> end;
    for (int t = 0; t < 2; ++t) {
      model.dw = random_buffer<float>(model.dw.size(), static_cast<std::uint64_t>(t) + 50);
      model.grads[0].data = model.dw.data();
      if (threads == 0)
        for (float& g : model.dw) g *= 8;
      apply(ctx, link, model.grads, state, model.params);
      end.insert(end.end(), model.dw.begin(), model.dw.end());
    }
    if (threads == 1) first = end;
    EXPECT_TRUE(first == end) << threads;
  }
}

TEST(TrustRatio, GivesEachBlockItsOwnNorm) {
  follows(scale_by_trust_ratio(0, 0.1, 1e-3), 1, 0, [](Step& step) {
    for (std::size_t b = 0; b < 2; ++b) {
      const double factor = 0.1 * std::sqrt(square(step.p[b])) / (std::sqrt(square(step.u[b])) + 1e-3);
      for (double& u : step.u[b]) u *= factor;
    }
  });
  keeps_its_bits(scale_by_trust_ratio(), true);
  follows(scale_by_param_block_rms(0.4), 0.1, 0, [](Step& step) {
    for (std::size_t b = 0; b < 2; ++b) {
      const double rms = std::sqrt(square(step.p[b]) / static_cast<double>(step.p[b].size()));
      for (double& u : step.u[b]) u *= std::max(rms, 0.4);
    }
  });
  Buffer<float> zero(2), g(2);
  g[0] = 3;
  const Parameters<float> params{{"x", std::span<float>(zero)}}, grads{{"x", std::span<float>(g)}};
  Context ctx;
  auto state = scale_by_trust_ratio().init(params);
  apply(ctx, scale_by_trust_ratio(), grads, state, params);
  EXPECT_EQ(g[0], 3);  // parameters at zero can leave it
}

TEST(Novograd, OneSecondMomentALayer) {
  follows(scale_by_novograd({.weight_decay = 0.01}), 0.01, 12 * 9 + 9 + 2, [](Step& step) {
    for (std::size_t b = 0; b < 2; ++b) {
      double& v = step.kept(b == 0 ? "v0" : "v1", 1)[0];
      auto& m = step.kept(b == 0 ? "m0" : "m1", step.u[b].size());
      v = step.t == 1 ? square(step.u[b]) : 0.25 * v + 0.75 * square(step.u[b]);
      for (std::size_t i = 0; i < m.size(); ++i)
        step.u[b][i] = m[i] = 0.9 * m[i] + step.u[b][i] / (std::sqrt(v) + 1e-6) + 0.01 * step.p[b][i];
    }
  });
  keeps_its_bits(scale_by_novograd({.eps = 0}), true);
}

TEST(AdamMini, OneSecondMomentAGroupOfRows) {
  const auto five = [](const ParameterInfo&) { return Index{5}; };  // 12 rows are 5, 5 and 2
  follows(scale_by_adam_mini({.b2 = 0.9}, five), 0.01, 12 * 9 + 9 + 3 + 1, [](Step& step) {
    for (std::size_t b = 0; b < 2; ++b) {
      auto& m = step.kept(b == 0 ? "m0" : "m1", step.u[b].size());
      auto& v = step.kept(b == 0 ? "v0" : "v1", 3);
      for (std::size_t g = 0; g < (b == 0 ? 3 : 1); ++g) {
        const std::size_t begin = g * 5 * cols, end = std::min(begin + 5 * cols, m.size());
        const Vec own(step.u[b].begin() + static_cast<std::ptrdiff_t>(begin),
                      step.u[b].begin() + static_cast<std::ptrdiff_t>(end));
        v[g] = 0.9 * v[g] + 0.1 * square(own) / static_cast<double>(end - begin);
        for (std::size_t i = begin; i < end; ++i) {
          m[i] = 0.9 * m[i] + 0.1 * step.u[b][i];
          step.u[b][i] = m[i] / (1 - std::pow(0.9, step.t)) / (std::sqrt(v[g] / (1 - std::pow(0.9, step.t))) + 1e-8);
        }
      }
    }
  });
  keeps_its_bits(scale_by_adam_mini({.eps = 0}), true);
}

TEST(Adafactor, KeepsRowsAndColumns) {
  follows(scale_by_factored_rms({.min_dim = 9}), 0.01, 12 + 9 + 9, [](Step& step) {
    const double b2 = 1 - std::pow(step.t, -0.8);
    auto &R = step.kept("R", rows), &C = step.kept("C", cols), &v = step.kept("v", cols);
    Vec r(rows), c(cols);
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = 0; j < cols; ++j) {
        const double g2 = step.u[0][i * cols + j] * step.u[0][i * cols + j] + 1e-30;
        r[i] += g2 / cols;
        c[j] += g2 / rows;
      }
    double mean = 0;
    for (std::size_t i = 0; i < rows; ++i) mean += (R[i] = b2 * R[i] + (1 - b2) * r[i]) / rows;
    for (std::size_t j = 0; j < cols; ++j) C[j] = b2 * C[j] + (1 - b2) * c[j];
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = 0; j < cols; ++j) step.u[0][i * cols + j] /= std::sqrt(R[i] * C[j] / mean);
    for (std::size_t j = 0; j < cols; ++j) {
      v[j] = b2 * v[j] + (1 - b2) * (step.u[1][j] * step.u[1][j] + 1e-30);
      step.u[1][j] /= std::sqrt(v[j]);
    }
  });
  keeps_its_bits(scale_by_factored_rms({.eps = 0, .min_dim = 2}), true);
}

TEST(Sm3, CoversByRowsAndColumns) {
  follows(scale_by_sm3(), 0.01, 12 + 9 + 9, [](Step& step) {
    auto &R = step.kept("R", rows), &C = step.kept("C", cols), &v = step.kept("v", cols);
    Vec r(rows), c(cols);
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = 0; j < cols; ++j) {
        double& u = step.u[0][i * cols + j];
        const double nu = std::min(R[i], C[j]) + u * u;
        u /= std::sqrt(nu);
        r[i] = std::max(r[i], nu);
        c[j] = std::max(c[j], nu);
      }
    R = r;
    C = c;
    for (std::size_t j = 0; j < cols; ++j) {
      v[j] += step.u[1][j] * step.u[1][j];
      step.u[1][j] /= std::sqrt(v[j]);
    }
  });
  keeps_its_bits(scale_by_sm3(), true);
}

TEST(Prodigy, FollowsItsRuleAndFindsADistance) {
  follows(prodigy(DistanceOptions<>{.start = 0.01, .weight_decay = 0.1}), -1, 4 * 117, [](Step& step) {
    double& d = step.kept("d", 1)[0];
    double& r = step.kept("r", 1)[0];
    if (step.t == 1) {
      d = 0.01;
      step.s["start0"] = step.p[0], step.s["start1"] = step.p[1];
    }
    const double b3 = std::sqrt(0.999);
    const double lambda = std::sqrt(1 - std::pow(0.999, step.t)) / (1 - std::pow(0.9, step.t));
    double product = 0, length = 0;
    for (std::size_t b = 0; b < 2; ++b) {
      const std::string at = b == 0 ? "0" : "1";
      auto &m = step.kept("m" + at, step.u[b].size()), &v = step.kept("v" + at, step.u[b].size()),
           &s = step.kept("s" + at, step.u[b].size()), &start = step.s["start" + at];
      for (std::size_t i = 0; i < m.size(); ++i) {
        const double g = step.u[b][i], p = step.p[b][i];
        product += g * (start[i] - p);
        m[i] = 0.9 * m[i] + 0.1 * d * g;
        v[i] = 0.999 * v[i] + 0.001 * d * g * d * g;
        s[i] = b3 * s[i] + lambda * d * d / 0.01 * g;
        length += std::abs(s[i]);
        step.u[b][i] = -lambda * d * (m[i] / (std::sqrt(v[i]) + d * 1e-8) + 0.1 * p);
      }
    }
    r = b3 * r + lambda * d * d / 0.01 * product;
    d = std::max(d, r / length);
  });
  keeps_its_bits(prodigy(), false);

  Buffer<double> x(3), g(3);
  const Parameters<double> params{{"x", std::span<double>(x)}}, grads{{"x", std::span<double>(g)}};
  const auto link = prodigy();
  auto state = link.init(params);
  Context ctx;
  const std::array<double, 3> c{3, -2, 1};
  for (int step = 0; step < 1000; ++step) {
    for (std::size_t i = 0; i < 3; ++i) g[static_cast<Index>(i)] = x[static_cast<Index>(i)] - c[i];
    apply(ctx, link, grads, state, params);
    for (Index i = 0; i < 3; ++i) x[i] += g[i];
  }
  EXPECT_GT(state.d, 0.03);  // from 1e-6
  EXPECT_LT(state.d, 3);     // no farther than the solution
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(x[static_cast<Index>(i)], c[i], 0.1);
}

TEST(DAdaptAdam, FollowsItsRule) {
  follows(dadapt_adam(DistanceOptions<>{.start = 0.01, .weight_decay = 0.1}), -1, 3 * 117, [](Step& step) {
    double& d = step.kept("d", 1)[0];
    double& r = step.kept("r", 1)[0];
    if (step.t == 1) d = 0.01;
    const double b3 = std::sqrt(0.999);
    const double lambda = d * std::sqrt(1 - std::pow(0.999, step.t)) / (1 - std::pow(0.9, step.t));
    double product = 0, length = 0;
    for (std::size_t b = 0; b < 2; ++b) {
      const std::string at = b == 0 ? "0" : "1";
      auto &m = step.kept("m" + at, step.u[b].size()), &v = step.kept("v" + at, step.u[b].size()),
           &s = step.kept("s" + at, step.u[b].size());
      for (std::size_t i = 0; i < m.size(); ++i) {
        const double g = step.u[b][i];
        product += g * s[i] / (std::sqrt(v[i]) + 1e-8);
        m[i] = 0.9 * m[i] + 0.1 * lambda * g;
        v[i] = 0.999 * v[i] + 0.001 * g * g;
        s[i] = b3 * s[i] + (1 - b3) * lambda * g;
        length += std::abs(s[i]);
        step.u[b][i] = -(m[i] / (std::sqrt(v[i]) + 1e-8) + lambda * 0.1 * step.p[b][i]);
      }
    }
    r = b3 * r + (1 - b3) * lambda * product;
    d = std::max(d, r / ((1 - b3) * length));
  });
  keeps_its_bits(dadapt_adam(), false);
}

TEST(Muon, NewtonSchulzByPlainLoopsAndRotated) {
  Context ctx;
  for (const auto& shape : {std::array<std::size_t, 2>{5, 8}, {8, 5}, {6, 6}, {1, 4}}) {
    const std::size_t m = shape[0], n = shape[1];  // clang 14 captures no structured bindings
    const auto drawn = random_buffer<double>(static_cast<Index>(m * n), 9);
    const Vec G(drawn.begin(), drawn.end());
    const Vec X = newton_schulz(G, m, n);
    Vec mirror(m * m);
    const auto ours = [&](Vec M, const NewtonSchulz& o) {
      orthogonalize(ctx, MatrixView<double>(M.data(), static_cast<Index>(m), static_cast<Index>(n)), o);
      return M;
    };
    const Vec got = ours(G, {});
    for (std::size_t i = 0; i < X.size(); ++i) ASSERT_NEAR(got[i], X[i], 1e-12);
    // A reflection from the left goes through.
    double length = 0;
    for (std::size_t i = 0; i < m; ++i) length += G[i * n] * G[i * n];
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j < m; ++j) mirror[i * m + j] = (i == j) - 2 * G[i * n] * G[j * n] / length;
    const Vec turned = ours(product(mirror, G, m, m, n), {}), expected = product(mirror, got, m, m, n);
    for (std::size_t i = 0; i < X.size(); ++i) ASSERT_NEAR(turned[i], expected[i], 1e-11);
    // Coefficients that converge end at an orthogonal matrix.
    const Vec Q = ours(G, {1.875, -1.25, 0.375, 40, 0});
    const std::size_t s = std::min(m, n);
    Vec flipped(Q.size());
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j < n; ++j) flipped[j * m + i] = Q[i * n + j];
    const Vec I = m <= n ? product(Q, Q, m, n, m, true) : product(flipped, flipped, n, m, n, true);
    for (std::size_t i = 0; i < s; ++i)
      for (std::size_t j = 0; j < s; ++j) ASSERT_NEAR(I[i * s + j], i == j, 1e-10) << m << ' ' << n;
  }
}

/// 100 steps of `muon` on a tall, a wide and a square matrix beside the plain ones in double, and AdamW's of a bias;
/// the greatest difference, beside parameters of up to 3.
template <class T>
double muon_strays(bool nesterov) {
  constexpr std::size_t shapes[][2] = {{12, 5}, {5, 12}, {8, 8}, {1, 8}};
  constexpr double rate = 0.02, adam_rate = 0.01, decay = 0.1;
  std::vector<Buffer<T>> p, g(4);
  std::vector<Vec> x, m(4), v(4);
  Parameters<T> params, grads;
  for (std::size_t b = 0; b < 4; ++b) {
    const auto r = static_cast<Index>(shapes[b][0]), c = static_cast<Index>(shapes[b][1]);
    p.push_back(random_buffer<T>(r * c, b));
    x.emplace_back(p[b].begin(), p[b].end());
    m[b].resize(x[b].size());
    v[b].resize(x[b].size());
    params.emplace_back(std::to_string(b), MatrixView<T>(p[b].data(), r, c));
  }
  grads = params;
  const auto opt = muon(rate, adam_rate, {.nesterov = nesterov}, decay);
  auto state = opt.init(params);
  Context ctx;
  double strays = 0;
  for (int t = 1; t <= 100; ++t)
    for (std::size_t b = 0; b < 4; ++b) {
      g[b] = random_buffer<T>(p[b].size(), static_cast<std::uint64_t>(t) * 4 + b);
      grads[b].data = g[b].data();
      Vec u(g[b].begin(), g[b].end());
      const auto rows_of = static_cast<double>(shapes[b][0]), cols_of = static_cast<double>(shapes[b][1]);
      if (b == 3) {
        for (std::size_t i = 0; i < u.size(); ++i) {
          m[b][i] = 0.9 * m[b][i] + 0.1 * u[i];
          v[b][i] = 0.999 * v[b][i] + 0.001 * u[i] * u[i];
          u[i] = m[b][i] / (1 - std::pow(0.9, t)) / (std::sqrt(v[b][i] / (1 - std::pow(0.999, t))) + 1e-8);
        }
      } else {
        for (std::size_t i = 0; i < u.size(); ++i) {
          m[b][i] = 0.95 * m[b][i] + u[i];
          u[i] = nesterov ? u[i] + 0.95 * m[b][i] : m[b][i];
        }
        u = newton_schulz(u, shapes[b][0], shapes[b][1]);
        for (double& one : u) one *= std::sqrt(std::max(1.0, rows_of / cols_of));
      }
      for (std::size_t i = 0; i < u.size(); ++i) x[b][i] -= (b == 3 ? adam_rate : rate) * (u[i] + decay * x[b][i]);
      if (b < 3) continue;
      opt.update(ctx, grads, state, params);
      for (std::size_t k = 0; k < 4; ++k)
        for (std::size_t i = 0; i < x[k].size(); ++i)
          strays = std::max(strays, std::abs(static_cast<double>(p[k][static_cast<Index>(i)]) - x[k][i]));
    }
  return strays;
}

TEST(Muon, FollowsThePlainStep) {
  for (const bool nesterov : {true, false}) {
    EXPECT_LT(muon_strays<double>(nesterov), 1e-13);  // 2e-15
    EXPECT_LT(muon_strays<float>(nesterov), 1e-5);    // 2e-6
  }
}

TEST(Muon, TakesMatricesAlone) {
  Model<float> model(5, 4);
  try {
    scale_by_muon().init(model.params);
    FAIL();
  } catch (const unsupported_error& e) {
    EXPECT_STREQ(e.what(),
                 "tessera: scale_by_muon: parameter 'b' is (1x4); expected a matrix, others in a group of their own");
  }
  keeps_its_bits(scale_by_muon({.newton_schulz = {.eps = 0}}), true, 1);
}

TEST(Lmo, StepsOfNormOne) {
  Context ctx;
  const auto one = [&](StepNorm norm) {
    Model<double> model(6, 4);
    const auto link = scale_by_lmo(3, [=](const ParameterInfo&) { return norm; });
    auto state = link.init(model.params);
    const Vec g(model.dw.begin(), model.dw.end());
    apply(ctx, link, model.grads, state, model.params);
    double along = 0;
    for (std::size_t i = 0; i < 24; ++i) along += g[i] * model.dw[static_cast<Index>(i)];
    EXPECT_GT(along, 0);
    return Vec(model.dw.begin(), model.dw.end());
  };
  const Vec columns = one(StepNorm::columns), across = one(StepNorm::rows), signs = one(StepNorm::sign);
  for (std::size_t j = 0; j < 4; ++j) {
    double sum = 0;
    for (std::size_t i = 0; i < 6; ++i) sum += columns[i * 4 + j] * columns[i * 4 + j];
    EXPECT_NEAR(std::sqrt(sum), 3 * std::sqrt(6), 1e-12);
  }
  for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(square(Vec(&across[i * 4], &across[i * 4] + 4)), 9.0 / 4, 1e-12);
  for (double x : signs) EXPECT_EQ(std::abs(x), 0.75);
  EXPECT_NEAR(square(one(StepNorm::rms)), 9 * 24, 1e-10);
  EXPECT_NEAR(square(one(StepNorm::spectral)), 9 * 1.5 * 4, 30);  // four singular values near 3·√(6/4)
  keeps_its_bits(scale_by_lmo(1, [](const ParameterInfo&) { return StepNorm::columns; }), true);
}

/// 300 steps from -1 toward 1 and -2 in a matrix and a vector; what is left of the loss.
template <class Opt>
double left_of_loss(const Opt& opt, std::size_t bytes) {
  Model<float> model(4, 3);
  for (auto* x : {&model.w, &model.b}) std::fill(x->begin(), x->end(), -1.0f);
  auto state = opt.init(model.params);
  if constexpr (requires { state.links; }) {
    EXPECT_EQ(state.state_bytes(), bytes);
  }
  Context ctx;
  const auto loss = [&] {
    double sum = 0;
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t i = 0; i < model.params[b].values().size(); ++i) {
        const float g = model.params[b].values()[i] - (i % 2 == 0 ? 1.0f : -2.0f);
        model.grads[b].values()[i] = g;
        sum += 0.5 * static_cast<double>(g * g);
      }
    return sum;
  };
  const double before = loss();
  for (int step = 0; step < 300; ++step) {
    loss();
    opt.update(ctx, model.grads, state, model.params);
  }
  return loss() / before;
}

TEST(LayerWise, UsualNamesDescend) {
  EXPECT_LT(left_of_loss(lamb(0.01), 30 * 4), 0.05);
  EXPECT_LT(left_of_loss(lars(1.0), 15 * 4), 0.05);
  EXPECT_LT(left_of_loss(adafactor(0.02, {.min_dim = 2}), (4 + 3 + 3) * 4 + 8), 0.05);
  EXPECT_LT(left_of_loss(sm3(0.1), (4 + 3 + 3 + 15) * 4 + 8), 0.2);
  EXPECT_LT(left_of_loss(signum(0.01), 15 * 4), 0.05);
  EXPECT_LT(left_of_loss(muon(0.02, 0.02), 0), 0.05);
  EXPECT_LT(left_of_loss(chain(prodigy()), 4 * 15 * 4 + 8 + 16), 0.05);
}

TEST(LayerWise, ScionStaysInItsBall) {
  Model<float> model(3, 4);
  std::fill(model.b.begin(), model.b.end(), 0.0f);
  const auto opt = scion(0.1, 2);
  auto state = opt.init(model.params);
  Context ctx;
  for (Index step = 0; step < 100; ++step) {
    model.draw(step % 3);
    opt.update(ctx, model.grads, state, model.params);
    double norm = 0;
    for (float x : model.b) norm += static_cast<double>(x) * static_cast<double>(x);
    ASSERT_LE(std::sqrt(norm / 4), 2.00001);
  }
}

}  // namespace
}  // namespace tessera::optim
