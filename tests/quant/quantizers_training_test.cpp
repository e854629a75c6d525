#include <gtest/gtest.h>

#include <Eigen/Eigenvalues>
#include <cmath>
#include <numeric>
#include <tessera/quant/quantizers/hawq.hpp>
#include <tessera/quant/quantizers/noise.hpp>

#include "quant/layers.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::RowMatrixf;

/// y = V tanh(U x), mean squared error to a teacher's; parameters are U (h,d), then V (o,h), row-major.
struct SmallNet {
  static constexpr Index d = 5, h = 6, o = 3, n = 64, parameters = h * d + o * h;
  Eigen::MatrixXd X = test::normal_matrix(d, n, 1).cast<double>();
  Eigen::MatrixXd Y = (test::normal_matrix(o, d, 2).cast<double>() * X).array().tanh();

  using Map = Eigen::Map<const Eigen::Matrix<double, -1, -1, Eigen::RowMajor>>;
  double loss(const Eigen::VectorXd& theta) const {
    const Eigen::MatrixXd A = (Map(theta.data(), h, d) * X).array().tanh();
    return (Map(theta.data() + h * d, o, h) * A - Y).squaredNorm() / n;
  }
  Eigen::VectorXd gradient(const Eigen::VectorXd& theta) const {
    const Map U(theta.data(), h, d), V(theta.data() + h * d, o, h);
    const Eigen::MatrixXd A = (U * X).array().tanh();
    const Eigen::MatrixXd E = (V * A - Y) * (2.0 / n);
    Eigen::VectorXd g(parameters);
    Eigen::Map<Eigen::Matrix<double, -1, -1, Eigen::RowMajor>>(g.data(), h, d) =
        ((V.transpose() * E).array() * (1 - A.array().square())).matrix() * X.transpose();
    Eigen::Map<Eigen::Matrix<double, -1, -1, Eigen::RowMajor>>(g.data() + h * d, o, h) = E * A.transpose();
    return g;
  }
};

TEST(Hawq, PowerIterationIsTheTopEigenvalueOfASmallNetsHessian) {
  const SmallNet net;
  const Eigen::VectorXd theta = 0.5 * test::normal_matrix(SmallNet::parameters, 1, 3).cast<double>();
  const auto product = finite_difference_product([&](const Eigen::VectorXd& t) { return net.gradient(t); }, theta);
  Eigen::MatrixXd H(SmallNet::parameters, SmallNet::parameters);
  for (Index j = 0; j < H.cols(); ++j) H.col(j) = product(Eigen::VectorXd::Unit(H.cols(), j));
  EXPECT_LE((H - H.transpose()).norm(), 1e-5 * H.norm());
  // A column against second differences of the loss itself.
  for (const Index i : {0, 7, 31, 40}) {
    const double e = 1e-4;
    const Eigen::VectorXd u = e * Eigen::VectorXd::Unit(H.cols(), i);
    EXPECT_NEAR(H(i, i), (net.loss(theta + u) - 2 * net.loss(theta) + net.loss(theta - u)) / (e * e), 1e-3 * H.norm());
  }
  const Eigen::VectorXd all = Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>((H + H.transpose()) / 2).eigenvalues();
  const double largest = all.maxCoeff() > -all.minCoeff() ? all.maxCoeff() : all.minCoeff();
  const auto top = top_eigenvalue(H.cols(), product, 1e-6, 5000);
  EXPECT_TRUE(top.converged);
  EXPECT_NEAR(top.value, largest, 1e-4 * std::abs(largest));
  EXPECT_FALSE(top_eigenvalue(H.cols(), product, 0, 3).converged);
  EXPECT_EQ(top_eigenvalue(4, [](const Eigen::VectorXd& v) { return Eigen::VectorXd(0 * v); }).value, 0);
  EXPECT_THROW(top_eigenvalue(4, [](const Eigen::VectorXd&) { return Eigen::VectorXd(3); }), shape_error);
}

/// Regressions y = W x with activations of different sizes: layer i's Hessian in a row of W is 2 X Xᵀ / n.
TEST(Hawq, BitsByCurvatureBeatUniformAndReversedOnesOfTheSameSize) {
  Context ctx;
  constexpr std::size_t count = 6;
  const Index M = 16, K = 64;
  std::vector<LayerSensitivity> layers;
  std::vector<std::vector<PrecisionChoice>> choices;
  std::vector<std::vector<double>> losses;  // [layer][choice]
  for (std::size_t i = 0; i < count; ++i) {
    RowMatrixf X = test::correlated_activations(K, 300, i + 1, 0.3f);
    X *= std::exp2(static_cast<float>((i * 5) % count));
    const RowMatrixf W = test::normal_matrix(M, K, 50 + i);
    const Eigen::MatrixXd H = test::calibration_of(X).gram() * (2.0 / 300);
    const auto top = top_eigenvalue(K, [&](const Eigen::VectorXd& v) -> Eigen::VectorXd { return H * v; });
    layers.push_back({top.value, M * K});
    choices.emplace_back();
    losses.emplace_back();
    for (const int bits : {2, 4, 6}) {
      const RowMatrixf E = round_to_grid(ctx, view(W), UniformGrid::symmetric(bits, 32)).values - W;
      choices.back().push_back({static_cast<std::size_t>(M * K * bits / 8), static_cast<double>(E.squaredNorm())});
      losses.back().push_back(static_cast<double>((E * X).squaredNorm()) / 300);
    }
  }
  const auto total = [&](const auto& chosen) {
    double sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum += losses[i][chosen(i)];
    return sum;
  };
  const std::size_t budget = static_cast<std::size_t>(M * K * 4 / 8) * count;  // all at 4 bits
  const auto made = hawq_bits(layers, choices, budget);
  EXPECT_LE(made.bytes, budget);
  const double hessian = total([&](std::size_t i) { return made.choice[i]; });
  const double uniform = total([](std::size_t) { return std::size_t{1}; });
  const auto order = sensitivity_order(layers);
  std::vector<std::size_t> reversed(count);
  for (std::size_t r = 0; r < count; ++r) reversed[order[r]] = made.choice[order[count - 1 - r]];
  EXPECT_LT(hessian, 0.5 * uniform);
  EXPECT_LT(hessian, 0.1 * total([&](std::size_t i) { return reversed[i]; }));
  for (std::size_t r = 1; r < count; ++r) EXPECT_GE(made.choice[order[r - 1]], made.choice[order[r]]);
  const std::vector<double> errors(count, 1.0);
  EXPECT_EQ(finetune_order(layers, errors), order);  // parameters and errors are equal
  EXPECT_THROW(finetune_order(layers, std::span(errors).first(2)), shape_error);
  EXPECT_THROW(hawq_bits(std::span(layers).first(2), choices, budget), shape_error);
}

