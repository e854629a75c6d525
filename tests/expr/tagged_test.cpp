// Symmetric, semidefinite, orthogonal and triangular as types: what they pass on, and what they refuse.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <concepts>
#include <string>

#include <tessera/expr/tagged.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/detail/thin_qr.hpp>
#include <tessera/matrix/diagonal.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/permutation.hpp>

namespace tessera::test {
namespace tagged {

using Eigen::MatrixXd;
using Eigen::VectorXd;

struct Tags : ::testing::Test {
  const MatrixXd a = MatrixXd::Random(5, 5), s = a + a.transpose(), x = MatrixXd::Random(5, 2);
  const MatrixXd q = detail::thin_qr<double>(a).Q;
  const Dense<double> A{a}, S{s}, Q{q};
  template <class E>
  static void expect(const E& expr, const MatrixXd& value) {
    EXPECT_TRUE(expr.to_dense().isApprox(value, 1e-12)) << expr.describe();
  }
};

TEST_F(Tags, ArePropertiesOfTheType) {
  using Sym = decltype(symmetric(S));
  static_assert(std::same_as<Sym, Tagged<Ref<Dense<double>>, Property::symmetric>>);
  static_assert(SymmetricOperator<Sym> && !SemidefiniteOperator<Sym>);
  static_assert(SymmetricOperator<decltype(positive_semidefinite(S))>);
  static_assert(OrthogonalOperator<Permutation<float>> && SymmetricOperator<Diagonal<float>>);
  static_assert(std::same_as<decltype(symmetric(identity<float>(3))), Identity<float>>);  // says nothing new
  expect(symmetric(S), s);
  EXPECT_EQ(describe(symmetric(S)), "symmetric (Dense 5x5)");
  EXPECT_EQ(text(Property::identity), "positive semidefinite, orthogonal, diagonal");
  EXPECT_EQ(text(Property::none), "general");
}

TEST_F(Tags, PassThroughExpressions) {
  const auto Sy = symmetric(S);
  const auto So = symmetric(Dense<double>(MatrixXd(2 * s)));
  const auto P = positive_semidefinite(S);
  const auto O = orthogonal(Q);
  const auto L = lower(A);
  static_assert(SymmetricOperator<decltype(Sy + So)> && SymmetricOperator<decltype(Sy + P)>);
  static_assert(SemidefiniteOperator<decltype(P + P)> && !SemidefiniteOperator<decltype(P - P)>);
  static_assert(SymmetricOperator<decltype(P - P)> && SymmetricOperator<decltype(2.0 * Sy)>);
  static_assert(!SymmetricOperator<decltype(Sy * So)>);
  static_assert(OrthogonalOperator<decltype(O * O)> && !OrthogonalOperator<decltype(O + O)>);
  static_assert(OrthogonalOperator<decltype(O.transpose())> && !OrthogonalOperator<decltype(2.0 * O)>);
  static_assert(has(properties_of<decltype(L * L)>, Property::lower));
  static_assert(has(properties_of<decltype(L + L)>, Property::lower));
  static_assert(has(properties_of<decltype(L.transpose() * L.transpose())>, Property::upper));
  static_assert(properties_of<decltype(L * L.transpose())> == Property::none);
  static_assert(SymmetricOperator<decltype(Sy + diagonal(VectorXd(5)))>);
}

TEST_F(Tags, SymmetricIsItsTranspose) {
  const auto Sy = symmetric(S);
  static_assert(std::same_as<decltype(transpose(Sy)), std::remove_const_t<decltype(Sy)>> ||
                std::same_as<decltype(transpose(Sy)), Ref<std::remove_const_t<decltype(Sy)>>>);
  expect(transpose(Sy) * A, s * a);
}

TEST_F(Tags, OrthogonalInverseIsTheTranspose) {
  const auto O = orthogonal(Q);
  static_assert(OrthogonalOperator<decltype(inverse(O))>);
  expect(inverse(O), q.transpose());
  expect(inverse(O * O), (q * q).transpose());
  expect(inverse(O * diagonal(VectorXd(VectorXd::Constant(5, 2)))), q.transpose() / 2);
  MatrixXd y(5, 2);
  O.solve(default_context(), Op::none, view(x), view(y));
  EXPECT_TRUE(y.isApprox(q.transpose() * x, 1e-13));
}

TEST_F(Tags, GramAndCongruenceAreSemidefinite) {
  const Dense<double> tall(MatrixXd(MatrixXd::Random(7, 5)));
  const MatrixXd t = tall.to_dense();
  const auto G = gram(tall);
  static_assert(SemidefiniteOperator<decltype(G)>);
  expect(G, t.transpose() * t);
  const Dense<double> W(MatrixXd(MatrixXd::Random(5, 3)));
  const auto C = congruence(W, G);
  static_assert(SemidefiniteOperator<decltype(C)>);
  expect(C, W.to_dense().transpose() * t.transpose() * t * W.to_dense());
  static_assert(SymmetricOperator<decltype(congruence(W, symmetric(S)))>);
  static_assert(!SemidefiniteOperator<decltype(congruence(W, symmetric(S)))>);
}

TEST_F(Tags, CheckedOnesRefuteWhatIsWrong) {
  EXPECT_NO_THROW(symmetric(S, checked));
  EXPECT_NO_THROW(orthogonal(Q, checked));
  EXPECT_NO_THROW(positive_semidefinite(Dense<double>(MatrixXd(a.transpose() * a)), checked));
  EXPECT_NO_THROW(lower(Dense<double>(MatrixXd(a.triangularView<Eigen::Lower>())), checked));
  EXPECT_NO_THROW(upper(Dense<double>(MatrixXd(a.triangularView<Eigen::Upper>())), checked));
  for (const Index k : {Index{0}, a.rows() - 2}) {  // one entry beyond the diagonal
    MatrixXd one = MatrixXd::Identity(a.rows(), a.rows());
    one(k, k + 1) = 0.01;
    EXPECT_THROW(lower(Dense<double>(one), checked), property_error) << k;
    EXPECT_THROW(upper(Dense<double>(MatrixXd(one.transpose())), checked), property_error) << k;
    EXPECT_NO_THROW(upper(Dense<double>(one), checked)) << k;
  }
  EXPECT_THROW(symmetric(A, checked), property_error);
  EXPECT_THROW(orthogonal(A, checked), property_error);
  EXPECT_THROW(lower(A, checked), property_error);
  EXPECT_THROW(upper(A, checked), property_error);
  try {
    positive_semidefinite(Dense<double>(MatrixXd(-a.transpose() * a)), checked);
    FAIL();
  } catch (const property_error& e) {
    EXPECT_NE(std::string(e.what()).find("(Dense 5x5) is tagged positive semidefinite, but x^T A x is -"),
              std::string::npos)
        << e.what();
  }
  EXPECT_THROW(symmetric(Dense<double>(3, 4)), shape_error);
}

}  // namespace tagged
}  // namespace tessera::test
