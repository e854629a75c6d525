// The structured types of the simple kind in double, and what they know beyond the laws: determinants, compositions,
// decompositions.
#include <matrix/simple_cases.hpp>
#include <tessera/matrix/inverse.hpp>

namespace tessera::test {
/// Solutions' errors scale with the condition, not with the entries of the inverse.
template <class A>
struct InverseTruth {
  static Eigen::MatrixXd value(const A& a) { return to_dense(a); }
  static Eigen::MatrixXd magnitude(const A& a) {
    const Eigen::MatrixXd v = value(a);
    return Eigen::MatrixXd::Constant(v.rows(), v.cols(), v.size() > 0 ? 4 * v.cwiseAbs().maxCoeff() : 0.0);
  }
  static double roundings(const A& a, Op) { return 2.0 * static_cast<double>(a.rows()) + 16; }
  static double extra(const A&, Op, Index, VectorView<const double>) { return 0; }
};
template <>
struct Truth<LuInverse<double>> : InverseTruth<LuInverse<double>> {};
template <>
struct Truth<BandedInverse<double>> : InverseTruth<BandedInverse<double>> {};
template <class A>
struct Truth<Inverse<A>> : InverseTruth<Inverse<A>> {};

namespace TESSERA_TEST_FILE {

using Eigen::MatrixXd;
using Eigen::VectorXd;

/// Of what is inverted: well conditioned, or an error would be its condition times larger.
struct LuInverseCase {
  using Operator = LuInverse<double>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (const Index n : {0, 1, 2, 17, 40})
      all.emplace_back(MatrixXd(random_dense<double>(n, n, 96).to_dense() / 8 + 3 * MatrixXd::Identity(n, n)));
    return all;
  }
};
struct BandedInverseCase {
  using Operator = BandedInverse<double>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (const auto& [n, lower, upper] :
         std::vector<std::array<Index, 3>>{{0, 1, 1}, {1, 0, 0}, {20, 1, 1}, {23, 3, 2}})
      all.push_back(inverted(random_banded<double>(n, n, lower, upper, 12)));
    return all;
  }
};
/// Solved with each time.
struct InverseNodeCase {
  using Operator = Inverse<Triangular<double, Shape::lower>>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (auto& L : TriangularCase<double, Shape::lower>::samples()) all.emplace_back(std::move(L));
    return all;
  }
};

using Real = double;
using Types =
    ::testing::Types<BandedCase<Real>, TriangularCase<Real, Shape::lower>, TriangularCase<Real, Shape::unit_upper>,
                     TriangularCase<Real, Shape::upper>, TriangularCase<Real, Shape::unit_lower>,
                     DiagonalPlusLowRankCase<Real>, RangeCase<Real>, GatherCase<Real>, StackCase<Real, true>,
                     StackCase<Real, false>, MixedStackCase<Real>, Block2x2Case<Real>, SparseCase<Real>, LduCase<Real>,
                     LolduCase<Real>, LuInverseCase, BandedInverseCase, InverseNodeCase>;
const bool double_laws = OperatorLaws<Types>::of("Double");

/// det by LU in double, to compare with.
template <class A>
void expect_determinant(const A& a, double tolerance) {
  const MatrixXd dense = to_dense(a).template cast<double>();
  const double det = dense.size() == 0 ? 1 : dense.determinant();
  const auto d = a.log_determinant();
  EXPECT_NEAR(d.log_abs, std::log(std::abs(det)), tolerance) << describe(a);
  EXPECT_EQ(d.sign, det < 0 ? -1 : 1) << describe(a);
}