TEST(QuantizationNoise, HasTheVarianceOfRoundingAndPredictsItsLoss) {
  Context ctx, threads = Context::with_threads(2);
  const Index M = 40, K = 128;
  std::vector<double> noisy, rounded;
  for (std::uint64_t layer = 0; layer < 12; ++layer) {
    const RowMatrixf X = test::correlated_activations(K, 200, layer, 0.4f);
    const RowMatrixf W = test::normal_matrix(M, K, 90 + layer) * std::exp2(static_cast<float>(layer % 5) * 0.5f);
    const auto grid = UniformGrid::asymmetric(3 + static_cast<int>(layer % 3), 64);
    RowMatrixf N(M, K), T(M, K);
    quantization_noise(ctx, view(W), grid, 5, layer, view(N));
    quantization_noise(threads, view(W), grid, 5, layer, view(T));
    EXPECT_EQ(N, T);
    const auto near = round_to_grid(ctx, view(W), grid);
    double expected = 0, mean = 0;
    for (Index i = 0; i < M; ++i)
      for (Index k = 0; k < K; ++k) {
        const double step = static_cast<double>(near.of(i, k).scale), e = static_cast<double>(N(i, k) - W(i, k));
        EXPECT_LE(std::abs(e), 0.5001 * step);
        expected += step * step / 12;
        mean += e;
      }
    EXPECT_NEAR((N - W).cast<double>().squaredNorm() / expected, 1, 0.06);
    EXPECT_LT(std::abs(mean), 4 * std::sqrt(expected));
    noisy.push_back(std::log(((N - W) * X).squaredNorm()));
    rounded.push_back(std::log(((near.values - W) * X).squaredNorm()));
  }
  const Eigen::Map<const Eigen::ArrayXd> a(noisy.data(), 12), b(rounded.data(), 12);
  const Eigen::ArrayXd x = a - a.mean(), y = b - b.mean();
  EXPECT_GT((x * y).sum() / std::sqrt(x.square().sum() * y.square().sum()), 0.99);
  RowMatrixf small(M, K - 1);
  const RowMatrixf W = test::normal_matrix(M, K, 1);
  EXPECT_THROW(quantization_noise(ctx, view(W), UniformGrid{}, 1, 1, view(small)), shape_error);
}

TEST(QuantizationNoise, StraightThroughIsTheIdentityInTheRange) {
  UniformGrid::Levels levels;
  const std::vector<float> x{-1.5f, 0.2f, 0.7f, 3.0f};
  UniformGrid::symmetric(4).fit(x, levels);
  for (const float v : {-3.0f, -1.0f, 0.0f, 2.9f}) EXPECT_EQ(straight_through(levels, v, 0.25f), 0.25f);
  for (const float v : {-3.2f, 3.1f, 100.0f}) EXPECT_EQ(straight_through(levels, v, 0.25f), 0.0f);
}

TEST(QuantizationNoise, EntropyFallsToOneChoice) {
  std::vector<float> alpha{0.1f, 0.0f, -0.2f, 0.15f}, gradient(4);
  const double start = softmax_entropy(alpha, gradient);
  for (std::size_t i = 0; i < 4; ++i) {
    auto up = alpha, down = alpha;
    up[i] += 1e-2f;
    down[i] -= 1e-2f;
    EXPECT_NEAR(static_cast<double>(gradient[i]), (softmax_entropy(up) - softmax_entropy(down)) / 2e-2, 1e-4);
  }
  for (int step = 0; step < 3000; ++step) {
    softmax_entropy(alpha, gradient);
    for (std::size_t i = 0; i < 4; ++i) alpha[i] -= 0.5f * gradient[i];
  }
  EXPECT_LT(softmax_entropy(alpha), 0.02 * start);
  EXPECT_EQ(std::max_element(alpha.begin(), alpha.end()) - alpha.begin(), 3);
  EXPECT_NEAR(softmax_entropy(std::vector<float>(8, 2.0f)), std::log(8.0), 1e-6);
  EXPECT_THROW(softmax_entropy(alpha, std::span(gradient).first(2)), shape_error);
}

TEST(QuantizationNoise, RescalingGivesTheDeviation) {
  const RowMatrixf x = test::normal_matrix(1, 500, 8) * 37.0f;
  RowMatrixf y(1, 500);
  deviation_rescale({x.data(), 500}, std::log(2.0f), {y.data(), 500});
  EXPECT_NEAR(std::sqrt((y.array() - y.mean()).square().mean()), 2.0f, 1e-4f);
  const std::vector<float> same(4, 3.0f);
  std::vector<float> out(4);
  deviation_rescale(same, 0, out);
  EXPECT_EQ(out, std::vector<float>(4, 0.0f));
}

}  // namespace
}  // namespace tessera
