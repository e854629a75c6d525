#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <tessera/optim/scale.hpp>
#include <tessera/optim/second_order/kfac.hpp>
#include <tessera/optim/second_order/mkor.hpp>
#include <tessera/optim/trace.hpp>
#include <vector>

#include "optim/kronecker.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

using namespace kronecker;

/// A layer y = W a under ½|W a - W* a|² of inputs with a covariance of condition 1e4.
struct IllConditioned {
  static constexpr Index m = 6, n = 16, batch = 64;
  Matrix root = spread(n, 100, 3), target = random_matrix(m, n, 4);
  RowMajor w = RowMajor::Zero(m, n), dw, a, g;
  double loss() const { return 0.5 * ((w - target) * root).squaredNorm(); }
  void draw(std::uint64_t step) {
    a = random_matrix(batch, n, 1000 + step) * root;
    g = a * (w - target).transpose();
    dw = g.transpose() * a / batch;
  }
  /// K-FAC takes the Fisher matrix: output gradients of labels drawn from the model, N(0, I) here.
  template <class Link, class State>
  void observe(const Link& link, Context& ctx, State& state) {
    if (std::is_same_v<Link, ScaleByKfac>) g = random_matrix(batch, m, 9);
    link.observe(ctx, state, 0, MatrixView<const double>(a.data(), batch, n),
                 MatrixView<const double>(g.data(), batch, m));
  }
};
/// Steps until the loss is 1e-5 of the first; `most` where it does not get there.
Index steps_needed(const PlainStep& step, Index most, const std::function<void(IllConditioned&)>& observe = {}) {
  IllConditioned problem;
  const double start = problem.loss();
  for (Index t = 1; t <= most; ++t) {
    problem.draw(static_cast<std::uint64_t>(t));
    if (observe) observe(problem);
    step(Eigen::Map<Eigen::VectorXd>(problem.w.data(), problem.w.size()),
         Eigen::Map<Eigen::VectorXd>(problem.dw.data(), problem.dw.size()), static_cast<double>(t));
    if (problem.loss() <= 1e-5 * start) return t;
    if (!(problem.loss() < 1e3 * start)) return most;
  }
  return most;
}

TEST(Kfac, FollowsThePublishedSteps) {
  const KfacOptions o{.decay = 0.8, .damping = 0.05, .every = 2};
  const auto opt = chain(scale_by_kfac(o), scale(-0.1));
  Model<double> model(rows, cols);
  auto state = opt.init(model.params);
  auto& kept = std::get<0>(state.links);
  Plain expected = plain_of(model.params);
  Matrix A = Matrix::Zero(cols, cols), S = Matrix::Zero(rows, rows), left, right;
  Context ctx;
  for (Index step = 0; step < 100; ++step) {
    model.draw(step);
    const auto seed = static_cast<std::uint64_t>(step);
    const RowMajor a = random_matrix(12, cols, 300 + seed), g = random_matrix(12, rows, 500 + seed);
    std::get<0>(opt.links())
        .observe(ctx, kept, 0, MatrixView<const double>(a.data(), 12, cols),
                 MatrixView<const double>(g.data(), 12, rows));
    const double keep = std::min(o.decay, 1 - 1 / static_cast<double>(step + 1));
    A = keep * A + (1 - keep) * a.transpose() * a / 12;
    S = keep * S + (1 - keep) * g.transpose() * g / 12;
    if (step % 2 == 0) {
      const double pi = std::sqrt((A.trace() / cols) / (S.trace() / rows)), root = std::sqrt(o.damping);
      left = (S + root / pi * Matrix::Identity(rows, rows)).inverse();
      right = (A + root * pi * Matrix::Identity(cols, cols)).inverse();
    }
    opt.update(ctx, model.grads, state, model.params);
    move(expected[0], 0.1, left * matrix_of(plain_of(model.grads)[0]) * right);
    for (std::size_t i = 0; i < expected[1].size(); ++i) expected[1][i] -= 0.1 * model.db[static_cast<Index>(i)];
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t i = 0; i < expected[b].size(); ++i)
        ASSERT_NEAR(model.params[b].data[i], expected[b][i], 1e-9) << step << ' ' << b;
  }
  RowMajor bad = RowMajor::Zero(2, cols);
  bad(1, 3) = std::numeric_limits<double>::quiet_NaN();
  const RowMajor fine = RowMajor::Ones(2, rows);
  const auto& link = std::get<0>(opt.links());
  link.observe(ctx, kept, 0, MatrixView<const double>(bad.data(), 2, cols),
               MatrixView<const double>(fine.data(), 2, rows));
  EXPECT_EQ(kept.refused[0], 1);
  EXPECT_EQ(kept.seen[0], 100);
  const MatrixView<const double> wrong(bad.data(), 2, cols);
  EXPECT_THROW(link.observe(ctx, kept, 0, wrong, wrong), shape_error);
  EXPECT_THROW(link.observe(ctx, kept, 9, wrong, wrong), shape_error);
}