TEST(ClosedForms, DeterminantsOfBandsTrianglesAndPermutations) {
  for (const auto& [n, lower, upper] : std::vector<std::array<Index, 3>>{{1, 0, 0}, {12, 1, 1}, {13, 3, 2}, {9, 8, 8}})
    expect_determinant(random_banded<double>(n, n, lower, upper), 1e-10);
  for (const auto& a : TriangularCase<double, Shape::upper>::samples()) expect_determinant(a, 1e-10);
  for (const auto& a : DiagonalPlusLowRankCase<double>::samples()) expect_determinant(a, 1e-10);
  for (const std::vector<Index>& p :
       std::vector<std::vector<Index>>{{0}, {1, 0}, {1, 2, 0}, {3, 0, 2, 1}, {2, 3, 0, 1}})
    expect_determinant(permutation<double>(p), 1e-12);
  EXPECT_THROW(random_banded<double>(3, 4, 1, 1).log_determinant(), shape_error);
  EXPECT_EQ(Banded<double>(3, 3, 1, 1).log_determinant().sign, 0);
  const VectorXd d = VectorXd::LinSpaced(4, 0, 3);  // a zero: the lemma does not hold, the sum is regular
  const MatrixXd U = MatrixXd::Random(4, 2), V = MatrixXd::Random(4, 2);
  expect_determinant(diagonal_plus_low_rank(d, U, V), 1e-10);
}

TEST(Banded, SolvesWithPivotingAndKeepsFactors) {
  for (const Index n : {1, 2, 40}) {
    auto A = random_banded<double>(n, n, 2, 1);
    A.diagonal(0)[0] = 0;  // needs an exchange
    if (n == 1) A.diagonal(0)[0] = -2;
    const MatrixXd dense = A.to_dense(), B = MatrixXd::Random(n, 3);
    const auto inv = inverted(A);
    MatrixXd X(n, 3), Y = B;
    for (const Op op : {Op::none, Op::transpose}) {
      const MatrixXd M = op == Op::none ? dense : MatrixXd(dense.transpose());
      A.solve(default_context(), op, view(B), view(X));
      EXPECT_LE((M * X - B).norm(), 1e-12 * (M.norm() * X.norm() + B.norm()));
      Y = B;
      inv.apply(default_context(), op, 2.0, view(B), -1.0, view(Y));
      EXPECT_TRUE(Y.isApprox(2 * X - B, 1e-13));
    }
    EXPECT_NEAR(inv.log_determinant().log_abs, -A.log_determinant().log_abs, 1e-12);
    static_assert(std::same_as<decltype(inverse(inv)), Banded<double>>);
    const Banded<double> back = inverse(inv);
    EXPECT_EQ(back.lower(), A.lower());
    EXPECT_EQ(back.upper(), A.upper());
    EXPECT_LE((back.to_dense() - dense).cwiseAbs().maxCoeff(), 1e-14);
  }
}

TEST(Banded, ComesBackFromFactorsOfAnyBand) {
  for (const auto& [n, lower, upper] :
       std::vector<std::array<Index, 3>>{{0, 0, 0}, {7, 0, 3}, {7, 3, 0}, {9, 8, 8}, {12, 2, 4}}) {
    auto A = random_banded<double>(n, n, lower, upper);
    if (n == 7) std::fill_n(A.diagonal(0).data(), n, 0.0);  // singular
    EXPECT_LE((inverse(BandedInverse<double>(A)).to_dense() - A.to_dense()).norm(), 1e-13) << A.describe();
  }
}

