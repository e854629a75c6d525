#include <gtest/gtest.h>

#include <cmath>
#include <support/shared_eigen.hpp>
#include <tessera/optim/galore.hpp>
#include <tessera/optim/low_memory.hpp>
#include <vector>

#include "optim/laws.hpp"
#include "optim/training.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Eigen::MatrixXd matrix(const std::vector<double>& x, Index rows, Index cols) {
  return Eigen::Map<const Rows>(x.data(), rows, cols);
}

/// How many singular values stand out.
Index rank_of(const Eigen::MatrixXd& A) {
  const Eigen::VectorXd s = Eigen::JacobiSVD<Eigen::MatrixXd>(A, 0).singularValues();
  return (s.array() > 1e-9 * s[0]).count();
}

/// Algorithm 2 of GaLore with Eigen's SVD, the sign of what is left added.
struct PlainProjected {
  Index m, n, rank, refresh;
  double scale;
  bool rest, reset;
  Eigen::MatrixXd P, M, V;
  double t = 0;

  Eigen::MatrixXd operator()(Index step, const Eigen::MatrixXd& given) {
    const bool left = m <= n;
    const Eigen::MatrixXd G = left ? given : given.transpose();
    if (step % refresh == 0) {
      const Eigen::MatrixXd before = step == 0 ? Eigen::MatrixXd::Zero(G.rows(), rank) : P;
      P = Eigen::JacobiSVD<Eigen::MatrixXd>(G, Eigen::ComputeThinU).matrixU().leftCols(rank);
      for (Index r = 0; r < rank; ++r)
        if (before.col(r).dot(P.col(r)) < 0) P.col(r) *= -1;
      if (reset || step == 0) {
        M = V = Eigen::MatrixXd::Zero(rank, G.cols());
        t = 0;
      }
    }
    ++t;
    const Eigen::MatrixXd R = P.transpose() * G;
    M = 0.9 * M + 0.1 * R;
    V = 0.999 * V + 0.001 * R.cwiseAbs2();
    const Eigen::MatrixXd N =
        (M / (1 - std::pow(0.9, t))).array() / ((V / (1 - std::pow(0.999, t))).cwiseSqrt().array() + 1e-8);
    Eigen::MatrixXd U = scale * P * N;
    if (rest) U += (G - P * R).cwiseSign();
    return left ? U : Eigen::MatrixXd(U.transpose());
  }
};

template <class Link>
void follows(const Link& link, PlainProjected plain, Index steps = law_steps) {
  Eigen::MatrixXd last;
  obeys(
      partition([](const ParameterInfo& p) { return p.rows > 1 ? "w" : "b"; }, group("w", chain(link, scale(-0.01))),
                group("b", sgd(0.1))),
      [&](Index step, const Plain& g, Plain& p) {
        last = plain(step, matrix(g[0], plain.m, plain.n));
        Eigen::Map<Rows>(p[0].data(), plain.m, plain.n) -= 0.01 * last;
        for (std::size_t i = 0; i < p[1].size(); ++i) p[1][i] -= 0.1 * g[1][i];
      },
      1e-8, nothing_else, plain.m, plain.n, steps);
  EXPECT_EQ(rank_of(last), plain.rest ? std::min(plain.m, plain.n) : plain.rank);
}

TEST(LowRankState, GaloreFollowsItsAlgorithm) {
  const LowRankOptions o{.rank = 4, .scale = 0.5, .refresh = 2};
  follows(in_low_rank(scale_by_adam(), o, svd_projection{}), {12, 30, 4, 2, 0.5, false, false, {}, {}, {}});
  follows(in_low_rank(scale_by_adam(), o, svd_projection{}), {31, 10, 4, 2, 0.5, false, false, {}, {}, {}});
  follows(in_low_rank(scale_by_adam(), {.rank = 4, .scale = 0.5, .refresh = 20}, svd_projection{}),
          {9, 14, 4, 20, 0.5, false, false, {}, {}, {}}, 100);
}

TEST(LowRankState, FrugalAddsTheSignOfTheRest) {
  const LowRankOptions o{.rank = 4, .scale = 1, .refresh = 3, .reset = true};
  follows(in_low_rank(scale_by_adam(), o, svd_projection{}, scale_by_sign()),
          {12, 30, 4, 3, 1, true, true, {}, {}, {}});
  follows(in_low_rank(scale_by_adam(), {.rank = 4, .scale = 1, .refresh = 20}, svd_projection{}, scale_by_sign()),
          {9, 14, 4, 20, 1, true, false, {}, {}, {}}, 100);
}

