// Lion-K beyond signs: momentum for ½|x|², balls of p-norms and of groups, the Lyapunov value of each.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/lion_norms.hpp>
#include <tessera/optim/lmo.hpp>
#include <vector>

#include "optim/model.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

TEST(LionK, OfHalfTheSquareIsMomentumWithDecay) {
  const double b = 0.9, rate = 0.05, decay = 0.1;
  const auto run = [&](const auto& opt) {
    Model<double> model(7, 5);
    auto state = opt.init(model.params);
    Context ctx;
    for (Index step = 0; step < 30; ++step) {
      model.draw(step);
      opt.update(ctx, model.grads, state, model.params);
    }
    return model.w;
  };
  const auto same = [](const Buffer<double>& x, const Buffer<double>& y) {
    for (Index i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], 1e-13);
  };
  const auto lion = [&](double b1) {
    return chain(scale_by_lion_k(kappa::half_squared{}, b1, b), add_decayed_weights(decay), scale(-rate));
  };
  const auto momentum = [&](bool nesterov) {
    return chain(trace(b, nesterov), scale(1 - b), add_decayed_weights(decay), scale(-rate));
  };
  same(run(lion(b)), run(momentum(false)));     // heavy ball
  same(run(lion(b * b)), run(momentum(true)));  // b·m + (1-b)g of the new m is Nesterov's
}

/// f = ½Σ a_i (x_i - c_i)² over a (2, 3) block, its minimum outside all balls below.
struct Bowl {
  static constexpr double a[6] = {1, 3, 2, 4, 1, 2}, c[6] = {2, -3, 0.5, 1, 1.5, -2};
  Buffer<double> x{6}, g{6};
  Parameters<double> params{{"x", MatrixView<double>(x.data(), 2, 3)}},
      grads{{"x", MatrixView<double>(g.data(), 2, 3)}};
  double gradient() {
    double f = 0;
    for (Index i = 0; i < 6; ++i) {
      g[i] = a[i] * (x[i] - c[i]);
      f += 0.5 * g[i] * (x[i] - c[i]);
    }
    return f;
  }
};

/// Runs Lion-K with this norm's gradient, `kappa(m)` its norm and `dual(x)` that of the ball |x| <= 1/λ.
template <class Link, class Kappa, class Dual>
Buffer<double> constrained(const Link& link, double rate, double decay, Kappa norm, Dual dual, int steps) {
  Bowl bowl;
  bowl.x[0] = 9, bowl.x[3] = -7;
  const auto opt = chain(scale_by_lion_k(kappa::half_squared{}), link, add_decayed_weights(decay), scale(-rate));
  auto state = opt.init(bowl.params);
  Context ctx;
  double last = 0;
  for (int step = 0; step < steps; ++step) {
    const double before = std::max(0.0, dual(bowl.x) - 1 / decay);
    bowl.gradient();
    opt.update(ctx, bowl.grads, state, bowl.params);
    EXPECT_LE(std::max(0.0, dual(bowl.x) - 1 / decay), (1 - rate * decay) * before + 1e-12) << step;
    const auto& m = std::get<0>(state.links).blocks[0][0];
    double product = 0;
    for (Index i = 0; i < 6; ++i) product += m[i] * bowl.x[i];
    if (dual(bowl.x) <= 1 / decay + 1e-12) {  // κ* is 0 in the ball, infinite outside
      const double value = lion_k_lyapunov(bowl.gradient(), norm(m), 0, product, rate, decay);
      EXPECT_TRUE(last == 0 || value <= last + 200 * rate * rate) << step << ' ' << value << ' ' << last;
      last = value;
    }
  }
  return bowl.x;
}
/// The same by projected gradients; `project` in place.
template <class Project>
Buffer<double> reference(Project project) {
  Bowl bowl;
  for (int step = 0; step < 4000; ++step) {
    bowl.gradient();
    for (Index i = 0; i < 6; ++i) bowl.x[i] -= 0.2 * bowl.g[i];
    project(bowl.x);
  }
  return bowl.x;
}
double norm_of(const Buffer<double>& x, double p, Index from = 0, Index to = 6) {
  double sum = 0;
  for (Index i = from; i < to; ++i) sum += std::pow(std::abs(x[i]), p);
  return std::pow(sum, 1 / p);
}

