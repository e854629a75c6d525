// What AnyOperator finds in what it holds: the closed forms of the type, as the functions of solve/ find them.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <concepts>
#include <string>
#include <utility>
#include <vector>

#include <support/oracle.hpp>
#include <tessera/matrix/block_diagonal.hpp>
#include <tessera/matrix/circulant.hpp>
#include <tessera/matrix/diagonal_plus_low_rank.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/kronecker_sum.hpp>
#include <tessera/matrix/permutation.hpp>
#include <tessera/solve/functions.hpp>
#include <tessera/solve/trace.hpp>

#include "solve/spectrum.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using Eigen::MatrixXd;
using Eigen::VectorXd;
using Any = AnyOperator<double>;

MatrixXd regular(Index n) { return MatrixXd::Random(n, n) + 3 * MatrixXd::Identity(n, n); }

/// Every form of `a` through an Any: the answers are those of the dense matrix and the methods not iterations.
void expect_closed(const Any& a, const std::string& what) {
  const MatrixXd dense = to_dense(a), b = MatrixXd::Random(a.rows(), 2);
  EXPECT_EQ(explain_solve(a).chosen().substr(0, 41),
            "direct, by the type's solve(): that of (" + describe(a).substr(0, 1))
      << what;
  const auto x = solve(a, b);
  EXPECT_EQ(std::string(x.status.method), "direct") << what;
  EXPECT_LE((dense * x.x - b).norm(), 1e-11 * b.norm()) << what;
  const auto d = logdet(a);
  EXPECT_EQ(std::string(d.status.method), "the held operator's") << what;
  EXPECT_EQ(explain_logdet(a).chosen(), "the held operator's") << what;
  EXPECT_NEAR(d.value.determinant(), dense.determinant(), 1e-10 * std::abs(dense.determinant())) << what;
  EXPECT_EQ(std::string(trace(a).status.method), a.knows(Form::diagonal_sum) ? "the structure" : "its columns") << what;
  EXPECT_NEAR(trace(a), dense.trace(), 1e-11) << what;
  EXPECT_NEAR(norm(a), dense.norm(), 1e-11) << what;
  EXPECT_TRUE(diag(a).isApprox(VectorXd(dense.diagonal()), 1e-12)) << what;
  EXPECT_TRUE(to_dense(inverse(a)).isApprox(dense.inverse(), 1e-10)) << what;
  EXPECT_TRUE(to_dense(inverse(inverse(a))).isApprox(dense, 1e-10)) << what;
}

TEST(AnyForms, AreThoseOfTheTypeItHolds) {
  const VectorXd d = VectorXd::Random(6).array() + 3;
  const MatrixXd U = MatrixXd::Random(6, 2), V = MatrixXd::Random(6, 2), M = regular(6);
  const auto D = diagonal(d);
  const Dense<double> W(M);
  expect_closed(D, "diagonal");
  expect_closed(W, "dense");
  expect_closed(diagonal_plus_low_rank(d, U, V), "diagonal plus low rank");
  expect_closed(Diagonal<double>(D) + low_rank(MatrixXd(U), MatrixXd(V)), "Woodbury");
  expect_closed(Dense<double>(M) * Diagonal<double>(D), "a product");
  expect_closed(-2.0 * Dense<double>(M).transpose(), "a multiple of a transpose");
  expect_closed(block_diagonal(Dense<double>(regular(2)), Diagonal<double>(D)), "blocks of Anys");
  expect_closed(Kronecker(Dense<double>(regular(2)), Dense<double>(regular(3))), "Kronecker");
  expect_closed(Any(Any(W) * Any(D)), "a product of Anys");
  expect_closed(Any(2.0 * Any(W)), "a multiple of an Any");
  const Circulant<double> C(random_buffer<double>(5, 3));
  expect_closed(C, "circulant");
}

TEST(AnyForms, WhatIsNotKnownIsIterated) {
  const Any low = low_rank(MatrixXd(MatrixXd::Random(70, 2)), MatrixXd(MatrixXd::Random(70, 2)));
  for (const Form form : {Form::solve, Form::inverse, Form::log_determinant, Form::eigenvalues})
    EXPECT_FALSE(low.knows(form));
  EXPECT_THROW(low.log_determinant(), unsupported_error);
  EXPECT_THROW(inverse(low), unsupported_error);
  EXPECT_EQ(explain_solve(low).chosen(), "LSQR");
  EXPECT_EQ(explain_solve(low * Any(Dense<double>(regular(70)))).chosen(), "LSQR");
  EXPECT_EQ(explain_solve(block_diagonal(low, low)).chosen(), "LSQR");
  EXPECT_EQ(explain_logdet(2.0 * low).chosen(), "Lanczos quadrature of AᵀA");
  const Any tall = Dense<double>(MatrixXd(MatrixXd::Random(7, 4)));
  EXPECT_FALSE(tall.knows(Form::solve));
  EXPECT_FALSE(tall.knows(Form::log_determinant));
  EXPECT_EQ(solve(tall, VectorXd(VectorXd::Ones(7))).status.method, std::string("LSQR"));
  const Any rectangles =
      Dense<double>(MatrixXd(MatrixXd::Random(4, 7))) * Dense<double>(MatrixXd(MatrixXd::Random(7, 4)));
  EXPECT_FALSE(rectangles.knows(Form::inverse));  // square, of factors that are not
  EXPECT_EQ(explain_solve(rectangles).chosen(), "LSQR");
  EXPECT_EQ(logdet(rectangles).status.method, std::string("Lanczos quadrature of AᵀA"));
  EXPECT_THROW(sqrt(low), unsupported_error);
  const Any held = positive_semidefinite(rectangles);
  EXPECT_EQ(explain_solve(held).chosen(), "CG");  // on the tag's word
  EXPECT_EQ(Any().rows(), 0);
  EXPECT_EQ(to_dense(inverse(Any(Identity<double>(0)))).size(), 0);
}