TEST(LowRankState, CountsItsNumbers) {
  Model<float> model(40, 60);
  model.params.pop_back();
  auto galore_state = chain(in_low_rank(scale_by_adam(), {.rank = 7}, svd_projection{})).init(model.params);
  auto flora_state = chain(in_low_rank(scale_by_adam(), {.rank = 7})).init(model.params);
  EXPECT_EQ(galore_state.state_bytes(), (40 * 7 + 2 * 7 * 60) * sizeof(float) + 2 * sizeof(Index));
  EXPECT_EQ(flora_state.state_bytes(), 2 * 7 * 60 * sizeof(float) + 2 * sizeof(Index));
  EXPECT_THROW(chain(in_low_rank(scale_by_adam(), {.rank = 0})).init(model.params), unsupported_error);
}

/// Runs both beside each other on the same gradients: the same bits?
template <class A, class B>
bool same_steps(const A& a, const B& b, Index steps) {
  Model<float> one(37, 53), two(37, 53);
  Context ctx;
  auto s1 = a.init(one.params);
  auto s2 = b.init(two.params);
  for (Index step = 0; step < steps; ++step) {
    one.draw(step);
    two.draw(step);
    a.update(ctx, one.grads, s1, one.params);
    b.update(ctx, two.grads, s2, two.params);
  }
  return same_bits(one.w, two.w) && same_bits(one.b, two.b);
}

TEST(Frugal, EndsAreAdamWAndSignDescent) {
  const auto all_sign =
      partition([](const ParameterInfo& p) { return p.rows > 1 ? "w" : "b"; },
                group("w", chain(scale_by_sign(), add_decayed_weights(0.1), scale_by_learning_rate(0.01))),
                group("b", adamw(0.01, {}, 0.1)));
  EXPECT_TRUE(same_steps(frugal(0.01, {.density = 1, .refresh = 2}, 0.1), adamw(0.01, {}, 0.1), 7));
  EXPECT_TRUE(same_steps(frugal(0.01, {.density = 0, .refresh = 2}, 0.1), all_sign, 7));
  EXPECT_FALSE(same_steps(frugal(0.01, {.density = 0.5, .refresh = 2}, 0.1), adamw(0.01, {}, 0.1), 7));
  const auto blocks = [](double density, auto rest) {
    return chain(scale_by_frugal_blocks(scale_by_adam(), {.density = density, .refresh = 2}, rest), scale(-0.01));
  };
  EXPECT_TRUE(same_steps(blocks(1, scale_by_sign()), adam(0.01), 7));
  EXPECT_TRUE(same_steps(blocks(0, scale_by_sign()), chain(scale_by_sign(), scale(-0.01)), 7));
}

void rows_take_turns(Index steps) {
  Index seen = 0;
  std::vector<std::vector<double>> m(19), v(19);
  std::vector<double> t(19);
  obeys(
      partition([](const ParameterInfo& p) { return p.rows > 1 ? "w" : "b"; },
                group("w", chain(scale_by_frugal(scale_by_adam(), {.density = 0.3, .refresh = 2, .seed = 5},
                                                 chain(scale_by_sign(), scale(0.5))),
                                 scale(-0.01))),
                group("b", sgd(0.1))),
      [&](Index step, const Plain& g, Plain& p) {
        Index some[6];
        detail::sample_in_order(Philox(5, static_cast<std::uint64_t>(step / 2) << 24), 19, 6, some);
        for (std::size_t i = 0; i < 19; ++i) {
          const bool has = std::find(some, some + 6, static_cast<Index>(i)) != some + 6;
          if (step % 2 == 0) m[i].assign(11, 0), v[i].assign(11, 0), t[i] = 0;
          ++t[i];
          seen += has;
          for (std::size_t j = 0; j < 11; ++j) {
            const double x = g[0][i * 11 + j];
            m[i][j] = 0.9 * m[i][j] + 0.1 * x;
            v[i][j] = 0.999 * v[i][j] + 0.001 * x * x;
            const double adam =
                m[i][j] / (1 - std::pow(0.9, t[i])) / (std::sqrt(v[i][j] / (1 - std::pow(0.999, t[i]))) + 1e-8);
            p[0][i * 11 + j] -= 0.01 * (has ? adam : x > 0 ? 0.5 : -0.5);
          }
        }
        for (std::size_t i = 0; i < p[1].size(); ++i) p[1][i] -= 0.1 * g[1][i];
      },
      1e-12, nothing_else, 19, 11, steps);
  EXPECT_EQ(seen, steps * 6);
}
TEST(Frugal, RowsTakeTurns) {
  rows_take_turns(law_steps);
  rows_take_turns(100);
  Index counts[5] = {};
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    Index some[2];
    detail::sample_in_order(Philox(seed), 5, 2, some);
    ASSERT_LT(some[0], some[1]);
    for (const Index i : some) ++counts[i];
  }
  for (const Index count : counts) EXPECT_NEAR(static_cast<double>(count), 1200, 5 * std::sqrt(3000 * 0.24));
}

