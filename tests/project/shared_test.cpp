#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include <support/oracle.hpp>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/scale.hpp>
#include <tessera/project/hashed.hpp>
#include <tessera/project/toeplitz.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

TEST(ProjectToeplitz, MeansOfDiagonals) {
  const auto check = [](auto projected, const Eigen::MatrixXd& W) {
    // The residual is orthogonal to the structure: projecting it gives nothing.
    using A = decltype(projected.matrix);
    const Eigen::MatrixXd rest = W - projected.matrix.to_dense();
    EXPECT_LT(project<A>(rest, {}).matrix.to_dense().norm(), 1e-12 * W.norm());
    EXPECT_LT(project<A>(projected.matrix, {}).report.relative_error(), 1e-14);
    EXPECT_LT(projected.report.error, W.norm());
  };
  Eigen::MatrixXd W(9, 13);
  const Philox draws(2);
  for (Index i = 0; i < W.size(); ++i) W.data()[i] = draws.normal(static_cast<std::uint64_t>(i));
  check(project<Toeplitz<double>>(W, {}), W);
  check(project<Hankel<double>>(W, {}), W);
  check(project<Circulant<double>>(W.leftCols(9), {}), W.leftCols(9));
  EXPECT_THROW(project<Circulant<double>>(W, {}), shape_error);
  EXPECT_EQ(project<Toeplitz<float>>(Eigen::MatrixXd(0, 3), {}).matrix.rows(), 0);
}

TEST(ProjectHashed, MeansAreTheOptimum) {
  Eigen::MatrixXd W(20, 15);
  const Philox draws(1);
  for (Index i = 0; i < W.size(); ++i) W.data()[i] = draws.normal(static_cast<std::uint64_t>(i));
  for (const Index m : {1, 40, 77}) {
    auto [H, report] = project<Hashed<double>>(W, {.parameters = m, .seed = 3});
    EXPECT_LT(report.error, report.norm);
    for (std::size_t p = 0; p < H.parameters().size(); p += 7)
      for (const double step : {-1e-3, 1e-3}) {  // no parameter can do better
        Hashed<double> moved = H;
        moved.parameters()[p] += step;
        EXPECT_GT((moved.to_dense() - W).norm(), report.error);
      }
  }
  EXPECT_EQ(project<Hashed<double>>(W, {.parameters = 300}).report.error, 0);
  EXPECT_THROW(project<Hashed<double>>(W, {.parameters = 301}), shape_error);
  EXPECT_THROW(project<Hashed<double>>(W, {.parameters = -1}), shape_error);
  EXPECT_THROW(project<Hashed<double>>(W, {.parameters = Index{1} << 50}), shape_error);
  EXPECT_THROW(Hashed<double>(Index{1} << 32, Index{1} << 32, Buffer<double>(0)), shape_error);
}

TEST(Hashed, EntriesAreSharedParametersWithSigns) {
  for (const Index parameters : {7, 12, 40}) {
    Buffer<double> w(parameters);
    for (Index k = 0; k < parameters; ++k) w[k] = static_cast<double>(k + 1);
    const Hashed<double> A(6, 9, std::move(w));
    const Eigen::MatrixXd D = to_dense(A);
    for (Index i = 0; i < 6; ++i)
      for (Index j = 0; j < 9; ++j) {
        const Index k = i * 9 + j;
        ASSERT_EQ(D(i, j), A.scale() * A.sign(k) * A.parameters()[static_cast<std::size_t>(A.slot(k))])
            << i << ' ' << j;
      }
  }
}

TEST(Hashed, GradientIsTheDenseOneScattered) {
  Context ctx;
  for (const Index m : {23, 150, 17 * 66}) {
    const Hashed<double> W(66, 17, test::random_buffer<double>(m, 1), 5, 0.3);
    Eigen::MatrixXd X(17, 4), G(66, 4);
    const Philox draws(6);
    std::uint64_t at = 0;
    for (double& x : X.reshaped()) x = draws.normal(at++);
    for (double& g : G.reshaped()) g = draws.normal(at++);
    const Eigen::MatrixXd dense = G * X.transpose();
    std::vector<double> expected(static_cast<std::size_t>(m)), grad(expected.size());
    for (Index i = 0; i < 66; ++i)
      for (Index j = 0; j < 17; ++j)
        expected[static_cast<std::size_t>(W.slot(i * 17 + j))] += 0.3 * W.sign(i * 17 + j) * dense(i, j);
    W.grad(ctx, view(std::as_const(X)), view(std::as_const(G)), 0, grad);
    for (std::size_t p = 0; p < grad.size(); ++p) EXPECT_NEAR(grad[p], expected[p], 1e-12 * dense.norm());
  }
}

TEST(Hashed, WithoutCompressionEveryEntryHasItsOwnParameter) {
  const Hashed<double> W(13, 29, Buffer<double>(13 * 29), 7);
  std::set<Index> slots;
  for (Index k = 0; k < 13 * 29; ++k) slots.insert(W.slot(k));
  EXPECT_EQ(slots.size(), 13u * 29u);
  EXPECT_EQ(*slots.begin(), 0);
  EXPECT_EQ(*slots.rbegin(), 13 * 29 - 1);
}

