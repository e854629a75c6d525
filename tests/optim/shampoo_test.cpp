#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <tessera/optim/adam.hpp>
#include <tessera/optim/scale.hpp>
#include <tessera/optim/second_order/graft.hpp>
#include <tessera/optim/second_order/shampoo.hpp>
#include <tessera/optim/second_order/soap.hpp>
#include <tessera/optim/second_order/tiles.hpp>
#include <vector>

#include "optim/kronecker.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

using namespace kronecker;

using Rule = std::function<void(Index, const Plain&, Plain&)>;

/// The published steps: sums from eps·I, their diagonals beyond max_dim, and averages over their start.
Rule shampoo_rule(const ShampooOptions& o, double rate) {
  return [=, L = Matrix(o.eps * Matrix::Identity(rows, rows)), R = Matrix(o.eps * Matrix::Identity(cols, cols)),
          L4 = Matrix(), R4 = Matrix(),
          sum = std::vector<double>(cols, o.eps)](Index step, const Plain& g, Plain& p) mutable {
    const RowMajor G = matrix_of(g[0]);
    const double take = o.b2 < 1 ? 1 - o.b2 : 1;
    const double start = o.b2 < 1 ? 1 - std::pow(o.b2, static_cast<double>(step + 1)) : 1;
    L = o.b2 * L + take * G * G.transpose();
    R = o.b2 * R + take * G.transpose() * G;
    if (rows > o.max_dim) L = Matrix(L.diagonal().asDiagonal());
    if (step % o.every == 0) {
      L4 = inverse_fourth_root(L / start);
      R4 = inverse_fourth_root(R / start);
    }
    move(p[0], rate, L4 * G * R4);
    for (std::size_t i = 0; i < g[1].size(); ++i) {
      sum[i] = o.b2 * sum[i] + take * g[1][i] * g[1][i];
      p[1][i] -= rate * g[1][i] / std::sqrt(sum[i] / start);
    }
  };
}

TEST(Shampoo, FollowsThePublishedSteps) {
  for (const ShampooOptions& o :
       {ShampooOptions{}, ShampooOptions{.b2 = 0.9, .every = 2}, ShampooOptions{.eps = 1e-3, .max_dim = 20}})
    obeys(chain(scale_by_shampoo(o), scale(-0.1)), shampoo_rule(o, 0.1), 1e-8, nothing_else, rows, cols, 100);
  EXPECT_THROW(chain(scale_by_shampoo({.every = 0})).init(Model<double>(2, 2).params), unsupported_error);
}

TEST(Shampoo, SaysWhatLongSidesGet) {
  const auto link = scale_by_shampoo({.max_dim = 100});
  EXPECT_EQ(link.explain({"w", 64, 300}), "'w' (64x300): 64 in full x diagonal of 300 (more than max_dim 100)");
  EXPECT_EQ(link.explain({"b", 1, 300}), "'b' (300): Adagrad, no matrix");
  Buffer<float> w(64 * 300);
  const Parameters<float> params{{"w", MatrixView<float>(w.data(), 64, 300)}};
  auto state = chain(link).init(params);
  EXPECT_EQ(state.state_bytes(), sizeof(Index) + 4u * 2 * (64 * 64 + 300));
  EXPECT_EQ(link.preconditioner(std::get<0>(state.links), 0, params[0]).rows(), 64 * 300);
}

