// Random expressions of up to five levels over all types against the same expressions of dense matrices.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <support/forwarding.hpp>
#include <support/oracle.hpp>
#include <tessera/matrix/any.hpp>
#include <tessera/matrix/banded.hpp>
#include <tessera/matrix/bitmap.hpp>
#include <tessera/matrix/block_2x2.hpp>
#include <tessera/matrix/block_diagonal.hpp>
#include <tessera/matrix/bsr.hpp>
#include <tessera/matrix/butterfly.hpp>
#include <tessera/matrix/circulant.hpp>
#include <tessera/matrix/coo.hpp>
#include <tessera/matrix/csc.hpp>
#include <tessera/matrix/csr_delta.hpp>
#include <tessera/matrix/dft.hpp>
#include <tessera/matrix/dia.hpp>
#include <tessera/matrix/diagonal_plus_low_rank.hpp>
#include <tessera/matrix/eigen_sparse.hpp>
#include <tessera/matrix/gather.hpp>
#include <tessera/matrix/hadamard.hpp>
#include <tessera/matrix/hashed.hpp>
#include <tessera/matrix/householder.hpp>
#include <tessera/matrix/hypersparse.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/inverse.hpp>
#include <tessera/matrix/khatri_rao.hpp>
#include <tessera/matrix/kronecker.hpp>
#include <tessera/matrix/kronecker_sum.hpp>
#include <tessera/matrix/ldu.hpp>
#include <tessera/matrix/monarch.hpp>
#include <tessera/matrix/monarch_chain.hpp>
#include <tessera/matrix/monarch_dft.hpp>
#include <tessera/matrix/monarch_product.hpp>
#include <tessera/matrix/nm.hpp>
#include <tessera/matrix/packed.hpp>
#include <tessera/matrix/permutation.hpp>
#include <tessera/matrix/quantized.hpp>
#include <tessera/matrix/quantized_block_circulant.hpp>
#include <tessera/matrix/quantized_khatri_rao.hpp>
#include <tessera/matrix/quantized_monarch.hpp>
#include <tessera/matrix/quantized_monarch_chain.hpp>
#include <tessera/matrix/quantized_rows.hpp>
#include <tessera/matrix/quantized_sparse.hpp>
#include <tessera/matrix/quantized_structures.hpp>
#include <tessera/matrix/quantized_triangular.hpp>
#include <tessera/matrix/sell.hpp>
#include <tessera/matrix/stack.hpp>
#include <tessera/matrix/sum_of.hpp>
#include <tessera/matrix/tiled_csl.hpp>
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

/// What a tree asks of a leaf.
template <class A>
struct Leaf : Forwarding<Leaf<A>, A> {
  using Forwarding<Leaf, A>::Forwarding;
  double flops(Index columns) const { return tessera::flops(this->a, columns); }
};
template <class S, class... As>
std::vector<AnyOperator<S>> erased(As... all) {
  return {AnyOperator<S>(Leaf<As>(std::move(all)))...};
}

