// Closed forms of Kronecker products and sums, as the functions of solve/ find them.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <concepts>
#include <vector>

#include <support/shared_kernels.hpp>
#include <tessera/matrix/block_diagonal.hpp>
#include <tessera/matrix/khatri_rao.hpp>
#include <tessera/matrix/kronecker_sum.hpp>
#include <tessera/solve/functions.hpp>
#include <tessera/solve/logdet.hpp>
#include <tessera/solve/trace.hpp>

namespace tessera {
namespace {

TEST(KroneckerForms, TraceNormAndDeterminantAreTheFactors) {
  const Eigen::MatrixXd A = Eigen::MatrixXd::Random(3, 3), B = Eigen::MatrixXd::Random(4, 4);
  const auto K = kronecker(A, B);
  const Eigen::MatrixXd D = K.to_dense();
  EXPECT_NEAR(K.diagonal_sum(), D.trace(), 1e-12);
  EXPECT_NEAR(K.frobenius_norm(), D.norm(), 1e-12);
  EXPECT_NEAR(K.log_determinant().determinant(), D.determinant(), 1e-10 * std::abs(D.determinant()));
  const Eigen::MatrixXd U = Eigen::MatrixXd::Random(2, 3), V = Eigen::MatrixXd::Random(6, 4);
  const auto square = kronecker(U, V);  // 12x12 of rank 6 at most
  EXPECT_NEAR(square.diagonal_sum(), square.to_dense().trace(), 1e-12);
  EXPECT_EQ(square.log_determinant().sign, 0);
}

TEST(KroneckerForms, ExponentialOfASumIsAProduct) {
  const Eigen::MatrixXd A = Eigen::MatrixXd::Random(3, 3), B = Eigen::MatrixXd::Random(4, 4);
  const auto sum = kronecker_sum(A, B);
  const auto E = exponential(sum);
  EXPECT_NEAR(sum.diagonal_sum(), sum.to_dense().trace(), 1e-12);
  const Eigen::MatrixXd D = sum.to_dense();
  Eigen::MatrixXd power = Eigen::MatrixXd::Identity(12, 12), series = power;
  for (int k = 1; k < 60; ++k) series += (power = Eigen::MatrixXd(power * D / k));
  EXPECT_TRUE(E.to_dense().isApprox(series, 1e-9));
}

TEST(KroneckerForms, SpectraAreProductsAndSums) {
  const Eigen::MatrixXd A = Eigen::MatrixXd::Random(3, 5), B = Eigen::MatrixXd::Random(4, 2),
                        C = Eigen::MatrixXd::Random(3, 3), D = Eigen::MatrixXd::Random(4, 4);
  const auto K = kronecker(A, B);
  const Eigen::VectorXd s = Eigen::JacobiSVD<Eigen::MatrixXd>(K.to_dense()).singularValues();
  EXPECT_TRUE(K.singular_values().isApprox(s, 1e-13));  // 12x10 of rank 6
  EXPECT_EQ(K.singular_values().size(), 10);
  EXPECT_NEAR(spectral_norm(K), s[0], 1e-13);
  const auto square = kronecker(C, D);
  const Eigen::JacobiSVD<Eigen::MatrixXd> of_square(square.to_dense());
  EXPECT_NEAR(condition(square), of_square.singularValues()[0] / of_square.singularValues()[11],
              1e-10 * of_square.singularValues()[0] / of_square.singularValues()[11]);
  const auto sorted = [](Eigen::VectorXcd v) {
    std::sort(v.begin(), v.end(), [](auto x, auto y) {
      return std::abs(x.real() - y.real()) > 1e-9 ? x.real() < y.real() : x.imag() < y.imag();
    });
    return v;
  };
  const auto expect = [&](const auto& form) {
    const Eigen::VectorXcd exact = Eigen::EigenSolver<Eigen::MatrixXd>(form.to_dense()).eigenvalues();
    EXPECT_TRUE(sorted(form.eigenvalues()).isApprox(sorted(exact), 1e-10)) << describe(form);
  };
  expect(square);
  expect(kronecker_sum(C, D));
  const Dense<double> P(Eigen::MatrixXd(C * C.transpose())), Q(Eigen::MatrixXd(D * D.transpose()));
  const auto definite = Kronecker(positive_semidefinite(P), positive_semidefinite(Q));
  static_assert(std::same_as<decltype(definite.eigenvalues()), Eigen::VectorXd>);
  expect(definite);
  const auto root = sqrt(definite).to_dense();
  EXPECT_TRUE((root * root).isApprox(definite.to_dense(), 1e-12));
}

TEST(KroneckerForms, PseudoinverseAndProductsAreTheFactors) {
  const Eigen::MatrixXd A = Eigen::MatrixXd::Random(3, 2), B = Eigen::MatrixXd::Random(2, 4),
                        C = Eigen::MatrixXd::Random(2, 3), D = Eigen::MatrixXd::Random(4, 2);
  const auto K = kronecker(A, B), L = kronecker(C, D);
  EXPECT_TRUE(pinv(K).to_dense().isApprox(K.to_dense().completeOrthogonalDecomposition().pseudoInverse(), 1e-12));
  EXPECT_EQ(explain_pinv(K).chosen(), "the type's pseudo_inverted(A)");
  const auto list = kronecker(std::vector<Dense<double>>{Dense<double>(A), Dense<double>(B)});
  EXPECT_TRUE(pinv(list).to_dense().isApprox(pinv(K).to_dense(), 1e-12));
  const auto product = K * L;
  ASSERT_NE(product.merged(), nullptr);
  EXPECT_TRUE(to_dense(product).isApprox(K.to_dense() * L.to_dense(), 1e-13));
  EXPECT_TRUE(to_dense(K.transpose()).isApprox(K.to_dense().transpose(), 1e-15));
  const Eigen::MatrixXd P = A * C + 3 * Eigen::MatrixXd::Identity(3, 3),
                        Q = B * D + 3 * Eigen::MatrixXd::Identity(2, 2);
  EXPECT_TRUE(to_dense(inverse(kronecker(P, Q))).isApprox(kronecker(P, Q).to_dense().inverse(), 1e-12));
}

TEST(KroneckerForms, GramOfKhatriRaoIsElementwise) {
  const auto A =
      khatri_rao(Eigen::MatrixXd(Eigen::MatrixXd::Random(5, 4)), Eigen::MatrixXd(Eigen::MatrixXd::Random(3, 4)));
  EXPECT_TRUE(A.gram().to_dense().isApprox(A.to_dense().transpose() * A.to_dense(), 1e-13));
}

TEST(BlockForms, AreThoseOfTheBlocks) {
  const Eigen::MatrixXd A = Eigen::MatrixXd::Random(3, 3), B = Eigen::MatrixXd::Random(2, 2),
                        C = Eigen::MatrixXd::Random(2, 4);
  const auto square = block_diagonal(Dense<double>(A), Dense<double>(B));
  const auto wide = block_diagonal(Dense<double>(A), Dense<double>(C));
  const Eigen::MatrixXd S = square.to_dense(), W = wide.to_dense();
  EXPECT_NEAR(square.log_determinant().determinant(), S.determinant(), 1e-12);
  EXPECT_NEAR(norm(wide), W.norm(), 1e-13);
  EXPECT_TRUE(wide.singular_values().isApprox(Eigen::JacobiSVD<Eigen::MatrixXd>(W).singularValues(), 1e-12));
  EXPECT_TRUE(pinv(wide).to_dense().isApprox(W.completeOrthogonalDecomposition().pseudoInverse(), 1e-11));
  EXPECT_TRUE(exp(square).to_dense().isApprox(to_dense(exp(Dense<double>(S))), 1e-11));
  EXPECT_EQ(block_diagonal(Dense<double>(2, 3), Dense<double>(3, 2)).log_determinant().sign, 0);
  EXPECT_EQ(explain_solve(block_diagonal(Dense<double>(2, 3), Dense<double>(3, 2))).chosen(), "LSQR");
}

}  // namespace
}  // namespace tessera