/// Each tile as a block of its own, bit for bit, whatever its neighbours; lengths grafted are of the whole.
TEST(Shampoo, OfTilesIsThatOfEachAlone) {
  const auto link = scale_by_shampoo({.every = 2});
  Model<double> whole(20, 33);
  const auto opt = chain(in_tiles(link, 12), scale(-0.1));
  auto state = opt.init(whole.params);
  std::vector<Buffer<double>> w, g;
  Parameters<double> tiles, grads;
  const Index rows_at[] = {0, 10, 20}, cols_at[] = {0, 11, 22, 33};
  const auto take = [&](const Buffer<double>& from, std::size_t t, Buffer<double>& to) {
    for (Index i = 0; i < 10; ++i)
      std::copy_n(from.data() + (rows_at[t / 3] + i) * 33 + cols_at[t % 3], 11, to.data() + i * 11);
  };
  for (std::size_t t = 0; t < 6; ++t) {
    w.emplace_back(110), g.emplace_back(110);
    take(whole.w, t, w[t]);
    const auto name = "tile" + std::to_string(t);
    tiles.emplace_back(name, MatrixView<double>(w[t].data(), 10, 11));
    grads.emplace_back(name, MatrixView<double>(g[t].data(), 10, 11));
  }
  const auto alone = chain(link, scale(-0.1));
  auto its = alone.init(tiles);
  Context ctx;
  for (Index step = 0; step < 5; ++step) {
    whole.draw(step);
    opt.update(ctx, whole.grads, state, whole.params);
    for (std::size_t t = 0; t < 6; ++t) take(whole.dw, t, g[t]);
    alone.update(ctx, grads, its, tiles);
  }
  for (std::size_t t = 0; t < 6; ++t) {
    Buffer<double> got(110);
    take(whole.w, t, got);
    EXPECT_TRUE(same_bits(got, w[t])) << t;
  }
  // Blocks that fit are seen as they are; state of tiles is less than that of the whole.
  EXPECT_EQ(state.state_bytes(), sizeof(Index) * 2 + sizeof(double) * (6 * 2 * (10 * 10 + 11 * 11) + 33));
  std::vector<std::string> names;
  state.for_each_buffer([&](const std::string& name, auto) { names.push_back(name); });
  EXPECT_NE(std::find(names.begin(), names.end(), "0.in_tiles.0.scale_by_shampoo.l_root.w[10:20, 11:22]"), names.end());
  EXPECT_THROW(in_tiles(link, 0), unsupported_error);
}

TEST(Shampoo, TurnsWithItsCoordinates) {
  const Matrix U = Eigen::HouseholderQR<Matrix>(random_matrix(rows, rows, 7)).householderQ();
  const Matrix V = Eigen::HouseholderQR<Matrix>(random_matrix(cols, cols, 8)).householderQ();
  Buffer<double> w(rows * cols), turned(rows * cols), g(rows * cols), h(rows * cols);
  const auto block = [](Buffer<double>& x) {
    return Parameters<double>{{"w", MatrixView<double>(x.data(), rows, cols)}};
  };
  const auto opt = chain(scale_by_shampoo(), scale(-1));
  auto state = opt.init(block(w)), other = opt.init(block(turned));
  Context ctx;
  for (std::uint64_t step = 0; step < 5; ++step) {
    g = random_buffer<double>(rows * cols, step);
    Eigen::Map<RowMajor>(h.data(), rows, cols) = U * Eigen::Map<RowMajor>(g.data(), rows, cols) * V;
    opt.update(ctx, block(g), state, block(w));
    opt.update(ctx, block(h), other, block(turned));
  }
  const RowMajor expected = U * Eigen::Map<RowMajor>(w.data(), rows, cols) * V;
  EXPECT_LT((expected - Eigen::Map<RowMajor>(turned.data(), rows, cols)).norm(), 1e-6 * expected.norm());
}

TEST(Graft, GivesOneDirectionAnothersLength) {
  const auto opt = graft(scale_by_shampoo(), scale_by_adam());
  const auto plain = graft(scale_by_shampoo());
  Model<double> a(rows, cols), b(rows, cols), c(rows, cols), d(rows, cols);
  auto state = chain(opt).init(a.params);
  auto direction = chain(scale_by_shampoo()).init(b.params);
  auto length = chain(scale_by_adam()).init(c.params);
  auto onto_gradient = chain(plain).init(d.params);
  Context ctx;
  const auto norm = [](const Buffer<double>& x) {
    return Eigen::Map<const Eigen::VectorXd>(x.data(), x.size()).norm();
  };
  for (auto* model : {&a, &b, &c, &d})
    for (double& x : model->w) x = 0;
  for (Index step = 0; step < 3; ++step) {
    for (auto* model : {&a, &b, &c, &d}) {
      model->draw(step);
      for (double& x : model->w) x = 0;
    }
    chain(opt).update(ctx, a.grads, state, a.params);
    chain(scale_by_shampoo()).update(ctx, b.grads, direction, b.params);
    chain(scale_by_adam()).update(ctx, c.grads, length, c.params);
    chain(plain).update(ctx, d.grads, onto_gradient, d.params);
    for (Index i = 0; i < a.w.size(); ++i) ASSERT_NEAR(a.w[i], b.w[i] * norm(c.w) / norm(b.w), 1e-9);
    EXPECT_NEAR(norm(d.w), norm(d.dw), 1e-9);
  }
}

