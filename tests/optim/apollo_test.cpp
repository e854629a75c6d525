#include <gtest/gtest.h>

#include <cmath>
#include <tessera/optim/low_memory.hpp>
#include <vector>

#include "optim/laws.hpp"
#include "optim/training.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

/// P = (I 0): with the whole side as rank nothing is lost.
struct identity_projection {
  template <class T>
  void operator()(Context&, MatrixView<const T>, std::size_t, Index, MatrixView<T> P) const {
    for (Index i = 0; i < P.rows(); ++i)
      for (Index j = 0; j < P.cols(); ++j) P(i, j) = T(i == j);
  }
};

std::vector<double> drawn_P(std::uint64_t seed, Index drawn, Index rank, Index side) {
  std::vector<double> P(static_cast<std::size_t>(rank * side));
  Context ctx;
  gaussian_projection{seed}(ctx, MatrixView<const double>(), 0, drawn, MatrixView<double>(P.data(), rank, side));
  return P;
}

/// Adam in double loops, on what it is shown.
struct PlainAdam {
  std::vector<double> m, v;
  double t = 0;
  void operator()(std::vector<double>& g) {
    m.resize(g.size());
    v.resize(g.size());
    ++t;
    for (std::size_t i = 0; i < g.size(); ++i) {
      m[i] = 0.9 * m[i] + 0.1 * g[i];
      v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
      g[i] = m[i] / (1 - std::pow(0.9, t)) / (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-8);
    }
  }
};

/// Algorithm 1 on a matrix (m, n) in loops.
struct PlainApollo {
  std::size_t m, n, rank;
  bool tensor;
  PlainAdam adam;
  double norm = 0;

  std::vector<double> operator()(Index step, std::vector<double> G) {
    const bool left = m <= n;
    const std::size_t side = left ? m : n, lines = left ? n : m;
    const auto P = drawn_P(3, step / 2, static_cast<Index>(rank), static_cast<Index>(side));
    const auto g = [&](std::size_t s, std::size_t line) -> double& { return left ? G[s * n + line] : G[line * n + s]; };
    std::vector<double> R(rank * lines);  // by line
    for (std::size_t j = 0; j < lines; ++j)
      for (std::size_t r = 0; r < rank; ++r)
        for (std::size_t s = 0; s < side; ++s) R[j * rank + r] += P[r * side + s] * g(s, j);
    const auto before = R;
    adam(R);
    const auto norm_of = [&](const std::vector<double>& x, std::size_t j) {
      double sum = 0;
      for (std::size_t k = tensor ? 0 : j * rank; k < (tensor ? x.size() : (j + 1) * rank); ++k) sum += x[k] * x[k];
      return std::sqrt(sum);
    };
    double square = 0;
    for (std::size_t j = 0; j < lines; ++j)
      for (std::size_t s = 0; s < side; ++s) {
        g(s, j) *= 1.5 * norm_of(R, j) / norm_of(before, j);
        square += g(s, j) * g(s, j);
      }
    const double now = std::sqrt(square), most = step == 0 ? now : 1.01 * norm;
    norm = std::min(now, most);
    for (double& x : G) x *= norm / now;
    return G;
  }
};

template <class Opt>
void follows_the_paper(const Opt& opt, bool tensor, Index rows, Index cols, Index steps = law_steps) {
  PlainApollo plain{static_cast<std::size_t>(rows), static_cast<std::size_t>(cols), tensor ? 1u : 5u, tensor, {}, 0};
  PlainAdam adam;
  obeys(
      opt,
      [&](Index step, const Plain& g, Plain& p) {
        const auto u = plain(step, g[0]);
        for (std::size_t i = 0; i < u.size(); ++i) p[0][i] -= 0.01 * (u[i] + 0.1 * p[0][i]);
        auto v = g[1];
        adam(v);
        for (std::size_t i = 0; i < v.size(); ++i) p[1][i] -= 0.01 * (v[i] + 0.1 * p[1][i]);
      },
      1e-11, nothing_else, rows, cols, steps);
}

TEST(Apollo, FollowsThePaperOnBothSides) {
  const ApolloOptions o{.rank = 5, .scale = 1.5, .refresh = 2};
  follows_the_paper(apollo(0.01, o, 0.1, 3), false, 6, 2111);
  follows_the_paper(apollo(0.01, o, 0.1, 3), false, 190, 181);
  follows_the_paper(apollo_mini(0.01, o, 0.1, 3), true, 6, 2111);
  follows_the_paper(apollo_mini(0.01, o, 0.1, 3), true, 190, 181);
  follows_the_paper(apollo(0.01, o, 0.1, 3), false, 9, 14, 100);
  follows_the_paper(apollo_mini(0.01, o, 0.1, 3), true, 14, 9, 100);
}