TEST(LionK, OfGroupsKeepsEachRowInItsBall) {
  const double rate = 2e-3, decay = 1;
  const auto largest = [](const Buffer<double>& x) { return std::max(norm_of(x, 2, 0, 3), norm_of(x, 2, 3, 6)); };
  const auto sum = [](const Buffer<double>& m) { return norm_of(m, 2, 0, 3) + norm_of(m, 2, 3, 6); };
  const auto rows = scale_by_lmo(std::sqrt(3.0), [](const ParameterInfo&) { return StepNorm::rows; });
  const auto x = constrained(rows, rate, decay, sum, largest, 6000);
  const auto y = reference([](Buffer<double>& z) {
    for (const Index row : {Index{0}, Index{3}})
      if (const double norm = norm_of(z, 2, row, row + 3); norm > 1)
        for (Index i = row; i < row + 3; ++i) z[i] /= norm;
  });
  for (Index i = 0; i < 6; ++i) EXPECT_NEAR(x[i], y[i], 10 * rate) << i;
}

TEST(LionK, OfPNormsKeepsTheBlockInTheDualBall) {
  const double rate = 2e-3, decay = 0.8;
  for (const double p : {2.0, 1.5, 4.0}) {
    const double q = p / (p - 1);
    const auto x = constrained(
        scale_by_norm_gradient(p), rate, decay, [&](const auto& m) { return norm_of(m, p); },
        [&](const auto& z) { return norm_of(z, q); }, 6000);
    EXPECT_NEAR(norm_of(x, q), 1 / decay, 10 * rate);
    if (p == 2.0) {
      const auto y = reference([&](Buffer<double>& z) {
        if (const double norm = norm_of(z, 2); norm > 1 / decay)
          for (double& v : z) v /= norm * decay;
      });
      for (Index i = 0; i < 6; ++i) EXPECT_NEAR(x[i], y[i], 10 * rate) << i;
    }
    // KKT: -∇f is a multiple of ∇|x|_q, whose entries are sign(x)|x|^(q-1).
    Bowl at;
    std::copy(x.begin(), x.end(), at.x.begin());
    at.gradient();
    double along = 0, g2 = 0, n2 = 0;
    for (Index i = 0; i < 6; ++i) {
      const double normal = std::copysign(std::pow(std::abs(x[i]), q - 1), x[i]);
      along -= at.g[i] * normal, g2 += at.g[i] * at.g[i], n2 += normal * normal;
    }
    EXPECT_GT(along / std::sqrt(g2 * n2), 0.9995) << p;
  }
  EXPECT_THROW(scale_by_norm_gradient(1), unsupported_error);
}

TEST(LionK, NormGradientsAreGradients) {
  const auto u = random_buffer<double>(50, 4);
  Context ctx;
  for (const double p : {1.5, 2.0, 3.0}) {
    Buffer<double> out = u;
    out[7] = 0;
    const auto base = out;
    const VectorView<double> all[]{{out.data(), 50}};
    ScaleByNormGradient::State none;
    scale_by_norm_gradient(p).transform<double>(ctx, all, none, {});
    for (const Index i : {0, 7, 49}) {
      Buffer<double> up = base, down = base;
      up[i] += 1e-6, down[i] -= 1e-6;
      EXPECT_NEAR(out[i], (norm_of(up, p, 0, 50) - norm_of(down, p, 0, 50)) / 2e-6, 1e-7) << p << ' ' << i;
    }
  }
}

}  // namespace
}  // namespace tessera::optim
