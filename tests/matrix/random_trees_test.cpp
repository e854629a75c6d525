// Random expressions of up to five levels over all types against the same expressions of dense matrices.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <support/oracle.hpp>
#include <support/shared_kernels.hpp>
#include <tessera/matrix/any.hpp>
#include <tessera/matrix/banded.hpp>
#include <tessera/matrix/block_2x2.hpp>
#include <tessera/matrix/block_diagonal.hpp>
#include <tessera/matrix/butterfly.hpp>
#include <tessera/matrix/circulant.hpp>
#include <tessera/matrix/dft.hpp>
#include <tessera/matrix/diagonal_plus_low_rank.hpp>
#include <tessera/matrix/eigen_sparse.hpp>
#include <tessera/matrix/gather.hpp>
#include <tessera/matrix/hadamard.hpp>
#include <tessera/matrix/hashed.hpp>
#include <tessera/matrix/householder.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/inverse.hpp>
#include <tessera/matrix/khatri_rao.hpp>
#include <tessera/matrix/kronecker.hpp>
#include <tessera/matrix/kronecker_sum.hpp>
#include <tessera/matrix/ldu.hpp>
#include <tessera/matrix/monarch.hpp>
#include <tessera/matrix/monarch_chain.hpp>
#include <tessera/matrix/monarch_dft.hpp>
#include <tessera/matrix/packed.hpp>
#include <tessera/matrix/permutation.hpp>
#include <tessera/matrix/stack.hpp>
#include <tessera/matrix/sum_of.hpp>
#include <tessera/matrix/toeplitz.hpp>
#include <tessera/matrix/triangular.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using Eigen::MatrixXd;
using Any = AnyOperator<double>;
constexpr Index n = 16;

MatrixXd dense_of_size(Index rows, Index cols, std::uint64_t seed) {
  const auto values = random_buffer<double>(rows * cols, seed);
  return Eigen::Map<const MatrixXd>(values.data(), rows, cols) / std::sqrt(static_cast<double>(cols));
}