void blocks_take_turns(Index steps) {
  const auto opt = chain(scale_by_frugal_blocks(scale_by_adam(), {.density = 0.5, .refresh = 3}), scale(-0.01));
  std::vector<double> m, v;
  obeys(
      opt,
      [&](Index step, const Plain& g, Plain& p) {
        const auto has = static_cast<std::size_t>(step / 3 % 2);
        if (step % 3 == 0) m.assign(g[has].size(), 0), v = m;
        const double t = static_cast<double>(step % 3 + 1);
        for (std::size_t i = 0; i < m.size(); ++i) {
          m[i] = 0.9 * m[i] + 0.1 * g[has][i];
          v[i] = 0.999 * v[i] + 0.001 * g[has][i] * g[has][i];
          p[has][i] -= 0.01 * m[i] / (1 - std::pow(0.9, t)) / (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-8);
        }
        for (std::size_t i = 0; i < p[1 - has].size(); ++i) p[1 - has][i] -= g[1 - has][i] > 0 ? 0.01 : -0.01;
      },
      1e-12, nothing_else, 19, 11, steps);
}
TEST(Frugal, BlocksTakeTurnsAndComeBackFromAFile) {
  blocks_take_turns(law_steps);
  blocks_take_turns(100);
}

TEST(Frugal, KeepsItsShareOfAdamsBytesAndMovesEveryDirection) {
  Model<float> model(40, 60);
  model.params.pop_back();
  auto whole = adam(0.1).init(model.params);
  auto quarter = chain(scale_by_frugal(scale_by_adam())).init(model.params);
  EXPECT_EQ(quarter.state_bytes(), whole.state_bytes() / 4 + 3 * sizeof(Index));  // of inner links, rest and its own
  Model<double> other(24, 30);
  other.params.pop_back();
  Context ctx;
  const auto link = chain(scale_by_frugal(scale_by_adam()));
  auto state = link.init(other.params);
  const VectorView<double> u(other.dw.data(), other.dw.size());
  link.transform(ctx, std::span<const VectorView<double>>(&u, 1), state, other.params);
  EXPECT_EQ(rank_of(matrix({other.dw.begin(), other.dw.end()}, 24, 30)), 24);
}

TEST(Frugal, LearnsMoreThanGaloreAndBAdamWithAsMuchState) {
  constexpr Index steps = 400;
  // A quarter of w1 (20, 24) and w2 (12, 20): GaLore's rank 5 and 3, and its P in addition; of BAdam's three blocks
  // each in its turn, w1 alone two thirds of all.
  const double ours =
      best_of([](double rate) { return frugal(rate, {.density = 0.25, .refresh = 50}); }, {0.01, 0.03}, steps);
  const double rows = best_of([](double rate) { return galore(rate, {.rank = 4, .scale = 1, .refresh = 50}); },
                              {0.03, 0.1, 0.3}, steps);
  const double badam = best_of(
      [](double rate) {
        return chain(scale_by_frugal_blocks(scale_by_adam(), {.density = 1.0 / 3, .refresh = 50}, freeze()),
                     scale_by_learning_rate(rate));
      },
      {0.01, 0.03, 0.1}, steps);
  EXPECT_LT(ours, 0.6 * rows);   // 0.078 of the first loss beside 0.234
  EXPECT_LT(ours, 0.6 * badam);  // and 0.194; at other turns of 5 to 100 steps no less
}

}  // namespace
}  // namespace tessera::optim
