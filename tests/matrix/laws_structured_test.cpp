#include <array>
#include <numeric>
#include <vector>

#include <support/operator_laws.hpp>
#include <tessera/matrix/block_diagonal.hpp>
#include <tessera/matrix/diagonal.hpp>
#include <tessera/matrix/eigen_sparse.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/low_rank.hpp>
#include <tessera/matrix/permutation.hpp>

namespace tessera::test {

template <class U, class V>
struct Truth<LowRank<U, V>> {
  using A = LowRank<U, V>;
  static Eigen::MatrixXd value(const A& a) {
    return to_dense(a.left()).template cast<double>() * to_dense(a.right()).template cast<double>().transpose();
  }
  static Eigen::MatrixXd magnitude(const A& a) {
    return to_dense(a.left()).template cast<double>().cwiseAbs() *
           to_dense(a.right()).template cast<double>().cwiseAbs().transpose();
  }
  static double roundings(const A& a, Op op) {
    return static_cast<double>((op == Op::none ? a.cols() : a.rows()) + a.rank()) + 6;
  }
  static double extra(const A&, Op, Index, VectorView<const scalar_of<U>>) { return 0; }
};

template <class U, class V, class F>
void for_each_parameter(LowRank<U, V>& a, F&& f) {
  for_each_parameter(a.left(), f);
  for_each_parameter(a.right(), f);
}
template <class B, class F>
void for_each_parameter(BlockDiagonal<B>& a, F&& f) {
  for (Index i = 0; i < static_cast<Index>(a.blocks().size()); ++i) for_each_parameter(a.block(i), f);
}

namespace TESSERA_TEST_FILE {

template <class S>
Dense<S> random_dense(Index rows, Index cols, std::uint64_t seed) {
  const auto values = random_buffer<S>(rows * cols, seed);
  return Dense<S>(MatrixView<const S>(values.data(), rows, cols));
}

template <class S>
struct DiagonalCase {
  using Operator = Diagonal<S>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (const Index n : {0, 1, 15, 33, 100}) all.emplace_back(random_buffer<S>(n, 40));
    return all;
  }
};

template <class S>
struct PermutationCase {
  using Operator = Permutation<S>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (const Index n : {0, 1, 7, 280}) {
      std::vector<Index> p(static_cast<std::size_t>(n));
      std::iota(p.begin(), p.end(), Index{0});
      const Philox draws(41);
      for (std::size_t i = p.size(); i > 1; --i) std::swap(p[i - 1], p[draws.below(i, i)]);
      all.emplace_back(p);
    }
    return all;
  }
};

template <class S>
struct IdentityCase {
  using Operator = Identity<S>;
  static std::vector<Operator> samples() { return {Operator(0), Operator(1), Operator(20)}; }
};

template <class S>
struct ZeroCase {
  using Operator = Zero<S>;
  static std::vector<Operator> samples() { return {Operator(0, 0), Operator(1, 1), Operator(20, 7), Operator(3, 0)}; }
};

template <class S>
struct LowRankCase {
  using Operator = LowRank<Dense<S>, Dense<S>>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (const auto& [m, n, r] : std::vector<std::array<Index, 3>>{{1, 1, 1}, {20, 13, 4}, {9, 30, 2}, {5, 5, 0}})
      all.emplace_back(random_dense<S>(m, r, 42), random_dense<S>(n, r, 43));
    return all;
  }
};

struct Bf16LowRankCase {
  using Operator = LowRank<Dense<bf16>, Dense<bf16>>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    all.emplace_back(random_dense<bf16>(33, 8, 44), random_dense<bf16>(20, 8, 45));
    return all;
  }
};

template <class S>
struct BlockDiagonalCase {
  using Operator = BlockDiagonal<Dense<S>>;
  static std::vector<Operator> samples() {
    std::vector<Dense<S>> many;
    for (std::uint64_t i = 0; i < 12; ++i) many.push_back(random_dense<S>(4, 4, 60 + i));
    return {Operator(), block_diagonal(random_dense<S>(3, 5, 46), random_dense<S>(6, 2, 47)),
            block_diagonal(random_dense<S>(7, 7, 48), random_dense<S>(4, 4, 49)), block_diagonal(std::move(many))};
  }
};