/// One of every type, all (n,n).
std::vector<Any> leaves() {
  const auto D = [](Index rows, Index cols, std::uint64_t seed) {
    return Dense<double>(dense_of_size(rows, cols, seed));
  };
  const auto values = [](Index count, std::uint64_t seed) { return random_buffer<double>(count, seed); };
  const auto filled = [&](auto A, std::uint64_t seed) {
    const auto draws = values(static_cast<Index>(A.parameters().size()), seed);
    for (Index i = 0; i < draws.size(); ++i) A.parameters()[static_cast<std::size_t>(i)] = draws[i] / 2;
    return Any(std::move(A));
  };
  std::vector<Index> p(n);
  std::iota(p.begin(), p.end(), Index{0});
  const Philox draws(5);
  for (std::size_t i = p.size(); i > 1; --i) std::swap(p[i - 1], p[draws.below(i, i)]);
  const std::vector<Index> picks = {3, 3, 0, 15, 7, 9, 9, 9, 1, 2, 4, 8, 11, 5, 6, 14};
  const MatrixXd sparse = dense_of_size(n, n, 30).unaryExpr([](double x) { return x > 0.2 ? x : 0.0; });
  const Eigen::VectorXd d = dense_of_size(n, 1, 31);
  const MatrixXd square = dense_of_size(n, n, 50), regular = square + 2 * MatrixXd::Identity(n, n);
  const MatrixXd half = square + square.transpose();
  const auto scaled = [&](Index count, std::uint64_t seed) {
    auto all = values(count, seed);
    for (Index i = 0; i < count; ++i) all[i] /= 4;
    return all;
  };
  const auto filter = scaled(n, 51);
  Banded<double> band(n, n, 1, 2);
  for (auto& entry : band.parameters()) entry = 0.25;
  for (Index i = 0; i < n; ++i) band.diagonal(0)[i] = 1.5;
  return {D(n, n, 1),
          low_rank(D(n, 3, 3), D(n, 3, 4)),
          diagonal(d),
          permutation<double>(p),
          identity<double>(n),
          zero<double>(n, n),
          block_diagonal(D(5, 5, 6), D(11, 11, 7)),
          filled(Banded<double>(n, n, 2, 1), 8),
          triangular<Shape::unit_lower>(dense_of_size(n, n, 9)),
          triangular<Shape::upper>(dense_of_size(n, n, 10)),
          diagonal_plus_low_rank(d, dense_of_size(n, 2, 11), dense_of_size(n, 2, 12)),
          reversal<double>(n),
          Gather<double>(n, picks),
          vertical_stack(D(4, n, 13), D(12, n, 14)),
          horizontal_stack(D(n, 7, 15), D(n, 9, 16)),
          block_2x2(D(6, 6, 17), D(6, 10, 18), D(10, 6, 19), D(10, 10, 20)),
          eigen_sparse(sparse.sparseView()),
          ldu_decompose(dense_of_size(n, n, 21), 5),
          Loldu<double>(dense_of_size(n, n, 22), 3),
          filled(Monarch<double>(n, n, 4, 4), 23),
          filled(Butterfly<double>(n), 24),
          Kronecker(D(2, 4, 25), D(8, 4, 26)),
          KroneckerSum(D(4, 4, 27), D(4, 4, 28)),
          KhatriRao<double>(D(4, n, 29), D(4, n, 32)),
          Hadamard<double>(n),
          random_orthogonal<double>(n, 36),
          random_reflections<double>(n, 5, 37),
          Hashed<double>(n, n, values(40, 38), 3, 0.5),
          Circulant<double>(scaled(n, 39)),
          BlockCirculant<double>(4, 4, 4, scaled(64, 40)),
          Toeplitz<double>(n, n, scaled(2 * n - 1, 41)),
          Hankel<double>(n, n, scaled(2 * n - 1, 42)),
          Dct<double>(n),
          Dft<double>(n / 2),
          filled(MonarchChain<double>({2, 4, 2}), 43),
          MonarchConvolution<double>(filter),
          pack(square),
          low_rank_plus_sparse(dense_of_size(n, 2, 44), dense_of_size(n, 2, 45), sparse.sparseView()),
          sum_of(std::vector<Dense<double>>{D(n, n, 46), D(n, n, 47)}),
          sum_of(std::vector<KroneckerOf<Dense<double>>>{kronecker(std::vector{D(4, 4, 48), D(4, 4, 49)}),
                                                         kronecker(std::vector{D(2, 8, 52), D(8, 2, 53)})}),
          inverse(Dense<double>(regular)),
          inverse(band),
          inverse(diagonal(Eigen::VectorXd(d.array() + 3)) + low_rank(D(n, 2, 54), D(n, 2, 55))),
          symmetric(Dense<double>(half)),
          positive_semidefinite(Dense<double>(MatrixXd(square * square.transpose()))),
          orthogonal(random_reflections<double>(n, 3, 56) * Hadamard<double>(n)),
          lower(Dense<double>(MatrixXd(square.triangularView<Eigen::Lower>()))),
          upper(Dense<double>(MatrixXd(square.triangularView<Eigen::Upper>()))),
          symmetric(Any(Dense<double>(half)))};
}

struct Tree {
  Any op;
  MatrixXd value;
  double size;  // what rounding errors scale with
};

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : draws_(seed) {}
  Index below(Index bound) { return static_cast<Index>(draws_.below(at_++, static_cast<std::uint64_t>(bound))); }

 private:
  Philox draws_;
  std::uint64_t at_ = 0;
};