TEST(Banded, TransposesAndIsTridiagonal) {
  const VectorXd low = VectorXd::Random(5), main = VectorXd::Random(6), up = VectorXd::Random(5);
  const auto T = tridiagonal(low, main, up);
  MatrixXd dense = MatrixXd::Zero(6, 6);
  dense.diagonal() = main;
  dense.diagonal(1) = up;
  dense.diagonal(-1) = low;
  EXPECT_EQ(T.to_dense(), dense);
  static_assert(std::same_as<decltype(T.transpose()), Banded<double>>);
  EXPECT_EQ(T.transpose().to_dense(), dense.transpose());
  EXPECT_EQ(T.bytes(), 16 * sizeof(double));
  EXPECT_THROW(tridiagonal(main, main, up), shape_error);
  const auto long_one = random_banded<float>(10000, 10000, 2, 2);  // more than a piece of rows
  const Eigen::VectorXf x = Eigen::VectorXf::Random(10000);
  const Eigen::VectorXf y = long_one * x;
  for (const Index i : {0, 1, 4095, 4096, 8191, 9999}) {
    float sum = 0;
    for (Index d = -2; d <= 2; ++d)
      if (i + d >= 0 && i + d < 10000) sum += long_one.diagonal(d)[std::min(i, i + d)] * x[i + d];
    EXPECT_NEAR(y[i], sum, 1e-5);
  }
}

TEST(Triangular, HoldsHalfAndReadsHalf) {
  const Index n = 200;
  MatrixXd W = MatrixXd::Random(n, n);
  W.triangularView<Eigen::StrictlyUpper>().setConstant(std::numeric_limits<double>::quiet_NaN());
  const auto L = triangular<Shape::lower>(W);
  EXPECT_TRUE(L.to_dense().allFinite());
  EXPECT_LT(L.bytes(), static_cast<std::size_t>(n * n) * sizeof(double) * 2 / 3);
  static_assert(has(properties_of<decltype(L)>, Property::lower));
  static_assert(has(properties_of<decltype(L * L)>, Property::lower));
  static_assert(has(properties_of<decltype(L.transpose())>, Property::upper));
  static_assert(properties_of<decltype(L * L.transpose())> == Property::none);
  EXPECT_THROW((triangular<Shape::upper>(MatrixXd(2, 3))), shape_error);
}

TEST(DiagonalPlusLowRank, IsClosedUnderInversesAndDiagonals) {
  const VectorXd d = VectorXd::Random(9).array() + 3, e = VectorXd::Random(9).array() + 2;
  const MatrixXd U = MatrixXd::Random(9, 2), V = MatrixXd::Random(9, 2);
  const auto A = diagonal_plus_low_rank(d, U, V);
  const auto E = diagonal(e);
  const MatrixXd dense = A.to_dense(), ed = e.asDiagonal();
  const auto inv = inverted(A);
  static_assert(std::same_as<decltype(inv), const DiagonalPlusLowRank<double>>);
  EXPECT_TRUE(inv.to_dense().isApprox(dense.inverse(), 1e-12));
  static_assert(std::same_as<decltype(E * A * E + E), DiagonalPlusLowRank<double>>);
  EXPECT_TRUE((E * A * E + E).to_dense().isApprox(ed * dense * ed + ed, 1e-13));
  EXPECT_TRUE(A.transpose().to_dense().isApprox(dense.transpose(), 1e-14));
}

