// Extremal eigenvalues and singular values against dense decompositions.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <concepts>
#include <limits>
#include <string>

#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/diagonal.hpp>
#include <tessera/solve/eigs.hpp>

#include "solve/spectrum.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using Eigen::MatrixXd;
using Eigen::VectorXd;

#if TESSERA_HAS_SPECTRA
using Any = Hidden<double>;

TEST(Eigs, FindsTheExtremalOnes) {
  for (const Index n : {5, 120}) {  // dense, iterated
    const VectorXd spectrum = VectorXd::LinSpaced(n, -3, 0.5).array().cube();
    const MatrixXd dense = symmetric_with(spectrum);
    const Any A = Dense<double>(dense);
    EigsOptions options;
    for (const Which which : {Which::largest_magnitude, Which::largest, Which::smallest}) {
      options.which = which;
      const auto found = eigs(symmetric(A), 3, options);
      ASSERT_TRUE(found.status.converged);
      ASSERT_EQ(found.values.size(), 3);
      for (Index i = 0; i < 3; ++i)
        EXPECT_NEAR(found.values[i], which == Which::largest ? spectrum[n - 1 - i] : spectrum[i], 1e-7);
      EXPECT_LE((dense * found.vectors - found.vectors * found.values.asDiagonal()).norm(), 1e-6);
    }
    const auto general = eigs(A, 2);  // not known to be symmetric: complex
    static_assert(std::same_as<decltype(general.values), Eigen::VectorXcd>);
    EXPECT_TRUE(general.status.converged);
    EXPECT_NEAR(general.values[0].real(), spectrum[0], 1e-7);
  }
  EigsOptions one_restart;
  one_restart.max_restarts = 1;
  const Any flat = Dense<double>(symmetric_with(VectorXd::LinSpaced(200, 1, 1.001)));
  EXPECT_FALSE(eigs(symmetric(flat), 4, one_restart).status.converged);
  EigsOptions values;
  values.vectors = false;
  const VectorXd d = VectorXd::LinSpaced(9, -2, 7);
  const auto closed = eigs(diagonal(d), 2, values);
  EXPECT_EQ(closed.values, (VectorXd(2) << 7, 5.875).finished());
  EXPECT_EQ(std::string(closed.status.method), "the type's eigenvalues()");
  EXPECT_EQ(explain_eigs(diagonal(d), values).chosen(), "the type's eigenvalues()");
  const auto multiple = eigs(-2.0 * diagonal(d).transpose(), 2, values);
  EXPECT_EQ(multiple.values[0], std::complex<double>(-14));
  EXPECT_EQ(svd(-2.0 * diagonal(d), 2, values).values, (VectorXd(2) << 14, 11.75).finished());
  EXPECT_EQ(explain_svd(-2.0 * diagonal(d), values).chosen(), "the type's singular_values()");
  EXPECT_EQ(explain_svd(flat).chosen(), "Lanczos on AᵀA with implicit restarts (Spectra)");
  EXPECT_EQ(explain_eigs(symmetric(flat)).chosen(), "Lanczos with implicit restarts (Spectra)");
  EXPECT_THROW(eigs(Dense<double>(2, 3), 1), shape_error);
}

TEST(Svd, FindsTheLargest) {
  const MatrixXd a = MatrixXd::Random(90, 70);
  const auto found = svd(Dense<double>(a), 4);
  const Eigen::BDCSVD<MatrixXd> exact(a, Eigen::ComputeThinU | Eigen::ComputeThinV);
  ASSERT_TRUE(found.status.converged);
  EXPECT_TRUE(found.values.isApprox(exact.singularValues().head(4), 1e-9));
  EXPECT_LE((a * found.V - found.U * found.values.asDiagonal()).norm(), 1e-8);
  EXPECT_LE((found.U.transpose() * found.U - MatrixXd::Identity(4, 4)).norm(), 1e-6);
  for (const double c : {1e-200, 1e200}) {  // whose squares are 0 or infinite
    const auto scaled = svd(Dense<double>(MatrixXd(c * a)), 4);
    ASSERT_TRUE(scaled.status.converged);
    EXPECT_TRUE((scaled.values / c).isApprox(exact.singularValues().head(4), 1e-9));
    EXPECT_LE((scaled.U.transpose() * scaled.U - MatrixXd::Identity(4, 4)).norm(), 1e-6);
    const MatrixXd s = a.transpose() * a;
    const auto of_symmetric = eigs(symmetric(Any(Dense<double>(MatrixXd(c * s)))), 2);
    EXPECT_TRUE((of_symmetric.values / c).isApprox(exact.singularValues().head(2).cwiseAbs2(), 1e-9));
  }
}

TEST(Eigs, OfMatricesThatStopTheIteration) {
  const Any zero = Dense<double>(MatrixXd(MatrixXd::Zero(100, 100)));
  const auto none = eigs(symmetric(zero), 3);
  EXPECT_TRUE(none.status.converged);
  EXPECT_EQ(none.values, VectorXd(VectorXd::Zero(3)));
  EXPECT_LE((none.vectors.transpose() * none.vectors - MatrixXd::Identity(3, 3)).norm(), 1e-12);
  EXPECT_EQ(eigs(zero, 3).values, Eigen::VectorXcd(Eigen::VectorXcd::Zero(3)));
  EXPECT_EQ(svd(zero, 3).values, VectorXd(VectorXd::Zero(3)));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const Index n : {9, 100}) {
    const Any undefined = Dense<double>(MatrixXd(MatrixXd::Constant(n, n, nan)));
    const auto found = eigs(symmetric(undefined), 2);
    EXPECT_FALSE(found.status.converged);
    EXPECT_TRUE(found.values.hasNaN() || found.values.size() == 0);
    EXPECT_FALSE(eigs(undefined, 2).status.converged);
    EXPECT_TRUE(eigs(undefined, 2).values.hasNaN());
    EXPECT_FALSE(svd(undefined, 2).status.converged);
  }
  VectorXd some = VectorXd::Random(50);
  some[7] = nan;
  const auto D = diagonal(some);
  EXPECT_FALSE(eigs(D, 1, {.vectors = false}).status.converged);
  EXPECT_FALSE(svd(D, 1, {.vectors = false}).status.converged);
  EXPECT_THROW(eigs(zero, -1), shape_error);
  EXPECT_THROW(svd(zero, -1), shape_error);
}
#else
TEST(Eigs, FindsTheExtremalOnes) { GTEST_SKIP() << "Spectra is not installed (Debian: libspectra-dev)"; }
#endif

}  // namespace
}  // namespace tessera::test