/// Square, so that L and R have full rank: directions of a null space are the rounding's choice.
constexpr Index side = 17;

/// As published, with the first step's update left out and eigenvalues in falling order.
Rule soap_rule(const SoapOptions& o, double rate) {
  struct Kept {
    Matrix M = Matrix::Zero(side, side), V = M, L = M, R = M;
    Matrix QL = M, QR = M;
    Eigen::ArrayXd m = Eigen::ArrayXd::Zero(side), v = m;
  };
  return [=, k = Kept()](Index step, const Plain& g, Plain& p) mutable {
    const Matrix G = matrix_of(g[0], side, side);
    const Eigen::ArrayXd h = Eigen::Map<const Eigen::ArrayXd>(g[1].data(), side);
    const double t = static_cast<double>(step), c1 = 1 - std::pow(o.b1, t), c2 = 1 - std::pow(o.b2, t);
    if (step > 0) {
      const Matrix H = k.QL.transpose() * G * k.QR;
      k.M = o.b1 * k.M + (1 - o.b1) * G;
      k.V = o.b2 * k.V + (1 - o.b2) * H.cwiseProduct(H);
      const Matrix N = ((k.QL.transpose() * k.M * k.QR / c1).array() / ((k.V / c2).array().sqrt() + o.eps)).matrix();
      move(p[0], rate, k.QL * N * k.QR.transpose());
      k.m = o.b1 * k.m + (1 - o.b1) * h;
      k.v = o.b2 * k.v + (1 - o.b2) * h * h;
      const Eigen::ArrayXd n = (k.m / c1) / ((k.v / c2).sqrt() + o.eps);
      for (Index i = 0; i < side; ++i) p[1][static_cast<std::size_t>(i)] -= rate * n[i];
    }
    k.L = o.b2 * k.L + (1 - o.b2) * G * G.transpose();
    k.R = o.b2 * k.R + (1 - o.b2) * G.transpose() * G;
    const auto refresh = [&](const Matrix& S, Matrix& Q, auto&& reorder) {
      if (step == 0) {
        Q = Eigen::SelfAdjointEigenSolver<Matrix>(S).eigenvectors().rowwise().reverse();
      } else if (step % o.every == 0) {
        std::vector<Index> order;
        const Eigen::VectorXd values = (Q.transpose() * S * Q).diagonal();
        for (Index i = 0; i < Q.cols(); ++i) order.push_back(i);
        std::sort(order.begin(), order.end(), [&](Index i, Index j) { return values[i] > values[j]; });
        reorder(order);
        Q = Eigen::HouseholderQR<Matrix>(S * Matrix(Q(Eigen::all, order))).householderQ();
      }
    };
    const Matrix V = k.V;
    refresh(k.L, k.QL, [&](const auto& order) { k.V = Matrix(V(order, Eigen::all)); });
    const Matrix half = k.V;
    refresh(k.R, k.QR, [&](const auto& order) { k.V = Matrix(half(Eigen::all, order)); });
  };
}

TEST(Soap, FollowsThePublishedSteps) {
  const SoapOptions o{.b2 = 0.9, .eps = 1e-3, .every = 2};
  obeys(chain(scale_by_soap(o), scale(-0.1)), soap_rule(o, 0.1), 1e-7, nothing_else, side, side, 100);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::optim