TEST(DiagonalPlusLowRank, SolvesWithASingularDiagonal) {
  const MatrixXd U = MatrixXd::Random(9, 3), V = MatrixXd::Random(9, 3), B = MatrixXd::Random(9, 2);
  const auto solved = [&](const auto& A, Op op) {
    MatrixXd X(9, 2);
    A.solve(default_context(), op, view(B), view(X));
    return X;
  };
  for (const double small : {0.0, 1e-300, -1e-14, 1e-4})
    for (const Index count : {1, 2, 3}) {
      VectorXd d = VectorXd::Random(9).array() + 2;
      for (Index i = 0; i < count; ++i) d[2 * i + 1] = small;
      const auto A = diagonal_plus_low_rank(d, U, V);
      const MatrixXd dense = A.to_dense(), D = d.asDiagonal();
      for (const Op op : {Op::none, Op::transpose}) {
        const MatrixXd M = op == Op::none ? dense : MatrixXd(dense.transpose()), X = solved(A, op);
        EXPECT_LE((M * X - B).norm(), 1e-13 * (M.norm() * X.norm() + B.norm())) << small << " " << count;
      }
      const double tolerance = small == 1e-4 ? 1e-9 : 1e-11;
      EXPECT_TRUE(inverted(A).to_dense().isApprox(dense.inverse(), tolerance)) << small << " " << count;
      EXPECT_TRUE(to_dense(inverse(diagonal(d) + low_rank(U, V))).isApprox(dense.inverse(), tolerance));
      EXPECT_TRUE(to_dense(inverse(2.0 * diagonal(d) + low_rank(U, V))).isApprox((dense + D).inverse(), tolerance));
      expect_determinant(A, 1e-10);
      EXPECT_EQ(A.solve_method(), detail::concat("Woodbury, bordered by ", A.solve_method().substr(22, 1),
                                                 " zero or small entries of d"));
    }
  VectorXd d = VectorXd::Ones(9);
  d.head(4).setZero();  // more zeros than ranks
  const auto singular = diagonal_plus_low_rank(d, U, V);
  EXPECT_FALSE(solved(singular, Op::none).allFinite());
  EXPECT_EQ(singular.log_determinant().sign, 0);
  MatrixXd W = V;
  W.col(1) = W.col(0);
  d = VectorXd::Ones(9);
  d.head(3).setZero();
  const auto twice = diagonal_plus_low_rank(d, U, W);  // three zeros, two ranks
  const MatrixXd X = solved(twice, Op::none);
  EXPECT_FALSE((twice.to_dense() * X - B).norm() < 1e-6 * B.norm());
  const auto plain = diagonal_plus_low_rank(VectorXd(VectorXd::Ones(4)), MatrixXd(4, 0), MatrixXd(4, 0));
  EXPECT_EQ(plain.solve_method(), "division");
  EXPECT_EQ(plain.log_determinant().sign, 1);
}

TEST(DiagonalPlusLowRank, SolvesInPlaceAndWhereBIsAPartOfX) {
  const Index m = 9;
  VectorXd d = VectorXd::Random(m).array() + 2;
  d[3] = 0;
  for (const Index rank : {3, 0}) {
    if (rank == 0) d[3] = 1;
    const auto A = diagonal_plus_low_rank(d, MatrixXd(MatrixXd::Random(m, rank)), MatrixXd(MatrixXd::Random(m, rank)));
    const MatrixXd B = MatrixXd::Random(m, m);
    MatrixXd X(m, m);
    A.solve(default_context(), Op::none, view(B), view(X));
    for (const bool turned : {false, true}) {
      MatrixXd both = turned ? MatrixXd(B.transpose()) : B;
      const MatrixView<double> in = view(both);
      A.solve(default_context(), Op::none, turned ? in.transposed() : in, in);
      EXPECT_EQ(both, X);
    }
  }
}