/// One of every type of matrix/ that has a double Scalar, all (n,n). Not here: what is no matrix (activations, fft,
/// the bases), and eigen_adaptor.hpp, which is for Eigen's solvers.
std::vector<Any> leaves() {
  const auto D = [](Index rows, Index cols, std::uint64_t seed) {
    return Dense<double>(dense_of_size(rows, cols, seed));
  };
  const auto values = [](Index count, std::uint64_t seed) { return random_buffer<double>(count, seed); };
  const auto filled = [&](auto A, std::uint64_t seed) {
    const auto draws = values(static_cast<Index>(A.parameters().size()), seed);
    for (Index i = 0; i < draws.size(); ++i) A.parameters()[static_cast<std::size_t>(i)] = draws[i] / 2;
    return A;
  };
  std::vector<Index> p(n);
  std::iota(p.begin(), p.end(), Index{0});
  const Philox draws(5);
  for (std::size_t i = p.size(); i > 1; --i) std::swap(p[i - 1], p[draws.below(i, i)]);
  const std::vector<Index> picks = {3, 3, 0, 15, 7, 9, 9, 9, 1, 2, 4, 8, 11, 5, 6, 14};
  const MatrixXd sparse = dense_of_size(n, n, 30).unaryExpr([](double x) { return x > 0.2 ? x : 0.0; });
  const Dense<double> zeroed(sparse);
  const Csr<double> rows = csr_from_dense(zeroed.view());
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
  auto all = erased<double>(
      D(n, n, 1), low_rank(D(n, 3, 3), D(n, 3, 4)), diagonal(d), permutation<double>(p), identity<double>(n),
      zero<double>(n, n), block_diagonal(D(5, 5, 6), D(11, 11, 7)), filled(Banded<double>(n, n, 2, 1), 8),
      triangular<Shape::unit_lower>(dense_of_size(n, n, 9)), triangular<Shape::upper>(dense_of_size(n, n, 10)),
      diagonal_plus_low_rank(d, dense_of_size(n, 2, 11), dense_of_size(n, 2, 12)), reversal<double>(n),
      Gather<double>(n, picks), vertical_stack(D(4, n, 13), D(12, n, 14)), horizontal_stack(D(n, 7, 15), D(n, 9, 16)),
      block_2x2(D(6, 6, 17), D(6, 10, 18), D(10, 6, 19), D(10, 10, 20)), eigen_sparse(sparse.sparseView()), rows,
      coo_from_csr(rows), csc_from_csr(rows), csr_delta_from_csr(rows), bsr_from_csr(rows, 4, 1),
      sell_from_csr(rows, 4, 8), tiled_csl_from_csr(rows), bitmap_from_csr(rows), dia_from_csr(rows),
      hypersparse_from_csr(rows), nm_from_csr(rows, 4, 4), ldu_decompose(dense_of_size(n, n, 21), 5),
      Loldu<double>(dense_of_size(n, n, 22), 3), filled(Monarch<double>(n, n, 4, 4), 23),
      filled(Butterfly<double>(n), 24), Kronecker(D(2, 4, 25), D(8, 4, 26)), KroneckerSum(D(4, 4, 27), D(4, 4, 28)),
      KhatriRao<double>(D(4, n, 29), D(4, n, 32)), Hadamard<double>(n), random_orthogonal<double>(n, 36),
      random_reflections<double>(n, 5, 37), Hashed<double>(n, n, values(40, 38), 3, 0.5),
      Circulant<double>(scaled(n, 39)), BlockCirculant<double>(4, 4, 4, scaled(64, 40)),
      Toeplitz<double>(n, n, scaled(2 * n - 1, 41)), Hankel<double>(n, n, scaled(2 * n - 1, 42)), Dct<double>(n),
      Dft<double>(n / 2), filled(MonarchChain<double>({2, 4, 2}), 43), MonarchConvolution<double>(filter), pack(square),
      low_rank_plus_sparse(dense_of_size(n, 2, 44), dense_of_size(n, 2, 45), sparse.sparseView()),
      sum_of(std::vector<Dense<double>>{D(n, n, 46), D(n, n, 47)}),
      sum_of(std::vector<KroneckerOf<Dense<double>>>{kronecker(std::vector{D(4, 4, 48), D(4, 4, 49)}),
                                                     kronecker(std::vector{D(2, 8, 52), D(8, 2, 53)})}),
      inverse(Dense<double>(regular)), inverse(band),
      inverse(diagonal(Eigen::VectorXd(d.array() + 3)) + low_rank(D(n, 2, 54), D(n, 2, 55))),
      symmetric(Dense<double>(half)), positive_semidefinite(Dense<double>(MatrixXd(square * square.transpose()))),
      orthogonal(random_reflections<double>(n, 3, 56) * Hadamard<double>(n)),
      lower(Dense<double>(MatrixXd(square.triangularView<Eigen::Lower>()))),
      upper(Dense<double>(MatrixXd(square.triangularView<Eigen::Upper>()))));
  all.push_back(symmetric(Any(Dense<double>(half))));  // closed forms and all
  return all;
}