TEST(AnyForms, FunctionsFollowTheRules) {
  const VectorXd d = VectorXd::Random(5).array() + 2;
  const Any D = diagonal(d);
  EXPECT_EQ(explain_exp(D).chosen(), "the held operator's exponential(A)");
  EXPECT_NE(exp(D).target<Diagonal<double>>(), nullptr);
  EXPECT_NE(sqrt(D).target<Diagonal<double>>(), nullptr);
  EXPECT_NE(pinv(D).target<Diagonal<double>>(), nullptr);
  EXPECT_TRUE(diag(exp(D)).isApprox(d.array().exp().matrix(), 1e-14));
  EXPECT_TRUE(closed_eigenvalues(2.0 * D, true)->real().sum() > 0);
  EXPECT_EQ((*closed_singular_values(2.0 * D.transpose(), true))[0], 2 * d.maxCoeff());
  EXPECT_EQ(spectral_norm(D).value, d.maxCoeff());
  EXPECT_NEAR(condition(D), d.maxCoeff() / d.minCoeff(), 1e-14);
  const MatrixXd low = MatrixXd::Random(6, 2) * MatrixXd::Random(2, 4);
  const Any L = Dense<double>(low);
  EXPECT_EQ(explain_pinv(L).chosen(), "the held operator's pseudo_inverted(A)");
  EXPECT_TRUE(to_dense(pinv(L)).isApprox(low.completeOrthogonalDecomposition().pseudoInverse(), 1e-12));
  EXPECT_TRUE(to_dense(pinv(2.0 * L)).isApprox(low.completeOrthogonalDecomposition().pseudoInverse() / 2, 1e-12));
  const std::vector<Index> p = {2, 0, 1};
  const Any P = permutation<double>(p);
  EXPECT_EQ(spectral_norm(P).status.method, std::string("orthogonal"));
  EXPECT_TRUE(to_dense(pinv(P)).isApprox(to_dense(P).transpose()));
  const MatrixXd A = MatrixXd::Random(2, 2), B = MatrixXd::Random(3, 3);
  const Any sum = KroneckerSum(Dense<double>(A), Dense<double>(B));
  EXPECT_EQ(explain_exp(sum).chosen(), "the held operator's exponential(A)");
  EXPECT_TRUE(to_dense(exp(sum)).isApprox(to_dense(exp(Dense<double>(to_dense(sum)))), 1e-11));
}

TEST(AnyForms, InsideEachOtherTheyEndBeforeTheStackDoes) {
  const Any one(diagonal(VectorXd(VectorXd::Ones(2))));
  const MatrixXd x = MatrixXd::Ones(2, 1);
  const auto expect_bounded = [&](const auto& deeper, double growth) {
    Any s = one;
    for (Index depth = 1; depth < detail::most_any_nesting; ++depth) s = deeper(s);
    MatrixXd y(2, 1);
    s.apply(default_context(), Op::transpose, 1, view(x), 0, view(y));
    EXPECT_EQ(y(0, 0), growth);
    EXPECT_FALSE(describe(s).empty());
    EXPECT_GE(bytes(s) + static_cast<std::size_t>(flops(s, 1)), 1u);
    std::string text = "no error";
    try {
      deeper(s);
    } catch (const unsupported_error& e) {
      text = e.what();
    }
    EXPECT_NE(text.find("501 AnyOperators inside each other, expected at most 500"), std::string::npos) << text;
  };
  expect_bounded([&](const Any& s) { return Any(s + one); }, 500);
  expect_bounded([&](const Any& s) { return Any(one * s); }, 1);
  expect_bounded([&](const Any& s) { return Any(s.transpose()); }, 1);
  expect_bounded([&](const Any& s) { return Any(block_diagonal(std::vector<Any>{s})); }, 1);
  std::vector<Any> many(3000, one);  // side by side, or as a tree of products
  while (many.size() > 1) {
    std::vector<Any> half;
    for (std::size_t i = 0; i + 1 < many.size(); i += 2) half.push_back(many[i] * many[i + 1]);
    if (many.size() % 2 == 1) half.push_back(many.back());
    many = std::move(half);
  }
  EXPECT_EQ(to_dense(many[0]), MatrixXd::Identity(2, 2));
}

}  // namespace
}  // namespace tessera::test