Tree random_tree(const std::vector<Tree>& all, Draw& draw, int depth) {
  if (depth == 0 || draw.below(6) == 0)
    return all[static_cast<std::size_t>(draw.below(static_cast<Index>(all.size())))];
  const auto branch = [&] { return random_tree(all, draw, depth - 1); };
  switch (draw.below(8)) {
    case 0:
    case 1: {
      const Tree a = branch(), b = branch();
      return {a.op * b.op, a.value * b.value, a.size * b.size};
    }
    case 2: {
      const Tree a = branch(), b = branch();
      return {a.op + b.op, a.value + b.value, a.size + b.size};
    }
    case 3: {
      const Tree a = branch(), b = branch(), c = branch();
      return {0.5 * (a.op * b.op) - 2.0 * c.op.transpose(), 0.5 * a.value * b.value - 2 * c.value.transpose(),
              0.5 * a.size * b.size + 2 * c.size};
    }
    case 4: {
      const Tree a = branch();
      return {-1.5 * a.op.transpose(), -1.5 * a.value.transpose(), 1.5 * a.size};
    }
    case 5: {
      const Tree a = branch(), b = branch();
      return {(a.op * b.op).transpose(), (a.value * b.value).transpose(), a.size * b.size};
    }
    case 6: {
      const Tree a = branch(), b = branch();
      MatrixXd value(n, n);
      value << a.value.topLeftCorner(8, 8), b.value.topRightCorner(8, 8), b.value.bottomLeftCorner(8, 8),
          a.value.bottomRightCorner(8, 8);
      return {block_2x2(Any(slice(a.op, 0, 8, 0, 8)), Any(slice(b.op, 0, 8, 8, 8)), Any(slice(b.op, 8, 8, 0, 8)),
                        Any(slice(a.op, 8, 8, 8, 8))),
              value, a.size + b.size};
    }
    default: {
      const Tree a = branch(), b = branch();
      MatrixXd value(n, n);
      value << a.value.topRows(10), b.value.bottomRows(6);
      return {vertical_stack(Any(slice(a.op, 0, 10, 0, n)), Any(slice(b.op, 10, 6, 0, n))), value, a.size + b.size};
    }
  }
}

TEST(RandomTrees, RefuseSizesThatCannotBeCounted) {
  constexpr Index most = std::numeric_limits<Index>::max();
  EXPECT_THROW(MonarchChain<float>({most, 1}), shape_error);
  EXPECT_THROW(MonarchChain<float>({most / 2, 3}), shape_error);
  EXPECT_THROW(Banded<float>(most, most, most, most), shape_error);
  EXPECT_THROW(Toeplitz<float>(most, most, Buffer<float>(1)), shape_error);
  EXPECT_THROW(vertical_stack(Zero<float>(most, 1), Zero<float>(most, 1)), shape_error);
  EXPECT_THROW(block_diagonal(Zero<float>(most, 1), Zero<float>(most, 1)), shape_error);
  EXPECT_THROW(block_2x2(Zero<float>(most, 1), Zero<float>(most, 1), Zero<float>(most, 1), Zero<float>(most, 1)),
               shape_error);
  EXPECT_THROW(Kronecker(Zero<float>(most, 1), Zero<float>(2, 1)), shape_error);
  EXPECT_THROW(KroneckerSum(Zero<float>(most / 2, most / 2), Zero<float>(3, 3)), shape_error);
}

TEST(RandomTrees, AgreeWithDense) {
  std::vector<Tree> all;
  for (const auto& leaf : leaves()) {
    ASSERT_EQ(leaf.rows(), n) << describe(leaf);
    ASSERT_EQ(leaf.cols(), n) << describe(leaf);
    const MatrixXd value = to_dense(leaf);
    all.push_back({leaf, value, value.norm() + 1});
  }
  const MatrixXd X = dense_of_size(n, 3, 90);
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    Draw draw(seed);
    const Tree tree = random_tree(all, draw, 1 + static_cast<int>(seed % 5));
    MatrixXd Y(n, 3);
    for (const Op op : {Op::none, Op::transpose}) {
      const MatrixXd expected = (op == Op::none ? tree.value : MatrixXd(tree.value.transpose())) * X;
      tree.op.apply(default_context(), op, 1.0, view(X), 0.0, view(Y));
      ASSERT_LE((Y - expected).norm(), 1e-13 * tree.size * X.norm()) << "seed " << seed << ": " << describe(tree.op);
    }
  }
}

}  // namespace
}  // namespace tessera::test
