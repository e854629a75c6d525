#include <gtest/gtest.h>

#include <Eigen/Core>

#include <support/shared_kernels.hpp>
#include <tessera/project/hashed.hpp>
#include <tessera/project/toeplitz.hpp>

namespace tessera {
namespace {

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