TEST(RangesAndGathers, ComposeAndMakeViews) {
  const MatrixXd W = MatrixXd::Random(9, 7);
  const DenseView V(view(W));
  const auto every_other = Range<double>(9, 1, 4, 2) * V;
  static_assert(std::same_as<decltype(every_other), const DenseView<double>>);
  EXPECT_EQ(every_other.to_dense(), W(Eigen::seq(1, 7, 2), Eigen::all));
  EXPECT_EQ((reversal<double>(9) * V).to_dense(), W.colwise().reverse());
  EXPECT_EQ((V * reversal<double>(7).transpose()).to_dense(), W.rowwise().reverse());
  EXPECT_EQ((reversal<double>(9) * reversal<double>(9)).to_dense(), MatrixXd::Identity(9, 9));

  const Dense<double> A(W);
  static_assert(std::same_as<decltype(slice(A, 1, 3, 2, 4)), DenseView<double>>);
  EXPECT_EQ(slice(A, 1, 3, 2, 4).to_dense(), W.block(1, 2, 3, 4));
  EXPECT_TRUE(slice(2.0 * A, 1, 3, 2, 4).to_dense().isApprox(2.0 * W.block(1, 2, 3, 4)));
  EXPECT_THROW(slice(A, 7, 3, 0, 1), shape_error);

  const std::vector<Index> rows = {8, 0, 0, 3}, cols = {6, 1}, p = {2, 0, 3, 1}, q = {4, 3, 2, 1, 0, 5, 6, 7, 8};
  EXPECT_TRUE(gather(A, rows, cols).to_dense().isApprox(W(rows, cols)));
  const Gather<double> G(9, rows);
  const auto P = permutation<double>(p), Q = permutation<double>(q);
  const Range<double> R(4, 3, 2, -2), S(12, 2, 9);
  static_assert(std::same_as<decltype(P * G * Q * S), Gather<double>>);
  static_assert(std::same_as<decltype(R * G), Gather<double>>);
  static_assert(std::same_as<decltype(R * P), Gather<double>>);
  const auto expect_product = [](const auto& value, const MatrixXd& expected) {
    EXPECT_EQ(value.to_dense(), expected);
  };
  expect_product(P * G * Q * S, P.to_dense() * G.to_dense() * Q.to_dense() * S.to_dense());
  expect_product(R * G, R.to_dense() * G.to_dense());
  expect_product(R * P, R.to_dense() * P.to_dense());
  expect_product(Q * S, Q.to_dense() * S.to_dense());
  const std::vector<Index> outside = {9};
  EXPECT_THROW(Gather<double>(9, outside), shape_error);
  EXPECT_THROW(Range<double>(9, 5, 5), shape_error);
}

TEST(Stack, RefusesWhatDoesNotFit) {
  try {
    vertical_stack(random_dense<float>(2, 3, 1), random_dense<float>(2, 4, 1));
    FAIL();
  } catch (const shape_error& e) {
    EXPECT_STREQ(e.what(), "tessera: vertical stack of (Dense 2x3) and (Dense 2x4): columns 3 != 4");
  }
}

TEST(Block2x2, DeterminantIsThatOfTheSchurComplement) {
  const VectorXd d = VectorXd::Random(4).array() - 2;
  const auto A = block_2x2(diagonal(d), random_dense<double>(4, 3, 1), random_dense<double>(3, 4, 2),
                           random_dense<double>(3, 3, 3));
  const double det = A.to_dense().determinant();
  EXPECT_NEAR(A.log_determinant().determinant(), det, 1e-12 * std::abs(det));
}