/// Losses of gradient descent on Y = W2 max(W1 X, 0), whose target is such a network itself; `opt` sees blocks "0",
/// "1".
template <class Matrix, class Chain>
std::vector<double> losses(Matrix W1, Matrix W2, const Chain& opt) {
  Context ctx;
  const Philox draws(8);
  std::uint64_t at = 0;
  const auto normal = [&](Index rows, Index cols, double size) {
    Eigen::MatrixXd A(rows, cols);
    for (double& a : A.reshaped()) a = size * draws.normal(at++);
    return A;
  };
  const Eigen::MatrixXd X = normal(12, 64, 1), Y = normal(6, 24, 0.3) * (normal(24, 12, 0.3) * X).cwiseMax(0);
  std::vector<double> d1(static_cast<std::size_t>(W1.parameter_count())), d2(d1), result;
  d2.resize(static_cast<std::size_t>(W2.parameter_count()));
  const optim::Parameters<double> params{{"0", W1.parameters()}, {"1", W2.parameters()}}, grads{{"0", d1}, {"1", d2}};
  auto state = opt.init(params);
  for (int step = 0; step < 60; ++step) {
    const Eigen::MatrixXd H = W1 * X, active = H.cwiseMax(0);
    Eigen::MatrixXd error = W2 * active;
    error -= Y;
    result.push_back(0.5 * error.squaredNorm() / 64);
    error /= 64;
    Eigen::MatrixXd dH = transpose(W2) * error;
    dH = (H.array() > 0).select(dH, 0);
    W2.grad(ctx, view(active), view(std::as_const(error)), 0, d2);
    W1.grad(ctx, view(X), view(std::as_const(dH)), 0, d1);
    opt.update(ctx, grads, state, params);
  }
  return result;
}

/// Weights of standard deviation 0.3, of parameters of `deviation`.
Hashed<double> initialised(Index rows, Index cols, Index sharing, double deviation, std::uint64_t seed) {
  Buffer<double> w(rows * cols / sharing);
  for (Index p = 0; p < w.size(); ++p) w[p] = deviation * Philox(seed).normal(static_cast<std::uint64_t>(p));
  return {rows, cols, std::move(w), seed, 0.3 / deviation};
}

TEST(Hashed, TrainsAsTheFullModelWithoutCompression) {
  const auto full = [](Index rows, Index cols, std::uint64_t seed) {
    return Dense<double>(initialised(rows, cols, 1, 0.3, seed).to_dense());
  };
  const auto expected = losses(full(24, 12, 1), full(6, 24, 2), optim::sgd(0.1, 0.9));
  EXPECT_LT(expected.back(), 0.05 * expected.front());
  for (const double deviation : {0.3, 0.02}) {
    const auto A = initialised(24, 12, 1, deviation, 1), B = initialised(6, 24, 1, deviation, 2);
    const auto scaler = optim::scale_blocks(
        [&](const optim::ParameterInfo& p) { return p.name == "0" ? A.gradient_scale() : B.gradient_scale(); });
    const auto got = losses(A, B, optim::chain(scaler, optim::sgd(0.1, 0.9)));
    for (std::size_t step = 0; step < got.size(); ++step)
      EXPECT_NEAR(got[step], expected[step], 1e-9 * expected[step]) << step << ", deviation " << deviation;
  }
}

TEST(Hashed, TrainsFromAnySpreadOfParametersIfGradientsAreScaled) {
  const auto run = [](double deviation, bool scaled) {
    const auto A = initialised(24, 12, 4, deviation, 1), B = initialised(6, 24, 4, deviation, 2);
    const auto scaler = optim::scale_blocks([&](const optim::ParameterInfo& p) {
      return !scaled ? 1.0 : p.name == "0" ? A.gradient_scale() : B.gradient_scale();
    });
    return losses(A, B, optim::chain(scaler, optim::sgd(0.1, 0.9)));
  };
  const auto first = run(0.01, true);
  EXPECT_LT(first.back(), 0.5 * first.front());
  for (const double deviation : {0.1, 1.0, 10.0, 100.0}) {
    const auto losses = run(deviation, true);
    for (std::size_t step = 0; step < losses.size(); ++step)
      EXPECT_NEAR(losses[step], first[step], 1e-9 * first[step]) << step << ", deviation " << deviation;
  }
  EXPECT_FALSE(run(0.01, false).back() < 1e3);              // diverges
  EXPECT_GT(run(100, false).back(), 0.99 * first.front());  // hardly moves
}

TEST(Circulant, RefusesSizesThatDoNotFit) {
  const Circulant<double> four(Buffer<double>(4)), three(Buffer<double>(3));
  EXPECT_THROW(multiply(four, three), shape_error);
  EXPECT_THROW(add(four, three), shape_error);
  EXPECT_EQ(add(four, four).rows(), 4);
  const Index large = Index{1} << 32;
  EXPECT_THROW(BlockCirculant<double>(large, large, 1, Buffer<double>(0)), shape_error);
  EXPECT_THROW(BlockCirculant<double>(large, large, 0, Buffer<double>(0)), shape_error);
}

}  // namespace
}  // namespace tessera
