// Closed forms of Kronecker products and sums, as the functions of solve/ find them.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <tessera/matrix/any.hpp>
#include <tessera/matrix/banded.hpp>
#include <tessera/matrix/block_2x2.hpp>
#include <tessera/matrix/block_circulant.hpp>
#include <tessera/matrix/block_diagonal.hpp>
#include <tessera/matrix/circulant.hpp>
#include <tessera/matrix/dft.hpp>
#include <tessera/matrix/householder.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/khatri_rao.hpp>
#include <tessera/matrix/kronecker_sum.hpp>
#include <tessera/matrix/monarch.hpp>
#include <tessera/matrix/monarch_product.hpp>
#include <tessera/matrix/packed.hpp>
#include <tessera/solve/functions.hpp>
#include <tessera/solve/logdet.hpp>
#include <tessera/solve/trace.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

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

/// Knows its diagonal and norm, and cannot be multiplied by or made dense.
class Untouchable : public OperatorBase<Untouchable> {
 public:
  using Scalar = double;
  explicit Untouchable(Eigen::VectorXd d) : d_(std::move(d)) {}
  Index rows() const { return d_.size(); }
  Index cols() const { return d_.size(); }
  void apply(Context&, Op, double, MatrixView<const double>, double, MatrixView<double>) const {
    throw std::logic_error("a product with what has a closed form");
  }
  template <class F>
  void for_each_buffer(F&&) const {}
  Eigen::VectorXd diagonal() const { return d_; }
  double frobenius_norm() const { return d_.norm(); }

 private:
  Eigen::VectorXd d_;
};

TEST(KroneckerForms, AskTheFactorsForTheirs) {  // nothing is made dense
  const Eigen::VectorXd a = Eigen::VectorXd::Random(3), b = Eigen::VectorXd::Random(4);
  const Untouchable A(a), B(b);
  const Eigen::MatrixXd DA = a.asDiagonal(), DB = b.asDiagonal();
  EXPECT_TRUE(kronecker(A, B).diagonal().isApprox(kronecker(DA, DB).to_dense().diagonal(), 1e-15));
  EXPECT_TRUE(kronecker_sum(A, B).diagonal().isApprox(kronecker_sum(DA, DB).to_dense().diagonal(), 1e-15));
  EXPECT_NEAR(kronecker(A, B).frobenius_norm(), a.norm() * b.norm(), 1e-15);
  EXPECT_NEAR(kronecker(-2.0 * A, B.transpose()).frobenius_norm(), 2 * a.norm() * b.norm(), 1e-14);
  EXPECT_NEAR(kronecker(A, B).diagonal_sum(), a.sum() * b.sum(), 1e-15);
  EXPECT_NEAR(kronecker_sum(A, B).diagonal_sum(), 4 * a.sum() + 3 * b.sum(), 1e-14);
  const auto blocks = block_diagonal(A, A);
  EXPECT_TRUE(blocks.diagonal().head(3).isApprox(a) && blocks.diagonal().tail(3).isApprox(a));
  EXPECT_NEAR(kronecker(identity<double>(Index{1} << 40), A).frobenius_norm(), std::ldexp(a.norm(), 20), 1e-3);
  EXPECT_EQ(trace(identity<double>(Index{1} << 40)), std::ldexp(1.0, 40));
  EXPECT_EQ(trace(kronecker(identity<double>(Index{1} << 40), DA)), std::ldexp(a.sum(), 40));
  const Untouchable none{Eigen::VectorXd(0)};
  EXPECT_EQ(kronecker(identity<double>(Index{1} << 40), none).diagonal().size(), 0);
  EXPECT_EQ(kronecker_sum(identity<double>(Index{1} << 40), none).diagonal().size(), 0);
  EXPECT_EQ(flops(Circulant<double>(Buffer<double>(0)).set_method(ConvolutionMethod::fft), 3), 0);
  // Blocks that are not square lie beside the diagonal.
  const Eigen::MatrixXd wide = Eigen::MatrixXd::Random(2, 5), tall = Eigen::MatrixXd::Random(6, 3);
  const auto shifted = block_diagonal(Dense<double>(wide), Dense<double>(tall), Dense<double>(wide));
  EXPECT_EQ(shifted.diagonal(), Eigen::VectorXd(shifted.to_dense().diagonal()));
}