TEST(Block2x2, SolvesByTheBlockThatIsInvertible) {
  const MatrixXd regular = MatrixXd::Random(4, 4) + 3 * MatrixXd::Identity(4, 4), other = MatrixXd::Random(4, 4);
  MatrixXd rank_one = MatrixXd::Zero(4, 4);
  rank_one(0, 0) = 1;
  const MatrixXd zero = MatrixXd::Zero(4, 4), B = MatrixXd::Random(8, 3);
  const auto expect = [&](const MatrixXd& a, const MatrixXd& b, const MatrixXd& c, const MatrixXd& d,
                          const std::string& by) {
    const auto A = block_2x2(Dense<double>(a), Dense<double>(b), Dense<double>(c), Dense<double>(d));
    EXPECT_EQ(A.solve_method(), by);
    const MatrixXd dense = A.to_dense();
    MatrixXd X(8, 3);
    for (const Op op : {Op::none, Op::transpose}) {
      const MatrixXd M = op == Op::none ? dense : MatrixXd(dense.transpose());
      A.solve(default_context(), op, view(B), view(X));
      EXPECT_LE((M * X - B).norm(), 1e-13 * (M.norm() * X.norm() + B.norm())) << by;
    }
    expect_determinant(A, 1e-10);
  };
  expect(regular, other, other, rank_one, "by the Schur complement of A");
  expect(rank_one, other, other.transpose(), regular, "by the Schur complement of D: A is singular");
  expect(zero, regular, other, zero, "by the Schur complement of B: A is singular, D is singular");
  MatrixXd rest = MatrixXd::Identity(4, 4);
  rest(0, 0) = 0;
  expect(rest, rank_one, regular, rest, "by the Schur complement of C: A is singular, D is singular, B is singular");
  // Regular, of singular blocks.
  const auto hard =
      block_2x2(Dense<double>(rank_one), Dense<double>(rest), Dense<double>(rest), Dense<double>(rank_one));
  EXPECT_EQ(hard.solve_method().substr(0, 27), "no block is invertible: A i");
  MatrixXd X(8, 3);
  hard.solve(default_context(), Op::none, view(B), view(X));
  EXPECT_TRUE(X.array().isNaN().all());
  EXPECT_TRUE(std::isnan(hard.log_determinant().log_abs));
  // The largest block leaves the smallest complement; odd sizes exchange with a sign.
  const auto odd = block_2x2(random_dense<double>(3, 5, 1), random_dense<double>(3, 3, 2),
                             random_dense<double>(5, 5, 3), random_dense<double>(5, 3, 4));
  EXPECT_EQ(odd.solve_method(), "by the Schur complement of C");
  expect_determinant(odd, 1e-10);
  const auto wide = block_2x2(random_dense<double>(3, 5, 1), Diagonal<double>(random_buffer<double>(3, 2)),
                              Zero<double>(5, 5), random_dense<double>(5, 3, 4));
  EXPECT_EQ(wide.solve_method(), "by the Schur complement of B");
}

TEST(LowRankPlusSparse, IsTheirSum) {
  const MatrixXd U = MatrixXd::Random(9, 2), V = MatrixXd::Random(7, 2);
  const auto S = random_sparse<double>(9, 7, 95);
  const auto A = low_rank_plus_sparse(U, V, S);
  const MatrixXd dense = U * V.transpose() + MatrixXd(S);
  EXPECT_TRUE(A.to_dense().isApprox(dense, 1e-14));
  const VectorXd x = VectorXd::Random(7), y = A * x, z = A.transpose() * y;
  EXPECT_TRUE(y.isApprox(dense * x, 1e-14));
  EXPECT_TRUE(z.isApprox(dense.transpose() * y, 1e-14));
  EXPECT_TRUE(A.diagonal().isApprox(VectorXd(dense.diagonal()), 1e-14));
  EXPECT_EQ(A.parameter_count(), 2 * (9 + 7) + S.nonZeros());
}

TEST(Ldu, ReconstructsWithUnitTriangles) {  // P L D U Q = W to 1e-10
  for (const auto& [m, n] : std::vector<std::pair<Index, Index>>{{1, 1}, {30, 30}, {20, 45}, {45, 20}}) {
    const MatrixXd W = MatrixXd::Random(m, n);
    const auto ldu = ldu_decompose(W);
    EXPECT_LE((ldu.to_dense() - W).norm(), 1e-10 * W.norm());
    const MatrixXd L = ldu.L().to_dense(), U = ldu.U().to_dense();
    for (Index i = 0; i < ldu.rank(); ++i) {
      EXPECT_EQ(L(i, i), 1);
      EXPECT_EQ(U(i, i), 1);
      EXPECT_EQ(L.col(i).head(i).norm(), 0);
      EXPECT_EQ(U.row(i).head(i).norm(), 0);
    }
    if (m == n) {
      const double det = W.determinant();
      EXPECT_NEAR(ldu.log_determinant().determinant(), det, 1e-9 * std::abs(det));
    }
  }
  MatrixXd singular = MatrixXd::Random(6, 3) * MatrixXd::Random(3, 6);
  EXPECT_LE((ldu_decompose(singular).to_dense() - singular).norm(), 1e-12);
  singular.setZero();
  EXPECT_EQ(ldu_decompose(singular).to_dense().norm(), 0);
  const MatrixXd tiny = 1e-310 * MatrixXd::Random(6, 6);  // of pivots without an inverse
  EXPECT_LE((ldu_decompose(tiny).to_dense() - tiny).cwiseAbs().maxCoeff(), 1e-320);
  EXPECT_EQ(ldu_decompose(MatrixXd(0, 3)).to_dense().cols(), 3);
}

