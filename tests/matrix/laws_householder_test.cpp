// Orthogonal matrices, and hashed ones.
#include <Eigen/LU>
#include <algorithm>
#include <concepts>
#include <vector>

#include <support/operator_laws.hpp>
#include <tessera/expr/inverse.hpp>
#include <tessera/matrix/hashed.hpp>
#include <tessera/matrix/householder.hpp>

namespace tessera::test {

template <class S>
struct Truth<HouseholderProduct<S>> {  // norms bound the rounding of reflections, not entries
  using A = HouseholderProduct<S>;
  static Eigen::MatrixXd value(const A& a) {
    Eigen::MatrixXd product = Eigen::MatrixXd::Identity(a.rows(), a.rows());
    const Eigen::MatrixXd V = a.vectors().to_dense().template cast<double>();
    for (Index k = 0; k < V.cols(); ++k)
      if (V.col(k).norm() > 0) product -= 2 / V.col(k).squaredNorm() * (product * V.col(k)) * V.col(k).transpose();
    return product;
  }
  static Eigen::MatrixXd magnitude(const A& a) { return Eigen::MatrixXd::Ones(a.rows(), a.rows()); }
  static double roundings(const A& a, Op) { return 8 * static_cast<double>(a.rows() + a.count()) + 8; }
  static double extra(const A&, Op, Index, VectorView<const S>) { return 0; }
};

namespace TESSERA_TEST_FILE {

template <class S>
struct HouseholderCase {
  using Operator = HouseholderProduct<S>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (const auto& [n, r] : std::vector<std::pair<Index, Index>>{{1, 1}, {20, 3}, {33, 20}, {5, 0}, {0, 0}})
      all.push_back(random_reflections<S>(n, r, 71));
    for (Index i = 0; i < 20; ++i) all[1].vectors()(i, 1) = S(0);
    return all;
  }
};
template <class S>
struct OrthogonalCase {
  using Operator = OrthogonalDense<S>;
  static std::vector<Operator> samples() { return {random_orthogonal<S>(1), random_orthogonal<S>(24)}; }
};
template <class S>
struct HashedCase {
  using Operator = Hashed<S>;
  static std::vector<Operator> samples() {
    return {Operator(20, 30, random_buffer<S>(77, 81), 3, S(0.5)), Operator(70, 9, random_buffer<S>(630, 82)),
            Operator(1, 1, random_buffer<S>(1, 83)), Operator(66, 5, random_buffer<S>(3, 84)),
            Operator(0, 4, Buffer<S>())};
  }
};

using OrthogonalTypes = ::testing::Types<HouseholderCase<float>, HouseholderCase<double>, OrthogonalCase<float>,
                                         OrthogonalCase<double>, HashedCase<float>, HashedCase<double>>;
const bool orthogonal_laws = OperatorLaws<OrthogonalTypes>::of("Orthogonal");

TEST(HouseholderProduct, GradientIsTheDerivative) {
  Context ctx;
  auto Q = random_reflections<double>(7, 4, 5);
  const Grid<double> X(7, 3, 0, 1), dY(7, 3, 0, 2);
  std::vector<double> grad(28);
  Q.grad(ctx, X.view(), dY.view(), 0, grad);
  const auto loss = [&] {
    Grid<double> Y(7, 3, 0, 3);
    Q.apply(ctx, Op::none, 1, X.view(), 0, Y.view());
    return in_double(Y.view()).cwiseProduct(in_double(dY.view())).sum();
  };
  for (Index i = 0; i < 28; ++i) {
    double& p = Q.vectors().parameters()[static_cast<std::size_t>(i)];
    const double old = p, h = 1e-5;
    p = old + h;
    const double up = loss();
    p = old - h;
    const double down = loss();
    p = old;
    EXPECT_NEAR(grad[static_cast<std::size_t>(i)], (up - down) / (2 * h), 1e-7) << i;
  }
}

TEST(HouseholderProduct, IsOrthogonal) {
  for (const auto& Q : HouseholderCase<double>::samples()) {
    const Eigen::MatrixXd D = Q.to_dense();
    EXPECT_LE((D * D.transpose() - Eigen::MatrixXd::Identity(Q.rows(), Q.rows())).norm(), 1e-12);
    if (Q.rows() == 0) continue;
    EXPECT_NEAR(D.determinant(), Q.log_determinant().determinant(), 1e-12);
    static_assert(std::same_as<decltype(inverse(Q)), Transposed<HouseholderProduct<double>>>);
    EXPECT_TRUE(inverse(Q).to_dense().isApprox(D.transpose(), 1e-13));
  }
}

TEST(HouseholderProduct, IsOrthogonalOfAnyLength) {
  for (const float length : {1e-40f, 1e-24f, 2e-21f, 1e20f, 1e38f}) {
    const Eigen::MatrixXf V = Eigen::MatrixXf::Random(9, 3), scaled = length * V;
    const auto Q = householder_product(scaled);
    const Eigen::MatrixXf D = Q.to_dense();
    EXPECT_LE((D * D.transpose() - Eigen::MatrixXf::Identity(9, 9)).norm(), 1e-5f) << length;
    EXPECT_TRUE(D.isApprox(householder_product(V).to_dense(), length < 1e-38f ? 1e-3f : 1e-5f)) << length;
    EXPECT_EQ(Q.log_determinant().sign, -1) << length;
  }
}

TEST(RandomOrthogonal, IsHaar) {
  const auto Q = random_orthogonal<double>(40, 3);
  const Eigen::MatrixXd D = Q.to_dense();
  EXPECT_LE((D.transpose() * D - Eigen::MatrixXd::Identity(40, 40)).norm(), 1e-13);
  EXPECT_NE(random_orthogonal<double>(40, 4).to_dense(), D);
  // Without the signs the first entry would never be positive. E[q²] = 1/n, E[trace²] = 1.
  double positive = 0, square = 0, trace2 = 0;
  constexpr int draws = 400;
  for (int s = 0; s < draws; ++s) {
    const Eigen::MatrixXd q = random_orthogonal<double>(4, static_cast<std::uint64_t>(100 + s)).to_dense();
    positive += q(0, 0) > 0;
    square += q(0, 0) * q(0, 0) / draws;
    trace2 += q.trace() * q.trace() / draws;
  }
  EXPECT_NEAR(positive / draws, 0.5, 0.1);
  EXPECT_NEAR(square, 0.25, 0.04);
  EXPECT_NEAR(trace2, 1, 0.3);
}

TEST(Hashed, FoldsLoadAllParametersAlike) {
  const Hashed<double> W(50, 41, random_buffer<double>(301, 5), 9);
  std::vector<int> load(301);
  for (Index k = 0; k < 50 * 41; ++k) ++load[static_cast<std::size_t>(W.slot(k))];
  const auto [least, most] = std::minmax_element(load.begin(), load.end());
  EXPECT_LE(*most - *least, 1);
  // Hashing each entry on its own loads them unevenly.
  std::vector<int> plain(301);
  for (Index k = 0; k < 50 * 41; ++k) ++plain[Philox(9).below(static_cast<std::uint64_t>(k), 301)];
  EXPECT_GT(*std::max_element(plain.begin(), plain.end()) - *std::min_element(plain.begin(), plain.end()), 5);
}

TEST(Hashed, WithoutCompressionIsTheFullMatrix) {
  const auto w = random_buffer<double>(12 * 7, 6);
  const Hashed<double> W(12, 7, w, 8);
  EXPECT_EQ(W.to_dense(), Dense<double>(MatrixView<const double>(w.data(), 12, 7)).to_dense());
  EXPECT_EQ(W.gradient_scale(), 1.0);
  EXPECT_THROW(Hashed<double>(2, 2, Buffer<double>(5)), shape_error);
  EXPECT_THROW(Hashed<double>(2, 2, Buffer<double>(0)), shape_error);
}

/// |W X - B|² after 40 steps of gradient descent at a rate that suits the full matrix, over where it began.
double trained(double init, bool scaled) {
  const Index M = 24, N = 16;
  auto w = random_buffer<double>(M * N / 8, 7);
  for (double& x : w) x *= 0.1;
  Hashed<double> W(M, N, std::move(w), 8, init);
  Grid<double> inputs(N, 64, 0, 10);
  const Eigen::MatrixXd X = in_double(inputs.view()) / 8;
  const Hashed<double> planted(M, N, random_buffer<double>(M * N / 8, 11), 8, 1.0);
  const Eigen::MatrixXd B = planted * X;
  double first = 0, last = 0;
  std::vector<double> grad(static_cast<std::size_t>(W.parameter_count()));
  for (int step = 0; step < 40; ++step) {
    Eigen::MatrixXd error = W * X;
    error -= B;
    last = error.squaredNorm();
    if (step == 0) first = last;
    W.grad(default_context(), view(std::as_const(X)), view(std::as_const(error)), 0, grad);
    const double rate = 0.5 * (scaled ? W.gradient_scale() : 1.0);
    for (std::size_t i = 0; i < grad.size(); ++i) W.parameters()[i] -= rate * grad[i];
  }
  return last / first;
}

TEST(Hashed, ScaledGradientsAreStableOverInitialisations) {
  for (const double init : {0.01, 0.1, 1.0, 10.0, 100.0}) EXPECT_LT(trained(init, true), 1e-2) << init;
  EXPECT_GT(trained(0.01, false), 0.9);     // nothing moves
  EXPECT_FALSE(trained(100.0, false) < 1);  // diverges
}

}  // namespace
}  // namespace tessera::test