TEST(Apollo, KeepsNoProjection) {
  Model<float> model(40, 60);
  model.params.pop_back();
  auto whole = chain(scale_by_apollo({.rank = 7})).init(model.params);
  auto mini = chain(scale_by_apollo_mini()).init(model.params);
  EXPECT_EQ(whole.state_bytes(), (2 * 7 * 60 + 1) * sizeof(float) + sizeof(Index));  // the paper's 2rn + 2 numbers
  EXPECT_EQ(mini.state_bytes(), (2 * 60 + 1) * sizeof(float) + sizeof(Index));       // 2n + 2
  EXPECT_TRUE(drawn_P(5, 3, 8, 40) == drawn_P(5, 3, 8, 40));
  EXPECT_FALSE(drawn_P(5, 3, 8, 40) == drawn_P(5, 4, 8, 40));
  const auto P = drawn_P(1, 0, 500, 301);  // an odd number
  double mean = 0, square = 0, fourth = 0;
  for (const double x : P) {
    mean += x;
    square += x * x * 500;
    fourth += x * x * x * x * 500 * 500;
  }
  const double n = static_cast<double>(P.size());
  EXPECT_NEAR(mean / n, 0, 5 / std::sqrt(500 * n));
  EXPECT_NEAR(square / n, 1, 5 * std::sqrt(2 / n));
  EXPECT_NEAR(fourth / n, 3, 5 * std::sqrt(96 / n));
}

/// The factors by column that a link gave: u_0j/g_0j.
template <class Link>
std::vector<double> factors(const Link& link, Index rows, Index cols, bool full_adam = false) {
  Model<double> model(rows, cols);
  model.params.pop_back();
  Context ctx;
  auto state = chain(link).init(model.params);
  std::vector<double> s;
  for (Index step = 0; step < 3; ++step) {
    model.draw(step);
    auto u = model.dw;
    const VectorView<double> view(u.data(), u.size());
    chain(link).transform(ctx, std::span<const VectorView<double>>(&view, 1), state, model.params);
    s.assign(static_cast<std::size_t>(cols), 0);
    for (Index j = 0; j < cols; ++j) {
      double before = 0, after = 0;
      for (Index i = 0; i < rows; ++i) {
        before += std::pow(model.dw[i * cols + j], 2);
        after += std::pow(u[i * cols + j], 2);
      }
      s[static_cast<std::size_t>(j)] = full_adam ? std::sqrt(after / before) : u[j] / model.dw[j];
    }
  }
  return s;
}

TEST(Apollo, WholeRankIsAdamsScalingByChannel) {
  const ApolloOptions o{.rank = 30, .growth = 0};
  const auto ours = factors(scale_by_apollo(o, scale_by_adam(), identity_projection{}), 30, 47);
  const auto adams = factors(scale_by_adam(), 30, 47, true);
  for (std::size_t j = 0; j < ours.size(); ++j) EXPECT_NEAR(ours[j], adams[j], 1e-12 * adams[j]);
}

TEST(Apollo, FactorsConcentrateAsTheRankGrows) {
  // Adam of random directions is not Adam of coordinates: the factors meet those of a rotation, Johnson and
  // Lindenstrauss say how fast. Compared is the spread over seeds.
  const auto spread = [&](Index rank) {
    std::vector<double> sum(90), squares(90);
    constexpr int seeds = 8;
    for (int seed = 0; seed < seeds; ++seed) {
      const auto s = factors(scale_by_apollo({.rank = rank, .growth = 0}, scale_by_adam(),
                                             gaussian_projection{static_cast<std::uint64_t>(seed)}),
                             64, 90);
      for (std::size_t j = 0; j < 90; ++j) {
        // 1/√rank in P and Adam's indifference to scale: factors grow as √rank.
        const double x = std::log(s[j] / std::sqrt(static_cast<double>(rank)));
        sum[j] += x / seeds;
        squares[j] += x * x / seeds;
      }
    }
    double variance = 0;
    for (std::size_t j = 0; j < 90; ++j) variance += (squares[j] - sum[j] * sum[j]) / 90;
    return std::sqrt(variance);
  };
  EXPECT_NEAR(spread(4) / spread(36), 3.3, 0.6);  // of ½·log χ², √(ψ'(2)/ψ'(18)) = 3.36
}

TEST(Apollo, ItsCurveIsThatOfAdamWAndBelowDescents) {
  constexpr Index steps = 400, piece = 50;  // inputs of uneven size: descent is slow where one rate must do for all
  /// Mean losses of pieces of the run that ends lowest.
  const auto curve = [&](auto make, std::initializer_list<double> rates) {
    std::vector<double> best;
    for (const double rate : rates) {
      const auto losses = training_losses(make(rate), steps);
      std::vector<double> means;
      for (Index begin = 0; begin < steps; begin += piece) means.push_back(mean_loss(losses, begin, begin + piece));
      if (best.empty() || means.back() < best.back()) best = means;
    }
    return best;
  };
  const auto with_adamw = curve([](double rate) { return adamw(rate); }, {0.05, 0.1});
  const auto with_sgd = curve([](double rate) { return sgd(rate); }, {0.2, 0.3});
  const auto ours = curve([](double rate) { return apollo(rate, {.rank = 8}); }, {0.2, 0.3});
  const auto mini = curve([](double rate) { return apollo_mini(rate, {.scale = 4.9}); }, {0.1});
  for (std::size_t k = 0; k < ours.size(); ++k) {  // 0.89 to 1.005 of AdamW's, 0.14 to 0.72 of descent's
    EXPECT_LT(ours[k], 1.03 * with_adamw[k]) << k;
    EXPECT_LT(ours[k], 0.8 * with_sgd[k]) << k;
    EXPECT_LT(mini[k], 1.3 * with_sgd[k]) << k;  // one factor a matrix is descent's, without a rate to find
  }
}

}  // namespace
}  // namespace tessera::optim