/// What is of Scalar float: small floats, quantized weights, views; all (n,n).
class FloatLeaves {
 public:
  FloatLeaves() {
    const auto fill = [](auto& m, std::uint64_t seed) {
      const auto draws = random_buffer<float>(static_cast<Index>(m.parameters().size()), seed);
      for (Index i = 0; i < draws.size(); ++i)
        m.parameters()[static_cast<std::size_t>(i)] = std::remove_cvref_t<decltype(m.parameters()[0])>(draws[i] / 2);
    };
    fill(a_, 61);
    fill(b_, 62);
    fill(half_, 63);
    fill(chain_, 64);
    for (Index i = 0; i < n; ++i) {
      std::array<float, Q8_0::block_size> row{};  // filled up with zeros
      for (Index j = 0; j < n; ++j) row[static_cast<std::size_t>(j)] = w_(i, j);
      Q8_0::encode(row, blocks_[static_cast<std::size_t>(i)]);
    }
  }
  std::vector<AnyOperator<float>> all() const {
    Context ctx;
    const MatrixView<const float> W = view(w_);
    const auto thin = low_rank(Dense<float>(w_.leftCols(3)), Dense<float>(w_.rightCols(3)));
    return erased<float>(
        DenseView(view(w_)), DenseView(view(w_.transpose())), Dense<bf16>(w_), Dense<f16>(w_),
        low_rank(Dense<bf16>(w_.leftCols(3)), Dense<bf16>(w_.rightCols(3))), pack(w_), a_, half_,
        MonarchView<float>(a_), monarch_product(a_, b_), MonarchView<float>(b_) * MonarchView<float>(a_),
        quantize<Q8_0>(ctx, W).activations(Activations::exact), quantize<Q4_0>(ctx, W).activations(Activations::exact),
        quantize_rows<Integers<8>>(ctx, W).activations(Activations::exact), quantize<Integers<4>>(ctx, a_),
        quantize<Integers<4>>(ctx, chain_), QuantizedView<Q8_0>(n, n, blocks_).activations(Activations::exact),
        pack_block_sparse(held_, 4).activations(Activations::exact),
        pack_n_of_m(held_, 4, 4).activations(Activations::exact),
        quantize_sparse(held_).activations(Activations::exact),
        CsrView<float>(n, n, held_.row_ptr(), held_.col_idx(), held_.values()),
        quantize<Q8_0>(ctx, thin, Activations::exact),
        quantize<Q8_0>(ctx, triangular<Shape::lower>(W), Activations::exact),
        quantize<Q8_0>(ctx, khatri_rao(Dense<float>(w_.topRows(4)), Dense<float>(w_.bottomRows(4))),
                       Activations::exact),
        quantize<Integers<8>>(ctx, BlockCirculant<float>(4, 4, 4, random_buffer<float>(64, 65)), Activations::exact));
  }

 private:
  Eigen::MatrixXf w_ = dense_of_size(n, n, 60).cast<float>();
  Monarch<float> a_{n, n, 4, 4}, b_{n, n, 2, 8};
  Monarch<bf16> half_{n, n, 4, 4};
  MonarchChain<float> chain_{{4, 4}};
  Csr<float> held_ = csr_from_dense(view(w_).transposed());
  std::vector<Q8_0::Block> blocks_ = std::vector<Q8_0::Block>(n);
};

template <class S>
struct Tree {
  AnyOperator<S> op;
  MatrixXd value;
  double size;  // what rounding errors scale with
  mutable bool used = false;
};

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : draws_(seed) {}
  Index below(Index bound) { return static_cast<Index>(draws_.below(at_++, static_cast<std::uint64_t>(bound))); }
  template <class S>
  const Tree<S>& one_of(const std::vector<Tree<S>>& all) {
    const Tree<S>& one = all[static_cast<std::size_t>(below(static_cast<Index>(all.size())))];
    one.used = true;
    return one;
  }

 private:
  Philox draws_;
  std::uint64_t at_ = 0;
};