TEST(Loldu, StartsAsItsMatrixWithFewParameters) {
  const MatrixXd W = MatrixXd::Random(24, 16);
  const Loldu<double> layer(W, 5);
  EXPECT_TRUE(layer.to_dense().isApprox(W, 1e-13));
  EXPECT_EQ(layer.parameter_count(), 6);  // r + 1
}

TEST(Loldu, FindsAPlantedDiagonalFasterThanLoraFromNoise) {
  const Index n = 24, r = 6;
  const MatrixXd W = MatrixXd::Random(n, n), X = MatrixXd::Random(n, 64);
  Loldu<double> target(W, r), layer(W, r);
  for (auto& z : target.z()) z *= 1.5;
  const MatrixXd wanted = target * X;
  const double start = (MatrixXd(layer * X) - wanted).squaredNorm();
  // Both descend along their gradients with an exact line search: no step size to favour one.
  const auto descend = [&](auto&& residual, auto&& gradient, auto&& move, double least) {
    int steps = 0;
    for (double loss = start; loss > least * start && steps < 500; ++steps) {
      const auto g = gradient();
      double step = 1;
      for (int halvings = 0; halvings < 60; ++halvings, step /= 2) {
        move(g, -step);
        if (const double now = residual(); now < loss) {
          loss = now;
          break;
        }
        move(g, step);
      }
    }
    return steps;
  };
  using Gradient = std::vector<double>;
  const int loldu_steps =
      descend([&] { return (MatrixXd(layer * X) - wanted).squaredNorm(); },
              [&] {
                const MatrixXd dY = 2 * (MatrixXd(layer * X) - wanted);
                Gradient g(static_cast<std::size_t>(layer.parameter_count()));
                layer.grad(default_context(), view(X), view(dY), 0, g);
                return g;
              },
              [&](const Gradient& g, double step) {
                for_each_parameter(layer, [&, i = std::size_t{0}](double& p) mutable { p += step * g[i++]; });
              },
              1e-2);
  auto lora = low_rank(Dense<double>(MatrixXd::Random(n, r)), Dense<double>(MatrixXd(MatrixXd::Zero(n, r))));
  const MatrixXd base = W * X;
  const int lora_steps = descend([&] { return (base + MatrixXd(lora * X) - wanted).squaredNorm(); },
                                 [&] {
                                   const MatrixXd dY = 2 * (base + MatrixXd(lora * X) - wanted);
                                   Gradient g(static_cast<std::size_t>(lora.parameter_count()));
                                   lora.grad(default_context(), view(X), view(dY), 0, g);
                                   return g;
                                 },
                                 [&](const Gradient& g, double step) {
                                   std::size_t i = 0;
                                   for (auto& p : lora.left().parameters()) p += step * g[i++];
                                   for (auto& p : lora.right().parameters()) p += step * g[i++];
                                 },
                                 1e-2);
  EXPECT_LT(loldu_steps, lora_steps);
}

TEST(Indices, ThatCannotBeAreRefused) {
  EXPECT_THROW(Range<float>(10, 0, 5, Index{1} << 62), shape_error);
  EXPECT_THROW(Range<float>(10, 9, 3, -5), shape_error);
  EXPECT_NO_THROW(Range<float>(10, 9, 10, -1));
  EXPECT_THROW(Gather<float>(-5, std::span<const Index>()), shape_error);
  EXPECT_THROW(BandedInverse<double>(Banded<double>(3, 5, 1, 1)), shape_error);
}

}  // namespace
}  // namespace tessera::test