struct MixedBlocksCase {
  using Operator = BlockDiagonal<AnyOperator<double>>;
  static std::vector<Operator> samples() {
    return {block_diagonal(lawful(random_dense<double>(3, 5, 50)),
                           lawful(Diagonal<double>(random_buffer<double>(6, 51))), lawful(Identity<double>(2)),
                           lawful(Zero<double>(1, 3)))};
  }
};

/// A tag changes no product, but for Aᵀ of what is symmetric.
template <Property P, class S>
struct TaggedCase {
  using Operator = Tagged<Dense<S>, P>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (const Index n : {0, 1, 19}) {
      Eigen::MatrixXd A = random_dense<double>(n, n, 53).to_dense();
      if (has(P, Property::psd))
        A = (A * A.transpose()).eval();
      else if (has(P, Property::symmetric))
        A = (A + A.transpose()).eval();
      if (has(P, Property::lower)) A = Eigen::MatrixXd(A.triangularView<Eigen::Lower>());
      if (has(P, Property::upper)) A = Eigen::MatrixXd(A.triangularView<Eigen::Upper>());
      A.diagonal().array() += 9;
      all.emplace_back(Dense<S>(A));
    }
    return all;
  }
};
template <class S>
struct TaggedOrthogonalCase {  // two reflections of a sort: a permutation with signs
  using Operator = Tagged<Dense<S>, Property::orthogonal>;
  static std::vector<Operator> samples() {
    Dense<S> Q(9, 9);
    for (Index i = 0; i < 9; ++i) Q(i, (i * 4 + 2) % 9) = i % 2 == 0 ? S(1) : S(-1);
    return {Operator(std::move(Q))};
  }
};

template <class S>
struct LowRankPlusSparseCase {
  using Operator = Sum<LowRank<Dense<S>, Dense<S>>, EigenSparse<S>>;
  static std::vector<Operator> samples() {
    Eigen::SparseMatrix<S> sparse(20, 13);
    for (int i = 0; i < 20; ++i) sparse.insert(i, i * 5 % 13) = S(1.5) - S(0.25) * static_cast<S>(i);
    return {low_rank_plus_sparse(random_dense<S>(20, 3, 54).to_dense(), random_dense<S>(13, 3, 55).to_dense(), sparse)};
  }
};

using Types = ::testing::Types<
    DiagonalCase<float>, DiagonalCase<double>, PermutationCase<float>, PermutationCase<double>, IdentityCase<float>,
    IdentityCase<double>, ZeroCase<float>, ZeroCase<double>, LowRankCase<float>, LowRankCase<double>, Bf16LowRankCase,
    BlockDiagonalCase<float>, BlockDiagonalCase<double>, MixedBlocksCase, TaggedCase<Property::symmetric, float>,
    TaggedCase<Property::symmetric, double>, TaggedCase<Property::psd, float>, TaggedCase<Property::psd, double>,
    TaggedCase<Property::lower, float>, TaggedCase<Property::lower, double>, TaggedCase<Property::upper, float>,
    TaggedCase<Property::upper, double>, TaggedOrthogonalCase<float>, TaggedOrthogonalCase<double>,
    LowRankPlusSparseCase<float>, LowRankPlusSparseCase<double>>;
const bool structured_laws = OperatorLaws<Types>::of("Structured");

TEST(Permutation, ComposesAndInverts) {
  const auto all = PermutationCase<double>::samples();
  const auto& P = all[3];
  static_assert(std::same_as<decltype(P.transpose()), Permutation<double>>);
  static_assert(std::same_as<decltype(P * P), Permutation<double>>);
  EXPECT_EQ((P * P).to_dense(), P.to_dense() * P.to_dense());
  EXPECT_EQ((P * P.transpose()).to_dense(), Eigen::MatrixXd::Identity(280, 280));
}

TEST(Permutation, RefusesWhatIsNone) {
  const auto make = [](std::vector<Index> p) { return permutation<float>(p); };
  EXPECT_THROW(make({0, 0}), shape_error);
  EXPECT_THROW(make({0, 2}), shape_error);
  EXPECT_THROW(make({-1, 0}), shape_error);
}