TEST(Kfac, StepsTheSameWhateverTheInputsCoordinates) {  // a' = T a and W' = W T⁻¹ give u' = u T⁻¹
  const Matrix T = random_matrix(cols, cols, 9) + 4 * Matrix::Identity(cols, cols);
  const RowMajor a = random_matrix(64, cols, 10), g = random_matrix(64, rows, 11), other = a * T.transpose();
  const auto update_of = [&](const RowMajor& inputs) {
    RowMajor u = g.transpose() * inputs / 64;
    const auto link = scale_by_kfac({.damping = 1e-16});
    const Parameters<double> params{{"w", MatrixView<double>(u.data(), rows, cols)}};
    auto state = link.init(params);
    Context ctx;
    link.observe(ctx, state, 0, MatrixView<const double>(inputs.data(), 64, cols),
                 MatrixView<const double>(g.data(), 64, rows));
    const VectorView<double> all[] = {VectorView<double>(u.data(), u.size())};
    link.transform(ctx, std::span<const VectorView<double>>(all), state, params);
    return u;
  };
  const RowMajor expected = update_of(a) * T.inverse(), got = update_of(other);
  EXPECT_LT((expected - got).norm(), 1e-5 * expected.norm());
}

TEST(Mkor, KeepsTheInverseOfTheAveragedFactor) {
  constexpr Index n = 40;
  Matrix L = Matrix::Identity(n, n);
  RowMajor M = L;
  Context ctx, three = Context::with_threads(3);
  RowMajor threaded = M;
  double scale = 1, its_scale = 1;
  const AverageInverseOptions o{.gamma = 0.9, .limit = 1e9};
  for (std::uint64_t step = 0; step < 100; ++step) {
    const Eigen::VectorXd g = random_matrix(n, 1, step);
    L = o.gamma * L + (1 - o.gamma) * g * g.transpose();
    ASSERT_TRUE(average_inverse(ctx, MatrixView<double>(M.data(), n, n), scale, vec(g), o));
    ASSERT_TRUE(average_inverse(three, MatrixView<double>(threaded.data(), n, n), its_scale, vec(g), o));
    const Matrix direct = L.inverse();
    ASSERT_LT((scale * M - direct).norm(), 1e-8 * direct.norm()) << step;
  }
  EXPECT_EQ(M, M.transpose());
  EXPECT_EQ(M, threaded);
  Eigen::VectorXd g = random_matrix(n, 1, 1);
  g[3] = std::numeric_limits<double>::quiet_NaN();
  const RowMajor before = M;
  EXPECT_FALSE(average_inverse(ctx, MatrixView<double>(M.data(), n, n), scale, vec(g), o));
  EXPECT_EQ(M, before);
}

TEST(Mkor, StaysDefiniteInSinglePrecision) {
  constexpr Index n = 20;
  using MatrixF = Eigen::Matrix<float, -1, -1, Eigen::RowMajor>;
  for (const double condition : {1.0, 1e3}) {  // of the gradients' covariance, whose rank is half of n
    const Eigen::MatrixXf root = (spread(n, std::sqrt(condition), 5) * Matrix::Identity(n, n / 2)).cast<float>();
    MatrixF M = MatrixF::Identity(n, n);
    Context ctx;
    Index refused = 0;
    double scale = 1;
    for (std::uint64_t step = 0; step < 10000; ++step) {
      const auto z = random_buffer<float>(n / 2, step);
      const Eigen::VectorXf g = root * Eigen::Map<const Eigen::VectorXf>(z.data(), n / 2);
      refused += average_inverse(ctx, MatrixView<float>(M.data(), n, n), scale, vec(g), {}) ? 0 : 1;
      ASSERT_LE(scale * static_cast<double>(M.diagonal().maxCoeff()), 100.5) << step;
      if (step % 500 == 499) {
        ASSERT_GT(Eigen::SelfAdjointEigenSolver<Matrix>(M.cast<double>()).eigenvalues()[0], 0) << step;
      }
    }
    EXPECT_EQ(refused, 0) << condition;
    EXPECT_EQ(M, M.transpose());
  }
}

