#include <gtest/gtest.h>

#include <cmath>
#include <span>
#include <tessera/optim/output_laws.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

constexpr Index rows = 5, cols = 4;

MatrixView<double> matrix(Buffer<double>& x) { return {x.data(), rows, cols}; }

/// The gradient is the loss's slope, the curvature the gradient's, and what is drawn has no mean and, as the Fisher
/// matrix is the Hessian here, that over rows for its squares.
void obeys_itself(const Targets<double>& law) {
  auto z = test::random_buffer<double>(rows * cols, 1);
  Buffer<double> g(z.size()), up(z.size()), down(z.size()), curved(z.size());
  const auto v = test::random_buffer<double>(z.size(), 2);
  law.loss(matrix(z), matrix(g));
  auto plus = z, minus = z;
  double slope = 0;
  for (Index i = 0; i < z.size(); ++i) {
    plus[i] += 1e-5 * v[i];
    minus[i] -= 1e-5 * v[i];
    curved[i] = v[i];
    slope += g[i] * v[i];
  }
  const double risen = law.loss(matrix(plus), matrix(up)) - law.loss(matrix(minus), matrix(down));
  EXPECT_NEAR(risen / 2e-5, slope, 1e-8);
  law.curvature(matrix(z), matrix(curved));
  double along = 0, square = 0;
  for (Index i = 0; i < z.size(); ++i) {
    EXPECT_NEAR((up[i] - down[i]) / 2e-5, curved[i], 1e-8) << i;
    along += v[i] * curved[i];
  }
  constexpr int draws = 20000;
  std::vector<double> mean(static_cast<std::size_t>(z.size()));
  for (int draw = 0; draw < draws; ++draw) {
    law.drawn(matrix(z), static_cast<std::uint64_t>(draw), matrix(g));
    double product = 0;
    for (Index i = 0; i < z.size(); ++i) {
      mean[static_cast<std::size_t>(i)] += g[i] / draws;
      product += g[i] * v[i];
    }
    square += product * product / draws;
  }
  for (const double m : mean) EXPECT_NEAR(m, 0, 5 * 0.2 / std::sqrt(draws));
  EXPECT_NEAR(square * rows, along, 0.05 * along);
}

TEST(OutputLaws, GradientsCurvaturesAndDrawsAgree) {
  Context ctx;
  const std::vector<nn::Token> labels{0, 3, 1, 2, 3};
  auto wanted = test::random_buffer<double>(rows * cols, 7);
  const Targets<double> shape{.rows = rows, .cols = cols};
  obeys_itself(of_classes(ctx, shape, [&] { return std::span<const nn::Token>(labels); }));
  obeys_itself(of_squares(shape, [&] { return MatrixView<const double>(wanted.data(), rows, cols); }));
}

}  // namespace
}  // namespace tessera::optim