TEST(LowRank, RefusesDifferentRanks) {
  const Eigen::MatrixXf U = Eigen::MatrixXf::Ones(5, 2), V = Eigen::MatrixXf::Ones(4, 3);
  try {
    low_rank(U, V);
    FAIL();
  } catch (const shape_error& e) {
    EXPECT_STREQ(e.what(), "tessera: low_rank(Dense 5x2, Dense 4x3): ranks 2 != 3; expected (M,R) and (N,R)");
  }
}

TEST(LowRank, RefersToLvaluesAndTakesTemporaries) {
  Eigen::MatrixXf U = Eigen::MatrixXf::Ones(5, 2);
  const Eigen::MatrixXf V = Eigen::MatrixXf::Ones(4, 2);
  auto a = low_rank(U, V + V);
  static_assert(std::same_as<decltype(a), LowRank<DenseView<float>, Dense<float>>>);
  U *= 2;
  EXPECT_EQ(a.to_dense(), U * (V + V).transpose());
  EXPECT_EQ(a.bytes(), 18 * sizeof(float));
}

TEST(LowRank, DiagonalStaysOfLowRank) {
  const Eigen::MatrixXd U = Eigen::MatrixXd::Random(5, 2), V = Eigen::MatrixXd::Random(4, 2);
  const Eigen::VectorXd d = Eigen::VectorXd::Random(5), e = Eigen::VectorXd::Random(4);
  const auto A = low_rank(U, V);
  const auto left = diagonal(d) * A;
  const auto right = A * diagonal(e);
  static_assert(std::same_as<decltype(left), const LowRank<Dense<double>, DenseView<double>>>);
  static_assert(std::same_as<decltype(right), const LowRank<DenseView<double>, Dense<double>>>);
  EXPECT_TRUE(left.to_dense().isApprox(d.asDiagonal() * U * V.transpose(), 1e-14));
  EXPECT_TRUE(right.to_dense().isApprox(U * V.transpose() * e.asDiagonal(), 1e-14));
  static_assert(std::same_as<decltype(A.transpose()), LowRank<DenseView<double>, DenseView<double>>>);
  EXPECT_TRUE(A.transpose().to_dense().isApprox(V * U.transpose(), 1e-14));
}

TEST(IdentityAndZero, VanishFromExpressions) {
  const Dense<double> W = random_dense<double>(4, 3, 52);
  static_assert(std::same_as<decltype(identity<double>(4) * W), Ref<Dense<double>>>);
  static_assert(std::same_as<decltype(W * identity<double>(3)), Ref<Dense<double>>>);
  static_assert(std::same_as<decltype(zero<double>(2, 4) * W), Zero<double>>);
  static_assert(std::same_as<decltype(W * zero<double>(3, 9)), Zero<double>>);
  static_assert(std::same_as<decltype(W + zero<double>(4, 3)), Ref<Dense<double>>>);
  static_assert(std::same_as<decltype(W.transpose() * identity<double>(4) * W),
                             Product<Transposed<Ref<Dense<double>>>, Ref<Dense<double>>>>);
  const auto nothing = W * zero<double>(3, 9);
  EXPECT_EQ(nothing.rows(), 4);
  EXPECT_EQ(nothing.cols(), 9);
  EXPECT_THROW(W * identity<double>(4), shape_error);
  EXPECT_THROW(zero<double>(2, 3).log_determinant(), shape_error);
  EXPECT_THROW(zero<double>(0, 3).log_determinant(), shape_error);
  EXPECT_EQ(zero<double>(0, 0).log_determinant().sign, 1);
  EXPECT_EQ(zero<double>(2, 2).log_determinant().sign, 0);
}

TEST(Diagonal, MultipliesAndAdds) {
  const Eigen::VectorXf d = Eigen::VectorXf::Random(6), e = Eigen::VectorXf::Random(6);
  const auto D = diagonal(d), E = diagonal(e);
  static_assert(std::same_as<decltype(D * E), Diagonal<float>>);
  static_assert(std::same_as<decltype(D + E), Diagonal<float>>);
  EXPECT_EQ((D * E).diagonal(), d.cwiseProduct(e));
  EXPECT_EQ((D + E).diagonal(), d + e);
  EXPECT_EQ(diagonal(d.transpose()).diagonal(), d);
}

}  // namespace
}  // namespace tessera::test
