#include <gtest/gtest.h>

#include <vector>

#include <support/oracle.hpp>
#include <tessera/matrix/monarch.hpp>
#include <tessera/matrix/monarch_dft.hpp>
#include <tessera/nn/monarch_mixer.hpp>

#include "gradient_check.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using Layer = nn::MonarchMixer<Monarch<double>, Monarch<double>>;

Monarch<double> mixing(Index rows, Index cols, Index l, Index k, std::uint64_t seed) {
  Monarch<double> M(rows, cols, l, k);
  const auto values = test::random_buffer<double>(M.parameter_count(), seed);
  for (std::size_t i = 0; i < M.parameters().size(); ++i) M.parameters()[i] = 0.5 * values[static_cast<Index>(i)];
  return M;
}
Layer mixer() {
  const auto kernel = test::random_buffer<double>(12 * 6, 3);
  return {mixing(12, 12, 4, 3, 1), Dense<double>(MatrixView<const double>(kernel.data(), 12, 6)),
          mixing(12, 12, 3, 4, 2), mixing(10, 6, 5, 3, 4), mixing(6, 10, 3, 5, 5)};
}

TEST(MonarchMixer, IsItsFormula) {
  const Layer layer = mixer();
  const auto x = test::random_buffer<double>(12 * 6, 6);
  Buffer<double> y(12 * 6);
  nn::MonarchMixerState<double> state;
  nn::m2_mixer(default_context(), layer, {x.data(), 12, 6}, {y.data(), 12, 6}, state);
  using Rows = Eigen::Matrix<double, -1, -1, Eigen::RowMajor>;
  const Eigen::MatrixXd X = Eigen::Map<const Rows>(x.data(), 12, 6);
  const Eigen::MatrixXd Z = layer.M2.to_dense() * layer.K.to_dense().cwiseProduct(layer.M1.to_dense() * X);
  const Eigen::MatrixXd Y = (Z * layer.M3.to_dense().transpose()).cwiseMax(0.0) * layer.M4.to_dense().transpose();
  EXPECT_LT((Eigen::Map<const Rows>(y.data(), 12, 6) - Y).norm(), 1e-12 * Y.norm());
  EXPECT_THROW(nn::m2_mixer(default_context(), layer, {x.data(), 6, 12}, {y.data(), 12, 6}, state), shape_error);
}

TEST(MonarchMixer, GradientsAreDerivatives) {
  Layer layer = mixer();
  Context ctx;
  auto x = test::random_buffer<double>(12 * 6, 7);
  const auto dy = test::random_buffer<double>(12 * 6, 8);
  Buffer<double> y(12 * 6), dx(12 * 6);
  nn::MonarchMixerState<double> state;
  const auto loss = [&] {
    nn::m2_mixer(ctx, layer, {x.data(), 12, 6}, {y.data(), 12, 6}, state);
    return test::inner(dy, y);
  };
  std::vector<double> grad(static_cast<std::size_t>(layer.parameter_count()), 3.0);
  loss();
  nn::m2_mixer_backward(ctx, layer, {x.data(), 12, 6}, {dy.data(), 12, 6}, state, {dx.data(), 12, 6}, 0.0, grad);
  test::expect_gradient("X", x, dx, loss);
  std::span<const double> rest = grad;
  for (const auto& [name, parameters] :
       std::vector<std::pair<const char*, std::span<double>>>{{"M1", layer.M1.parameters()},
                                                              {"K", layer.K.parameters()},
                                                              {"M2", layer.M2.parameters()},
                                                              {"M3", layer.M3.parameters()},
                                                              {"M4", layer.M4.parameters()}}) {
    test::expect_gradient(name, parameters, rest.first(parameters.size()), loss);
    rest = rest.subspan(parameters.size());
  }
  loss();
  std::vector<double> twice = grad;
  nn::m2_mixer_backward(ctx, layer, {x.data(), 12, 6}, {dy.data(), 12, 6}, state, {}, 1.0, twice);
  for (std::size_t i = 0; i < grad.size(); ++i) EXPECT_NEAR(twice[i], 2 * grad[i], 1e-12 * (1 + std::abs(grad[i])));
}

using CausalLayer = nn::MonarchMixer<MonarchConvolution<double>, Monarch<double>>;

CausalLayer causal_mixer(Index n) {
  const auto first = test::random_buffer<double>(n, 11), second = test::random_buffer<double>(n, 12),
             kernel = test::random_buffer<double>(n * 6, 13);
  return {MonarchConvolution<double>(std::span<const double>(first)),
          Dense<double>(MatrixView<const double>(kernel.data(), n, 6)),
          MonarchConvolution<double>(std::span<const double>(second)), mixing(10, 6, 5, 3, 4), mixing(6, 10, 3, 5, 5)};
}

TEST(MonarchMixer, OfCausalMatricesIsCausal) {
  Context ctx;
  nn::MonarchMixerState<double> state;
  for (const Index n : {1, 2, 3, 12, 31, 64, 100}) {
    const auto layer = causal_mixer(n);
    const auto x = test::random_buffer<double>(n * 6, 6), noise = test::random_buffer<double>(n * 6, 7);
    Buffer<double> y(n * 6), z(n * 6);
    nn::m2_mixer(ctx, layer, {x.data(), n, 6}, {y.data(), n, 6}, state);
    for (Index t = 0; t + 1 < n; t = 2 * t + 1) {
      auto changed = x;
      for (Index i = (t + 1) * 6; i < n * 6; ++i) changed[i] += 100 * noise[i];
      nn::m2_mixer(ctx, layer, {changed.data(), n, 6}, {z.data(), n, 6}, state);
      double most = 0, before = 0, after = 0;
      for (Index i = 0; i < n * 6; ++i) {
        most = std::max(most, std::abs(z[i]));
        double& side = i < (t + 1) * 6 ? before : after;
        side = std::max(side, std::abs(z[i] - y[i]));
      }
      EXPECT_LT(before, 1e-13 * most) << n << ' ' << t;
      EXPECT_GT(after, 0.1 * most) << n << ' ' << t;
    }
  }
}

TEST(MonarchMixer, CausalGradientsAreDerivatives) {
  Context ctx;
  auto layer = causal_mixer(9);
  auto x = test::random_buffer<double>(9 * 6, 7);
  const auto dy = test::random_buffer<double>(9 * 6, 8);
  Buffer<double> y(9 * 6), dx(9 * 6);
  nn::MonarchMixerState<double> state;
  const auto loss = [&] {
    nn::m2_mixer(ctx, layer, {x.data(), 9, 6}, {y.data(), 9, 6}, state);
    return test::inner(dy, y);
  };
  std::vector<double> grad(static_cast<std::size_t>(layer.parameter_count()));
  loss();
  nn::m2_mixer_backward(ctx, layer, {x.data(), 9, 6}, {dy.data(), 9, 6}, state, {dx.data(), 9, 6}, 0.0, grad);
  test::expect_gradient("X", x, dx, loss);
  const std::span<const double> all = grad;
  test::expect_gradient("K", layer.K.parameters(), all.subspan(9, 54), loss);
  for (MonarchConvolution<double>* M : {&layer.M1, &layer.M2}) {
    std::vector<double> filter(M->filter().begin(), M->filter().end());
    test::expect_gradient("filter", filter, all.subspan(M == &layer.M1 ? 0 : 9 + 54, 9), [&] {
      *M = MonarchConvolution<double>(filter);
      return loss();
    });
  }
}

}  // namespace
}  // namespace tessera
