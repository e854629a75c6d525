// The types that the rules make, and the values they stand for.
#include <gtest/gtest.h>

#include <concepts>
#include <limits>
#include <utility>

#include <tessera/matrix/dense.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using D = Dense<double>;
using R = Ref<D>;
using T = Transposed<R>;
using X = EigenLeaf<const Eigen::MatrixXd*>;

struct Rules : ::testing::Test {
  const Eigen::MatrixXd a = Eigen::MatrixXd::Random(4, 4), b = Eigen::MatrixXd::Random(4, 4),
                        c = Eigen::MatrixXd::Random(4, 4), x = Eigen::MatrixXd::Random(4, 3);
  const D A{a}, B{b}, C{c};
  template <class E>
  static void expect(const E& expr, const Eigen::MatrixXd& value) {
    EXPECT_TRUE(expr.to_dense().isApprox(value, 1e-13)) << expr.describe();
  }
};

TEST_F(Rules, TransposePushesDown) {
  static_assert(std::same_as<decltype(A.transpose()), T>);
  static_assert(std::same_as<decltype(A.transpose().transpose()), R>);
  static_assert(std::same_as<decltype((A * B).transpose()), Product<T, T>>);
  static_assert(std::same_as<decltype((A + B).transpose()), Sum<T, T>>);
  static_assert(std::same_as<decltype((2 * A).transpose()), Scaled<T>>);
  expect((A * B.transpose() * C).transpose(), (a * b.transpose() * c).transpose());
  expect((A + 2 * B).transpose(), (a + 2 * b).transpose());
  expect((A * x).transpose(), (a * x).transpose());
}

TEST_F(Rules, ScalesMerge) {
  static_assert(std::same_as<decltype(2 * (3.0 * A)), Scaled<R>>);
  static_assert(std::same_as<decltype((2 * A) * (B * 3)), Scaled<Product<R, R>>>);
  static_assert(std::same_as<decltype(2 * (A + B)), Sum<Scaled<R>, Scaled<R>>>);
  static_assert(std::same_as<decltype(-A / 4), Scaled<R>>);
  EXPECT_EQ((2 * (3.0 * A)).factor(), 6);
  EXPECT_EQ(((2 * A) * (B * 3)).factor(), 6);
  expect(2 * (3.0 * A), 6 * a);
  expect((2 * A) * (B * 3), 6 * a * b);
  expect(-A / 4, -a / 4);
  expect(0.5 * (A - 2 * B), 0.5 * (a - 2 * b));
}

TEST_F(Rules, SumsAndProductsFlatten) {
  static_assert(std::same_as<decltype((A + B) + C), Sum<R, R, R>>);
  static_assert(std::same_as<decltype(A + (B - C)), Sum<R, R, Scaled<R>>>);
  static_assert(std::same_as<decltype((A * B) * C), Product<R, R, R>>);
  static_assert(std::same_as<decltype(A * (B * C)), Product<R, R, R>>);
  static_assert(std::same_as<decltype(A * (B.transpose() * x)), Product<R, T, X>>);
  static_assert(std::same_as<decltype(A * (B + C) * x), Product<R, Sum<R, R>, X>>);
  expect(A + (B - C), a + b - c);
  expect(A * (B * C), a * b * c);
  expect(A * (B + C) * x, a * (b + c) * x);
  expect(A * (B * x + x), a * (b * x + x));
  expect((A * x + x).transpose() * B, (a * x + x).transpose() * b);
}

TEST_F(Rules, OperandsAreHeldLikeViews) {
  static_assert(std::same_as<decltype(A * D(b)), Product<R, D>>);  // a temporary moves in
  static_assert(std::same_as<decltype(A * DenseView(view(b))), Product<R, DenseView<double>>>);
  static_assert(std::same_as<decltype(A * x), Product<R, X>>);
  static_assert(std::same_as<decltype(A * (x + x)), Product<R, EigenLeaf<Eigen::MatrixXd>>>);  // evaluated at once
  static_assert(std::same_as<decltype(A * x.transpose().transpose()),
                             Product<R, EigenLeaf<std::remove_cvref_t<decltype(x.transpose().transpose())>>>>);
  const auto view_only = A * B;  // refers to lvalues only: copied into what it becomes part of
  const auto owning = A * D(b);  // owns B: referred to
  static_assert(std::same_as<decltype(view_only * x), Product<R, R, X>>);
  static_assert(std::same_as<decltype(owning * x), Product<Ref<Product<R, D>>, X>>);
  expect(view_only * x, a * b * x);
  expect(owning * x, a * b * x);
  expect(3 * owning + owning, 4 * a * b);
  const auto twice = 2 * owning;
  expect(twice.transpose() * x, 2 * (a * b).transpose() * x);
}

TEST_F(Rules, NothingDanglesUnderAuto) {
  const auto make = [&] {
    const Eigen::MatrixXd copy = x;
    return D(a) * (D(b) * Eigen::MatrixXd(copy)) + 2 * (D(c) * (copy + copy));
  };
  const auto expr = make();
  const Eigen::MatrixXd overwrite = Eigen::MatrixXd::Constant(64, 64, std::numeric_limits<double>::quiet_NaN());
  expect(expr, a * b * x + 4 * c * x);
  EXPECT_TRUE(overwrite.hasNaN());
}

TEST_F(Rules, LvaluesAreSeenAsTheyAreWhenEvaluated) {
  D W(a);
  const auto expr = W * x;
  W(0, 0) += 1;
  Eigen::MatrixXd changed = a;
  changed(0, 0) += 1;
  expect(expr, changed * x);
}

TEST_F(Rules, ShapesAreCheckedWhenBuilt) {
  const auto message = [](auto&& build) -> std::string {
    try {
      build();
    } catch (const shape_error& e) {
      return e.what();
    }
    return "no error";
  };
  const D W(Eigen::MatrixXd::Ones(5, 3));
  const Eigen::VectorXd v = Eigen::VectorXd::Ones(4);
  EXPECT_EQ(message([&] { W* v; }), "tessera: (Dense 5x3) * (Eigen 4x1): columns 3 != rows 4");
  EXPECT_EQ(message([&] { v* W; }), "tessera: (Eigen 4x1) * (Dense 5x3): columns 1 != rows 5");
  EXPECT_EQ(message([&] { A + W; }), "tessera: (Dense 4x4) + (Dense 5x3): 4x4 != 5x3");
  EXPECT_EQ(message([&] { A* v - W* v.head(3); }),
            "tessera: (Dense 4x4 * Eigen 4x1) - (Dense 5x3 * Eigen 3x1): 4x1 != 5x1");
  EXPECT_EQ(message([&] { (A + B) * W; }), "tessera: (Dense 4x4 + Dense 4x4) * (Dense 5x3): columns 4 != rows 5");
}

TEST_F(Rules, NodesAreOperators) {
  static_assert(LinearOperator<decltype(A * B)> && LinearOperator<decltype(A + B)> && LinearOperator<decltype(2 * A)>);
  static_assert(LinearOperator<T> && Trainable<T> && Trainable<decltype(A + 2 * B)>);
  static_assert(!LinearOperator<decltype(A * x)> && DenseExpression<decltype(A * x)>);
}

}  // namespace
}  // namespace tessera::test