template <class S>
Tree<S> random_tree(const std::vector<Tree<S>>& all, Draw& draw, int depth) {
  using Held = AnyOperator<S>;
  if (depth == 0 || draw.below(6) == 0) return draw.one_of(all);
  const auto branch = [&] { return random_tree(all, draw, depth - 1); };
  switch (draw.below(8)) {
    case 0:
    case 1: {
      const Tree<S> a = branch(), b = branch();
      return {a.op * b.op, a.value * b.value, a.size * b.size};
    }
    case 2: {
      const Tree<S> a = branch(), b = branch();
      return {a.op + b.op, a.value + b.value, a.size + b.size};
    }
    case 3: {
      const Tree<S> a = branch(), b = branch(), c = branch();
      return {S(0.5) * (a.op * b.op) - S(2) * c.op.transpose(), 0.5 * a.value * b.value - 2 * c.value.transpose(),
              0.5 * a.size * b.size + 2 * c.size};
    }
    case 4: {
      const Tree<S> a = branch();
      return {S(-1.5) * a.op.transpose(), -1.5 * a.value.transpose(), 1.5 * a.size};
    }
    case 5: {
      const Tree<S> a = branch(), b = branch();
      return {(a.op * b.op).transpose(), (a.value * b.value).transpose(), a.size * b.size};
    }
    case 6: {
      const Tree<S> a = branch(), b = branch();
      MatrixXd value(n, n);
      value << a.value.topLeftCorner(8, 8), b.value.topRightCorner(8, 8), b.value.bottomLeftCorner(8, 8),
          a.value.bottomRightCorner(8, 8);
      return {block_2x2(Held(slice(a.op, 0, 8, 0, 8)), Held(slice(b.op, 0, 8, 8, 8)), Held(slice(b.op, 8, 8, 0, 8)),
                        Held(slice(a.op, 8, 8, 8, 8))),
              value, a.size + b.size};
    }
    default: {
      const Tree<S> a = branch(), b = branch();
      MatrixXd value(n, n);
      value << a.value.topRows(10), b.value.bottomRows(6);
      return {vertical_stack(Held(slice(a.op, 0, 10, 0, n)), Held(slice(b.op, 10, 6, 0, n))), value, a.size + b.size};
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

template <class S>
void expect_random_trees(const std::vector<AnyOperator<S>>& leaves, double tolerance, std::uint64_t seeds) {
  using Matrix = Eigen::MatrixX<S>;
  std::vector<Tree<S>> all;
  for (const auto& leaf : leaves) {
    ASSERT_EQ(leaf.rows(), n) << describe(leaf);
    ASSERT_EQ(leaf.cols(), n) << describe(leaf);
    const MatrixXd value = to_dense(leaf).template cast<double>();
    all.push_back({leaf, value, value.norm() + 1});
  }
  const Matrix X = dense_of_size(n, 3, 90).cast<S>();
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    Draw draw(seed);
    const Tree<S> tree = random_tree(all, draw, 1 + static_cast<int>(seed % 5));
    Matrix Y(n, 3);
    for (const Op op : {Op::none, Op::transpose}) {
      const MatrixXd expected =
          (op == Op::none ? tree.value : MatrixXd(tree.value.transpose())) * X.template cast<double>();
      tree.op.apply(default_context(), op, S(1), view(X), S(0), view(Y));
      ASSERT_LE((Y.template cast<double>() - expected).norm(), tolerance * tree.size * static_cast<double>(X.norm()))
          << "seed " << seed << ": " << describe(tree.op);
    }
  }
  for (const auto& leaf : all) EXPECT_TRUE(leaf.used) << describe(leaf.op) << " is in no tree";
}

TEST(RandomTrees, AgreeWithDense) {
  const auto all = leaves();
  expect_random_trees<double>(all, 1e-13, 150);
}

TEST(RandomTrees, OfSmallFloatsQuantizedWeightsAndViewsAgreeWithDense) {
  const FloatLeaves leaves;
  expect_random_trees<float>(leaves.all(), 1e-5, 100);
}

/// What is not finite in one column of X stays there, and is in every result that reads it.
template <class S>
void expect_nan_in_its_column(const std::vector<AnyOperator<S>>& leaves) {
  using Matrix = Eigen::MatrixX<S>;
  const Matrix X = dense_of_size(n, 3, 92).cast<S>();
  Matrix spoilt = X, Y(n, 3), Z(n, 3);
  spoilt.col(1).setConstant(std::numeric_limits<S>::quiet_NaN());
  for (const auto& leaf : leaves) {
    const Matrix dense = to_dense(leaf);
    for (const Op op : {Op::none, Op::transpose}) {
      leaf.apply(default_context(), op, S(1), view(X), S(0), view(Y));
      leaf.apply(default_context(), op, S(1), view(std::as_const(spoilt)), S(0), view(Z));
      for (Index i = 0; i < n; ++i) {
        const auto near = [&](Index j) { return std::abs(Y(i, j) - Z(i, j)) <= S(1e-5) * (1 + std::abs(Y(i, j))); };
        EXPECT_TRUE(near(0) && near(2)) << describe(leaf) << " mixes columns, row " << i;
        bool reads = false;
        for (Index k = 0; k < n; ++k) reads = reads || (op == Op::none ? dense(i, k) : dense(k, i)) != S(0);
        EXPECT_TRUE(!reads || std::isnan(Z(i, 1))) << describe(leaf) << " loses a NaN, row " << i;
      }
    }
  }
}

TEST(Leaves, KeepWhatIsNotANumberInItsColumn) {
  expect_nan_in_its_column<double>(leaves());
  expect_nan_in_its_column<float>(FloatLeaves().all());
}

// Times are never tests: what structure saves is counted. bench/README.md has the times.
TEST(Counts, OfStructureAreBelowThoseOfDense) {
  const auto flops_of = [](const auto& A) { return flops(A, 1); };
  const auto bytes_of = [](const auto& A) { return static_cast<double>(bytes(A)); };
  for (const Index root : {32, 64}) {  // Monarch and Kronecker: 4·N^1.5 for 2·N²
    const Index size = root * root;
    const double dense = 2.0 * static_cast<double>(size * size), share = 2.0 / static_cast<double>(root);
    const Monarch<float> M(size, size, root, root);
    const Kronecker K(Dense<float>(root, root), Dense<float>(root, root));
    EXPECT_EQ(flops_of(M), share * dense);
    EXPECT_EQ(bytes_of(M), share * dense * 2);
    EXPECT_EQ(flops_of(K), share * dense);
    EXPECT_EQ(bytes_of(K), static_cast<double>(2 * size) * sizeof(float));
    EXPECT_EQ(flops_of(Monarch<float>(4 * size, 4 * size, 2 * root, 2 * root)), 8 * flops_of(M));  // a slope of 1.5
  }
  EXPECT_EQ(flops_of(MonarchChain<float>({16, 16, 16})), 2.0 * 4096 * 48);
  EXPECT_EQ(flops_of(Butterfly<float>(4096)), 3.0 * 4096 * 12);
  const Index rank = 64, m = 1000, k = 1500;  // r(m + k)/(mk) of dense
  const auto L = low_rank(Dense<float>(m, rank), Dense<float>(k, rank));
  EXPECT_EQ(flops_of(L),
            flops_of(Dense<float>(m, k)) * static_cast<double>(rank * (m + k)) / static_cast<double>(m * k));
  EXPECT_EQ(bytes_of(L),
            bytes_of(Dense<float>(m, k)) * static_cast<double>(rank * (m + k)) / static_cast<double>(m * k));
}

// Expressions whose types are known, where the rules fire: each is written once, of operators and of their dense
// matrices.

/// `Known::operators` are the operators, `Known::dense` has the same names.
struct Known {
  static Dense<double> D(Index rows, Index cols, std::uint64_t seed) {
    return Dense<double>(dense_of_size(rows, cols, seed));
  }
  static Buffer<double> numbers(Index count, std::uint64_t seed, double first) {
    auto all = random_buffer<double>(count, seed);
    for (auto& x : all) x /= 4;
    all[0] += first;
    return all;
  }
  static Permutation<double> shuffle(Index step) {
    std::vector<Index> p(n);
    for (Index i = 0; i < n; ++i) p[static_cast<std::size_t>(i)] = (i * step + 3) % n;
    return permutation<double>(p);
  }
  template <class A>
  static A filled(A a, std::uint64_t seed) {
    const auto draws = random_buffer<double>(static_cast<Index>(a.parameters().size()), seed);
    for (Index i = 0; i < draws.size(); ++i) a.parameters()[static_cast<std::size_t>(i)] = draws[i] / 2;
    return a;
  }
  static MatrixXd regular(std::uint64_t seed) { return dense_of_size(n, n, seed) + 3 * MatrixXd::Identity(n, n); }
  static Banded<double> band_matrix() {
    auto B = filled(Banded<double>(n, n, 1, 2), 120);
    for (Index i = 0; i < n; ++i) B.diagonal(0)[i] = 4;
    return B;
  }

  struct Operators {
    Dense<double> W{regular(101)}, V{regular(102)};
    DenseView<double> w = DenseView<double>(V.view());
    LowRank<Dense<double>, Dense<double>> L{D(n, 2, 103), D(n, 2, 104)};
    Diagonal<double> d = diagonal(Eigen::VectorXd(dense_of_size(n, 1, 105).array() + 4)),
                     e = diagonal(Eigen::VectorXd(dense_of_size(n, 1, 106).array() + 5));
    Permutation<double> P = shuffle(3), Q = shuffle(5);
    Identity<double> I{n};
    Zero<double> Z{n, n};
    BlockDiagonal<Dense<double>> B = block_diagonal(D(5, 5, 107), D(11, 11, 108));
    Monarch<double> M = filled(Monarch<double>(n, n, 4, 4), 109);
    MonarchView<double> m{M};
    Circulant<double> C{numbers(n, 110, 6)}, c{numbers(n, 111, 7)};
    Hadamard<double> H{n};
    DiagonalPlusLowRank<double> R = diagonal_plus_low_rank(Eigen::VectorXd(dense_of_size(n, 1, 112).array() + 4),
                                                           dense_of_size(n, 2, 113), dense_of_size(n, 2, 114));
    Gather<double> G{n, std::vector<Index>{3, 3, 0, 15, 7, 9, 9, 9, 1, 2, 4, 8, 11, 5, 6, 14}};
    Range<double> S = reversal<double>(n);
    Kronecker<Dense<double>, Dense<double>> K{Dense<double>(MatrixXd(regular(115).topLeftCorner(4, 4))),
                                              Dense<double>(MatrixXd(regular(116).topLeftCorner(4, 4)))};
    HouseholderProduct<double> O = random_reflections<double>(n, 3, 117);
    Banded<double> T = band_matrix();
    Triangular<double, Shape::lower> U = triangular<Shape::lower>(regular(118));
    Dct<double> F{n};
  };
};

/// A dense matrix whose products are made at once, so that each tree is not another type of Eigen's.
struct Value {
  MatrixXd m;
  Value transpose() const { return {m.transpose()}; }
  friend Value operator*(const Value& a, const Value& b) { return {a.m * b.m}; }
  friend Value operator+(const Value& a, const Value& b) { return {a.m + b.m}; }
  friend Value operator-(const Value& a, const Value& b) { return {a.m - b.m}; }
  friend Value operator*(double s, const Value& a) { return {s * a.m}; }
  friend Value operator*(const Value& a, double s) { return {s * a.m}; }
};

/// The same names, dense.
struct KnownDense {
  explicit KnownDense(const Known::Operators& o)
      : W{to_dense(o.W)},
        V{to_dense(o.V)},
        w{to_dense(o.w)},
        L{to_dense(o.L)},
        d{to_dense(o.d)},
        e{to_dense(o.e)},
        P{to_dense(o.P)},
        Q{to_dense(o.Q)},
        I{to_dense(o.I)},
        Z{to_dense(o.Z)},
        B{to_dense(o.B)},
        M{to_dense(o.M)},
        m{to_dense(o.m)},
        C{to_dense(o.C)},
        c{to_dense(o.c)},
        H{to_dense(o.H)},
        R{to_dense(o.R)},
        G{to_dense(o.G)},
        S{to_dense(o.S)},
        K{to_dense(o.K)},
        O{to_dense(o.O)},
        T{to_dense(o.T)},
        U{to_dense(o.U)},
        F{to_dense(o.F)} {}
  Value W, V, w, L, d, e, P, Q, I, Z, B, M, m, C, c, H, R, G, S, K, O, T, U, F;
};

/// A⁻¹ of either kind.
template <class A>
auto inv(const A& a) {
  if constexpr (std::same_as<A, Value>)
    return Value{a.m.inverse()};
  else
    return inverse(a);
}
/// A copy of the node, or of the value.
template <class A>
auto whole(A&& a) {
  return std::remove_cvref_t<A>(std::forward<A>(a));
}

template <class A>
void expect_tree(const A& tree, const MatrixXd& value, int line) {
  const MatrixXd X = dense_of_size(n, 3, 91);
  MatrixXd Y(n, 3);
  for (const Op op : {Op::none, Op::transpose}) {
    tree.apply(default_context(), op, 1.0, view(X), 0.0, view(Y));
    const MatrixXd expected = (op == Op::none ? value : MatrixXd(value.transpose())) * X;
    EXPECT_LE((Y - expected).norm(), 1e-12 * (1 + value.norm()) * X.norm()) << "line " << line;
  }
}
#define EXPECT_TREE(...)                                                \
  do {                                                                  \
    const auto tree = [](const auto& o) { return whole(__VA_ARGS__); }; \
    expect_tree(tree(operators), tree(dense).m, __LINE__);              \
  } while (false)

class KnownTrees : public ::testing::Test {
 protected:
  const Known::Operators operators{};
  const KnownDense dense{operators};
};

TEST_F(KnownTrees, OfTransposesMultiplesAndSums) {
  EXPECT_TREE((2 * (o.W * o.L)).transpose());
  EXPECT_TREE(0.5 * (2 * (o.W + o.V.transpose()) - o.K).transpose());
  EXPECT_TREE((o.W * (o.M * o.T).transpose() * 3).transpose() - (o.U + o.B) * 0.25);
  EXPECT_TREE(((o.C * o.W).transpose() + 2 * o.O).transpose() * (o.V - o.F * o.H));
  EXPECT_TREE(-1.5 * ((o.T + o.T.transpose()) * (o.U * o.U.transpose())).transpose());
}

TEST_F(KnownTrees, OfDiagonalsIdentitiesAndZeros) {
  static_assert(std::same_as<decltype(operators.d * operators.e + operators.d), Diagonal<double>>);
  EXPECT_TREE(o.d * o.e + o.d);
  EXPECT_TREE(o.d * (o.L * o.e) + o.I * o.W);
  EXPECT_TREE((o.d * o.B * o.e) * (o.B * o.d).transpose());
  EXPECT_TREE(o.d * o.M * o.e - (o.Z + o.M * o.d).transpose());
  EXPECT_TREE(o.e * o.R * o.d + o.e + (o.d + o.R).transpose());
  EXPECT_TREE((o.W * o.Z + o.V) * (o.I * (o.L * o.I)) + o.Z * o.K);
  EXPECT_TREE((o.d * o.L).transpose() * (o.e * o.W) * o.d);
}

TEST_F(KnownTrees, OfPermutationsGathersAndRanges) {
  static_assert(std::same_as<decltype(operators.P * operators.G * operators.Q * operators.S), Gather<double>>);
  EXPECT_TREE(o.P * o.G * o.Q * o.S);
  EXPECT_TREE(o.S * o.G * (o.S * o.P) * o.W);
  EXPECT_TREE((o.P * o.Q.transpose()) * o.L * (o.Q * o.P));
  EXPECT_TREE(o.S * o.w + o.w * o.S.transpose() - o.S * o.S);
  EXPECT_TREE((o.S * o.w * o.S.transpose()) * (o.G.transpose() * o.G));
  EXPECT_TREE((o.G * (o.G * o.P)).transpose() * (o.P * o.L).transpose());
}

TEST_F(KnownTrees, OfTypesThatMerge) {
  static_assert(std::same_as<decltype(operators.C * operators.c + operators.C), Circulant<double>>);
  static_assert(std::same_as<decltype(operators.H * operators.H), Identity<double>>);
  static_assert(std::same_as<decltype(operators.m * operators.m), MonarchProduct<double>>);
  EXPECT_TREE((o.C * o.c + o.C).transpose() * o.W);
  EXPECT_TREE(o.W * (o.H * o.H) * o.L + 2 * (o.H * o.V * o.H));
  EXPECT_TREE((o.m * o.m) * o.d - o.W * (o.m * o.m).transpose());
  EXPECT_TREE(o.K * o.K + (o.K * o.K.transpose()) * o.W);
  EXPECT_TREE((o.K * o.K).transpose() * (o.R + o.e) * o.L);
}

TEST_F(KnownTrees, OfInverses) {
  EXPECT_TREE(inv(o.d * o.P) * o.W);
  EXPECT_TREE(inv(2 * (o.W * o.d * o.H)) - o.V);
  EXPECT_TREE(inv(o.W + o.L) * o.V.transpose());  // Woodbury
  EXPECT_TREE(inv(o.d + o.L) * inv(o.R) + o.I);
  EXPECT_TREE(inv(inv(o.W * o.U).transpose()) * o.L);
  EXPECT_TREE(inv(o.O * o.F) * o.L + inv(o.C * o.c) * o.W);
  EXPECT_TREE(inv(o.K) * (o.W * inv(o.U.transpose())) + 0.5 * inv(o.T));
  EXPECT_TREE(inv(o.P.transpose() * (3 * o.e) * o.O.transpose()) * (o.W - o.L));
}

}  // namespace
}  // namespace tessera::test