TEST(Mkor, FollowsItsStepsAndFallsBack) {
  const MkorOptions o{{.gamma = 0.9}, 3, 0.01};
  const auto link = scale_by_mkor(o);
  RowMajor w = random_matrix(rows, cols, 1), u(rows, cols);
  const Parameters<double> params{{"w", MatrixView<double>(w.data(), rows, cols)}};
  auto state = link.init(params);
  Matrix L = Matrix::Identity(rows, rows), R = Matrix::Identity(cols, cols);
  Context ctx;
  const auto transform = [&](const RowMajor& G) {
    u = G;
    const VectorView<double> all[] = {VectorView<double>(u.data(), u.size())};
    link.transform(ctx, std::span<const VectorView<double>>(all), state, params);
  };
  for (std::uint64_t step = 0; step < 99; ++step) {
    const RowMajor a = random_matrix(5, cols, 300 + step), g = random_matrix(5, rows, 500 + step),
                   G = g.transpose() * a;
    const Eigen::VectorXd ma = a.colwise().mean(), mg = g.colwise().mean();
    L = o.gamma * L + (1 - o.gamma) * mg * mg.transpose();
    R = o.gamma * R + (1 - o.gamma) * ma * ma.transpose();
    link.observe(ctx, state, 0, MatrixView<const double>(a.data(), 5, cols),
                 MatrixView<const double>(g.data(), 5, rows));
    transform(G);
    const RowMajor direction = L.inverse() * G * R.inverse(), expected = direction * (G.norm() / direction.norm());
    ASSERT_LT((u - expected).norm(), 1e-9 * expected.norm());
    EXPECT_FALSE(state.first_order());
    link.observe_loss(state, step < 96 ? 100 - static_cast<double>(step) : 3);
  }
  EXPECT_FALSE(state.first_order());                           // means of three: …, 9, 6, 3
  for (int i = 0; i < 3; ++i) link.observe_loss(state, 2.99);  // falls by less than a hundredth
  EXPECT_TRUE(state.first_order());
  const RowMajor G = random_matrix(rows, cols, 99);
  transform(G);
  EXPECT_EQ(u, G);
  EXPECT_THROW(scale_by_mkor({{.gamma = 1}, 0, 0}).init(params), unsupported_error);
}

TEST(KfacMkor, NeedFewerStepsWhereInputsAreIllConditioned) {
  const auto best_of = [](std::initializer_list<double> rates, const auto& steps_at) {
    Index best = 1000;
    for (const double rate : rates) best = std::min(best, steps_at(rate, best));
    return best;
  };
  Context ctx;
  IllConditioned shape;
  const Parameters<double> params{{"w", MatrixView<double>(shape.w.data(), shape.m, shape.n)}};
  const auto with = [&](const auto& opt, Index most) {
    auto state = opt.init(params);
    return steps_needed(step_of(opt, state, ctx, shape.m, shape.n), most,
                        [&](IllConditioned& p) { p.observe(std::get<0>(opt.links()), ctx, std::get<0>(state.links)); });
  };
  const Index momentum =
      best_of({1, 2}, [](double rate, Index most) { return steps_needed(momentum_step(rate), most); });
  const Index by_adam =
      best_of({0.1, 0.3, 1}, [](double rate, Index most) { return steps_needed(adam_step(rate), most); });
  const Index by_mkor = best_of({0.6, 1}, [&](double rate, Index most) {
    return with(chain(scale_by_mkor({{.gamma = 0.95, .limit = 1e4}, 0, 0}), trace(0.9), scale(-rate)), most);
  });
  const Index by_kfac = best_of({0.3, 1}, [&](double rate, Index most) {
    return with(chain(scale_by_kfac({.damping = 1e-6}), scale(-rate)), most);
  });
  const std::string all =
      detail::concat(momentum, " momentum, ", by_adam, " Adam, ", by_mkor, " MKOR, ", by_kfac, " K-FAC");
  RecordProperty("steps", all);
  EXPECT_LT(3 * by_mkor, 2 * std::min(momentum, by_adam)) << all;
  EXPECT_LT(5 * by_kfac, std::min(momentum, by_adam)) << all;
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::optim