TEST(KroneckerForms, DeterminantOfASumIsOfTheSpectra) {
  const Eigen::MatrixXd A = Eigen::MatrixXd::Random(3, 3), B = Eigen::MatrixXd::Random(4, 4);
  const Eigen::MatrixXd SA = A + A.transpose(), SB = B + B.transpose(), Z = Eigen::MatrixXd::Zero(3, 3);
  const auto same = [](const auto& sum) {
    const double det = sum.to_dense().determinant();
    const auto found = logdet(sum);
    EXPECT_EQ(found.value.sign, det < 0 ? -1 : 1);
    EXPECT_NEAR(found.value.determinant(), det, 1e-10 * std::abs(det));
    EXPECT_EQ(explain_logdet(sum).chosen(), "the type's log_determinant()");
  };
  same(kronecker_sum(A, B));
  same(kronecker_sum(A, -B));
  same(kronecker_sum(SA, SB));
  same(kronecker_sum(symmetric(Dense<double>(SA)), symmetric(Dense<double>(SB)), SA));
  EXPECT_EQ(logdet(kronecker_sum(Z, Z)).value.sign, 0);
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

/// The numbers fall, or rise, and as many NaN as there are stand behind them.
template <bool falling>
void expect_nan_last(const Eigen::VectorXd& values, Index nans) {
  const Index numbers = values.size() - nans;
  ASSERT_GE(numbers, 0);
  for (Index i = 0; i < values.size(); ++i) {
    EXPECT_EQ(std::isnan(values[i]), i >= numbers) << i;
    if (i == 0 || i >= numbers) continue;
    EXPECT_LE(falling ? values[i] : values[i - 1], falling ? values[i - 1] : values[i]) << i;
  }
}
// With NaN among them, std::sort by < or > reads where it likes.
TEST(Spectra, NanComesLast) {
  constexpr Index n = 50;
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  Eigen::VectorXd d = Eigen::VectorXd::Random(n);
  for (const Index i : {0, 1, 17, 30, 49}) d[i] = nan;
  const auto D = diagonal(d);
  expect_nan_last<true>(D.singular_values(), 5);
  expect_nan_last<false>(D.eigenvalues(), 5);
  expect_nan_last<true>(*closed_singular_values(inverse(D), true), 5);
  EXPECT_TRUE(std::isnan(spectral_norm(D).value));

  const auto small = diagonal(Eigen::VectorXd::LinSpaced(3, 1, 2));
  const auto K = kronecker(D, small);
  expect_nan_last<true>(K.singular_values(), 15);
  expect_nan_last<false>(K.eigenvalues(), 15);
  EXPECT_TRUE(std::isnan(spectral_norm(K).value));
  expect_nan_last<true>(kronecker(D, Zero<double>(1, 3)).singular_values(), 5);
  expect_nan_last<false>(kronecker_sum(D, small).eigenvalues(), 15);
  expect_nan_last<true>(block_diagonal(std::vector{D, D}).singular_values(), 10);
  expect_nan_last<false>(detail::factor_eigenvalues(symmetric(AnyOperator<double>(D))), 5);
  Buffer<double> column(n);
  for (Index i = 0; i < n; ++i) column[i] = d[i];
  expect_nan_last<true>(Circulant<double>(std::move(column)).singular_values(), n);
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

TEST(KroneckerForms, LargeFactorsAreNotMadeDense) {
  constexpr Index n = Index{1} << 20;
  const auto K = kronecker(0.5f * identity<float>(n), transpose(identity<float>(n)));
  EXPECT_FLOAT_EQ(static_cast<float>(logdet(K).value.log_abs), std::log(0.5f) * 0x1p40f);
  EXPECT_EQ(spectral_norm(K).value, 0.5f);
  EXPECT_EQ(condition(K).value, 1);
  const auto D = kronecker(diagonal(Eigen::VectorXd::LinSpaced(n, -3, 1)), diagonal(Eigen::VectorXd::Constant(n, 2)));
  EXPECT_EQ(spectral_norm(D).value, 6);  // of 2^40 singular values
  const auto M = kronecker(Monarch<float>(65536, 65536, 256, 256), identity<float>(2));
  for (const Form form : {Form::log_determinant, Form::singular_values, Form::eigenvalues})
    EXPECT_FALSE(knows(M, form));
  try {
    M.log_determinant();
    FAIL();
  } catch (const unsupported_error& e) {
    EXPECT_NE(std::string(e.what()).find("65536x65536"), std::string::npos) << e.what();
  }
  EXPECT_THROW(M.singular_values(), unsupported_error);
  const auto blocks = block_diagonal(Monarch<float>(65536, 65536, 256, 256));
  EXPECT_FALSE(knows(blocks, Form::singular_values));
}

TEST(KroneckerForms, ExtremeSingularValuesAreThoseOfAll) {
  const auto check = [](const auto& K) {
    const auto all = K.singular_values();
    const auto [most, least] = K.singular_range();
    EXPECT_NEAR(most, all[0], 1e-12);
    EXPECT_NEAR(least, all[all.size() - 1], 1e-12);
  };
  using M = Eigen::MatrixXd;
  check(kronecker(M(M::Random(3, 3)), M(M::Random(4, 4))));
  check(kronecker(M(M::Random(3, 5)), M(M::Random(4, 2))));
  check(kronecker(M(M::Random(2, 5)), M(M::Random(4, 1)), M(M::Random(3, 3))));
}

// Gradients of types whose parameters are not reached one by one.
template <class A>
std::vector<double> gradient(const A& a, const Eigen::MatrixXd& X, const Eigen::MatrixXd& dY) {
  Context ctx;
  std::vector<double> g(static_cast<std::size_t>(a.parameter_count()));
  a.grad(ctx, view(X), view(dY), 0, g);
  return g;
}

TEST(Gradients, OfFactorsInAVectorAreThoseOfTheTuple) {
  const Dense<double> A(Eigen::MatrixXd(Eigen::MatrixXd::Random(3, 2))),
      B(Eigen::MatrixXd(Eigen::MatrixXd::Random(3, 2)));
  const Eigen::MatrixXd X = Eigen::MatrixXd::Random(4, 3), dY = Eigen::MatrixXd::Random(9, 3);
  const auto tuple = gradient(kronecker(A, B), X, dY), list = gradient(kronecker(std::vector{A, B}), X, dY);
  ASSERT_EQ(tuple.size(), list.size());
  for (std::size_t i = 0; i < tuple.size(); ++i) EXPECT_NEAR(tuple[i], list[i], 1e-12);
}

TEST(Gradients, OfPackedElementsAreThoseOfTheDense) {
  const Dense<double> A(Eigen::MatrixXd(Eigen::MatrixXd::Random(7, 5)));
  const Eigen::MatrixXd X = Eigen::MatrixXd::Random(5, 3), dY = Eigen::MatrixXd::Random(7, 3);
  const auto dense = gradient(A, X, dY), packed = gradient(Packed<double>(A.view()), X, dY);
  ASSERT_EQ(dense.size(), packed.size());
  for (std::size_t i = 0; i < dense.size(); ++i) EXPECT_NEAR(dense[i], packed[i], 1e-12);
}

TEST(Gradients, OfAMonarchProductAreTheDifferences) {
  Monarch<double> A(6, 24, 1, 12), B(24, 8, 12, 2);
  for (auto* m : {&A, &B}) {
    double next = 0.3;
    for (double& p : m->parameters()) p = std::sin(next += 1.7);
  }
  const Eigen::MatrixXd X = Eigen::MatrixXd::Random(8, 3), dY = Eigen::MatrixXd::Random(6, 3);
  const auto loss = [&] { return Eigen::MatrixXd(monarch_product(A, B) * X).cwiseProduct(dY).sum(); };
  const auto g = gradient(monarch_product(A, B), X, dY);
  std::size_t at = 0;
  for (auto* m : {&A, &B})
    for (double& p : m->parameters()) {
      const double kept = p, step = 1e-5;
      p = kept + step;
      const double up = loss();
      p = kept - step;
      const double down = loss();
      p = kept;
      ASSERT_NEAR(g[at++], (up - down) / (2 * step), 1e-8);
    }
  EXPECT_EQ(at, g.size());
}

// Rules of single types against what they stand for.
TEST(Rules, HaveTheValuesOfTheDense) {
  using M = Eigen::MatrixXd;
  const auto near = [](const M& a, const M& b) {
    ASSERT_EQ(a.rows(), b.rows());
    ASSERT_EQ(a.cols(), b.cols());
    EXPECT_LE((a - b).norm(), 1e-10 * (1 + b.norm()));
  };
  const Dft<double> F(5);
  near(to_dense(inverse(F)), M(F.to_dense()).inverse());
  const auto Q = random_orthogonal<double>(6);
  near(to_dense(inverse(Q)), M(Q.to_dense()).inverse());
  std::vector<Dense<double>> factors{Dense<double>(M(M::Random(3, 3))), Dense<double>(M(M::Random(2, 2)))};
  const auto K = kronecker(factors);
  near(to_dense(inverse(K)), M(K.to_dense()).inverse());
  const M A = M::Random(3, 3), P = A * A.transpose();
  const auto S = kronecker(positive_semidefinite(Dense<double>(P)),
                           positive_semidefinite(Dense<double>(M(2 * M::Identity(2, 2)))));
  const M root = to_dense(sqrt(S));
  near(root * root, S.to_dense());
  Eigen::VectorXd c = Eigen::VectorXd::Random(6);
  c.array() -= c.mean();  // singular
  Buffer<double> column(6);
  std::copy(c.begin(), c.end(), column.begin());
  const Circulant<double> C(column);
  near(to_dense(pinv(C)), M(C.to_dense()).completeOrthogonalDecomposition().pseudoInverse());
  const Zero<double> Z(3, 4), Z3(3, 3);
  const auto I = identity<double>(3);
  near(to_dense(pinv(Z)), M::Zero(4, 3));
  near(to_dense(transpose(Z)), M::Zero(4, 3));
  near(to_dense(exp(Z3)), M::Identity(3, 3));
  near(to_dense(exp(I)), std::exp(1.0) * M::Identity(3, 3));
  near(to_dense(sqrt(Z3)), M::Zero(3, 3));
  near(to_dense(sqrt(I)), M::Identity(3, 3));
  const M wide = M::Random(3, 5);
  near(to_dense(pinv(pinv(Dense<double>(wide)))), wide);
}

// A shared operator may stand in a tree 2^60 times: its text is cut, not written out.
TEST(Rules, TextsOfSharedTreesAreShort) {
  AnyOperator<float> t = identity<float>(4);
  for (int k = 0; k < 60; ++k) t = AnyOperator<float>(t + t);
  EXPECT_LT(describe(t).size(), 5000u);
  EXPECT_THROW(t * Eigen::VectorXf(Eigen::VectorXf::Zero(5)), shape_error);
  AnyOperator<float> p = identity<float>(4);
  for (int k = 0; k < 60; ++k) p = AnyOperator<float>(p * p);
  EXPECT_LT(describe(p).size(), 5000u);
}

TEST(Rules, OddSizesAndOptionsAreRefusedOrCheap) {
  EXPECT_EQ((Banded<float>(0, 1 << 27, 0, 1 << 27).bytes()), 0u);
  EXPECT_TRUE(std::isfinite(Dct<double>(Index{1} << 40).at(Index{1} << 39, Index{1} << 39)));
  EXPECT_TRUE(std::isfinite(Dft<double>(Index{1} << 40).at(Index{1} << 39, (Index{1} << 40) - 1)));
  const Dense<float> D(Eigen::MatrixXf(Eigen::MatrixXf::Identity(6, 6)));
  EXPECT_EQ(Eigen::MatrixXf(solve(D, Eigen::MatrixXf(6, 0))).cols(), 0);
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

TEST(BlockForms, DeterminantsWithoutAPivotAreRefused) {
  const auto drawn = [](Index rows, Index cols) {
    return Dense<double>(Eigen::MatrixXd(Eigen::MatrixXd::Random(rows, cols)));
  };
  const auto none = block_2x2(drawn(2, 3), drawn(2, 4), drawn(5, 3), drawn(5, 4));  // (7,7), no block is square
  EXPECT_FALSE(none.knows(Form::log_determinant) || none.knows(Form::solve));
  EXPECT_THROW(none.log_determinant(), unsupported_error);
  EXPECT_THROW(block_2x2(drawn(2, 2), drawn(2, 4), drawn(3, 2), drawn(3, 4)).log_determinant(), shape_error);
}

TEST(BlockCirculant, IsBlockDiagonalInFrequencies) {
  const auto drawn = [](Index n, Index m, Index p) {
    Buffer<double> b(n * m * p);
    std::copy_n(Eigen::VectorXd(Eigen::VectorXd::Random(b.size())).data(), b.size(), b.data());
    if (m == p && n > 0) b[0] += 3;
    return BlockCirculant<double>(n, m, p, std::move(b));
  };
  for (const auto& [n, m, p] :
       {std::array<Index, 3>{1, 3, 2}, {2, 3, 3}, {6, 2, 5}, {7, 4, 1}, {8, 3, 3}, {9, 1, 1}, {16, 5, 5}, {5, 0, 2}}) {
    const BlockCirculant<double> direct = drawn(n, m, p).set_method(ConvolutionMethod::direct),
                                 A = BlockCirculant<double>(direct).set_method(ConvolutionMethod::fft);
    const Eigen::MatrixXd D = direct.to_dense();
    EXPECT_EQ(A.diagonal(), Eigen::VectorXd(D.diagonal()));
    EXPECT_NEAR(A.frobenius_norm(), D.norm(), 1e-13 * D.norm());
    for (const Index columns : {1, 3, 300}) {  // blocks of 256 columns
      const Eigen::MatrixXd X = Eigen::MatrixXd::Random(D.cols(), columns),
                            Z = Eigen::MatrixXd::Random(D.rows(), columns);
      Eigen::MatrixXd Y = 2 * Z, T = 2 * X;
      A.apply(default_context(), Op::none, 1.5, view(X), -0.5, view(Y));
      A.apply(default_context(), Op::transpose, 1.5, view(Z), -0.5, view(T));
      EXPECT_LE((Y - 1.5 * D * X + Z).norm(), 1e-13 * (1 + D.norm() * X.norm()));
      EXPECT_LE((T - 1.5 * D.transpose() * Z + X).norm(), 1e-13 * (1 + D.norm() * Z.norm()));
      Context two = Context::with_threads(2);
      Eigen::MatrixXd again = 2 * Z;
      A.apply(two, Op::none, 1.5, view(X), -0.5, view(again));
      EXPECT_EQ(again, Y);
      std::vector<double> g(static_cast<std::size_t>(A.parameter_count()), 1), exact = g;
      A.grad(default_context(), view(X), view(Z), 0.5, g);
      direct.grad(default_context(), view(X), view(Z), 0.5, exact);
      for (std::size_t i = 0; i < g.size(); ++i) EXPECT_NEAR(g[i], exact[i], 1e-13 * (1 + X.norm() * Z.norm()));
    }
    if (D.rows() != D.cols()) {
      EXPECT_FALSE(A.knows(Form::solve) || A.knows(Form::log_determinant));
      EXPECT_THROW(A.log_determinant(), shape_error);
      EXPECT_THROW(inverted(A), shape_error);
      continue;
    }
    EXPECT_NEAR(A.diagonal_sum(), D.trace(), 1e-12 * D.norm());
    const double det = D.determinant();
    EXPECT_EQ(A.log_determinant().sign, det < 0 ? -1 : 1);
    EXPECT_NEAR(A.log_determinant().log_abs, std::log(std::abs(det)), 1e-9);
    EXPECT_TRUE(inverse(A).to_dense().isApprox(D.inverse(), 1e-9));
    const Eigen::MatrixXd B = Eigen::MatrixXd::Random(D.rows(), 2);
    Eigen::MatrixXd X(D.rows(), 2);
    A.solve(default_context(), Op::none, view(B), view(X));
    EXPECT_LE((D * X - B).norm(), 1e-10 * (1 + D.norm() * X.norm()));
    A.solve(default_context(), Op::transpose, view(B), view(X));
    EXPECT_LE((D.transpose() * X - B).norm(), 1e-10 * (1 + D.norm() * X.norm()));
  }
  EXPECT_EQ(BlockCirculant<double>(0, 2, 3, {}).log_determinant().sign, 1);
  EXPECT_FALSE(BlockCirculant<double>(2, 1, 1, Buffer<double>(2)).by_fft(1));
  EXPECT_TRUE(drawn(512, 8, 8).by_fft(64));
}

}  // namespace
}  // namespace tessera
