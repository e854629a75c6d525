#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "optim/promises.hpp"
#include "optim/targets.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

/// Every column.
void reflect(Buffer<double>& w, Index rows, Index cols) {
  std::vector<double> v(static_cast<std::size_t>(rows));
  double square = 0;
  for (std::size_t i = 0; i < v.size(); ++i) square += (v[i] = std::cos(3.0 * static_cast<double>(i) + 1)) * v[i];
  for (Index j = 0; j < cols; ++j) {
    double along = 0;
    for (Index i = 0; i < rows; ++i) along += v[static_cast<std::size_t>(i)] * w[i * cols + j];
    for (Index i = 0; i < rows; ++i) w[i * cols + j] -= 2 / square * along * v[static_cast<std::size_t>(i)];
  }
}

/// W and its gradients reflected, W ends reflected: how far from it.
double off_reflected(const AnyOptimizer<double>& opt, Index rows, Index cols) {
  Model<double> plain(rows, cols), turned(rows, cols);
  reflect(turned.w, rows, cols);
  run(opt, plain, 5, [] {});
  run(opt, turned, 5, [&] { reflect(turned.dw, rows, cols); });
  reflect(plain.w, rows, cols);
  return farthest(plain, turned);
}

TEST(Invariances, OfRotation) {
  for (const std::string name : {"sgd", "momentum", "lars", "novograd", "muon", "scion", "lion_spectral", "mfac"})
    EXPECT_LT(off_reflected(made(name), 9, 7), 1e-10) << name;
  EXPECT_LT(off_reflected(made("lion_lp", {{"p", 2}}), 9, 7), 1e-10);
  EXPECT_LT(off_reflected(made("lbfgs"), 9, 7), 1e-8);
  for (const std::string name : {"adam", "lion", "lion_lp", "apollo", "frugal"})
    EXPECT_GT(off_reflected(made(name), 9, 7), 1e-5) << name;  // they go by element
  // SOAP's Adam is in a basis that turns along, one where none of the spectrum's sides is empty.
  EXPECT_LT(off_reflected(made("soap", {{"every", 2}}), 8, 8), 1e-8);
  // GaLore's turns on the side that it projects, the shorter one, and with its whole spectrum.
  for (const double rank : {3.0, 7.0}) {
    const auto galore = made("galore", {{"rank", rank}, {"refresh", 2}});
    EXPECT_LT(off_reflected(galore, 7, 9), 1e-8) << rank;
    EXPECT_GT(off_reflected(galore, 9, 7), 1e-5) << rank;
  }
}

/// Shampoo's directions turn along; its lengths are Adam's, which do not.
TEST(Invariances, OfRotationOfDirections) {
  const auto opt = made("shampoo", {{"momentum", 0}, {"weight_decay", 0}, {"every", 2}, {"rate", 1}});
  Model<double> plain(8, 8), turned(8, 8);
  Context ctx;
  auto state = opt.init(plain.params), its = opt.init(turned.params);
  const auto direction = [&](Model<double>& model, AnyState<double>& of, Index step, bool reflected) {
    Buffer<double> u = model.w;
    model.draw(step);
    if (reflected) reflect(model.dw, 8, 8);
    opt.update(ctx, model.grads, of, model.params);
    double square = 0;
    for (Index i = 0; i < u.size(); ++i) square += (u[i] = model.w[i] - u[i]) * u[i];
    for (double& e : u) e /= std::sqrt(square);
    return u;
  };
  for (Index step = 0; step < 5; ++step) {
    auto expected = direction(plain, state, step, false);
    const auto got = direction(turned, its, step, true);
    reflect(expected, 8, 8);
    for (Index i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-8) << step << ' ' << i;
  }
}

/// Methods that see columns each by itself, or through what is drawn for rows alone: columns in another order end so.
TEST(Invariances, OfTheOrderOfColumns) {
  constexpr Index rows = 7, cols = 9;
  const auto permute = [](Buffer<double>& w) {
    const Buffer<double> before = w;
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < cols; ++j) w[i * cols + j] = before[i * cols + j * 4 % cols];
  };
  for (const std::string name : {"apollo", "apollo_mini", "flora", "galore", "frugal", "adam", "muon", "shampoo"}) {
    const auto opt = made(name, {{"rank", 3}, {"refresh", 2}, {"every", 2}});
    Model<double> plain(rows, cols), other(rows, cols);
    permute(other.w);
    run(opt, plain, 5, [] {});
    run(opt, other, 5, [&] { permute(other.dw); });
    permute(plain.w);
    EXPECT_LT(farthest(plain, other), 1e-9) << name;
  }
  // APOLLO only scales each column of the gradient, APOLLO-Mini all of it.
  for (const std::string name : {"apollo", "apollo_mini"}) {
    Model<double> model(rows, cols);
    Buffer<double> before;
    run(made(name, {{"rank", 3}, {"weight_decay", 0}}), model, 1, [&] { before = model.w; });
    double factor = 0;
    for (Index j = 0; j < cols; ++j) {
      if (j == 0 || name == "apollo") factor = (model.w[j] - before[j]) / model.dw[j];
      EXPECT_LT(factor, 0);
      for (Index i = 0; i < rows; ++i)
        EXPECT_NEAR(model.w[i * cols + j] - before[i * cols + j], factor * model.dw[i * cols + j], 1e-14) << name;
    }
  }
}

/// Where FRUGAL's subspace is all there is nothing is left for signs but rounding, which they leave alone.
TEST(Invariances, OfAWholeSubspace) {
  Model<double> one(9, 7), other(9, 7), part(9, 7);
  run(made("frugal_svd", {{"rank", 9}, {"free_rate", 1}}), one, 5, [] {});
  run(made("frugal_svd", {{"rank", 9}, {"free_rate", 100}}), other, 5, [] {});
  run(made("frugal_svd", {{"rank", 6}, {"free_rate", 1}}), part, 5, [] {});
  EXPECT_EQ(farthest(one, other), 0);
  EXPECT_GT(farthest(one, part), 1e-4);
}

/// Natural gradient moves what the model says the same way whatever its parameters: here to 1 - rate of it.
TEST(Invariances, OfCoordinates) {
  for (const double stretch : {1.0, 3.0}) {
    Model<double> model(9, 7);
    Context ctx;
    const auto targets = linear_targets(model, 5, stretch);
    Buffer<double> before(targets.rows * targets.cols), after(before.size());
    const auto at = [&](Buffer<double>& z) { return MatrixView<double>(z.data(), targets.rows, targets.cols); };
    const auto gradient = [&] {
      Buffer<double> dz(before.size());
      targets.forward(at(after));
      const double loss = targets.loss(at(after), at(dz));
      targets.backward(at(dz), {});
      return loss;
    };
    const auto opt = made("natural_gradient", {{"rate", 0.25}, {"damping", 1e-9}, {"iterations", 200}});
    auto state = opt.init(model.params);
    const auto w = model.w;
    targets.forward(at(before));
    opt.step(ctx, {gradient, gradient, targets}, model.grads, state, model.params);
    targets.forward(at(after));
    for (Index i = 0; i < before.size(); ++i) ASSERT_NEAR(after[i], 0.75 * before[i], 1e-5) << stretch << ' ' << i;
    EXPECT_FALSE(same_bits(w, model.w));
  }
}

}  // namespace
}  // namespace tessera::optim
