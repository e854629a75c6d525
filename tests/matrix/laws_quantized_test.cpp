// Quantized matrices keep the laws of operators, up to the rounding of activations.
#include <support/operator_laws.hpp>
#include <tessera/matrix/block_2x2.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/kronecker_sum.hpp>
#include <tessera/matrix/quantized.hpp>
#include <tessera/matrix/quantized_block_circulant.hpp>
#include <tessera/matrix/quantized_khatri_rao.hpp>
#include <tessera/matrix/quantized_rows.hpp>
#include <tessera/matrix/quantized_sparse.hpp>
#include <tessera/matrix/quantized_structures.hpp>
#include <tessera/matrix/quantized_triangular.hpp>
#include <tessera/matrix/stack.hpp>
#include <unsupported/Eigen/KroneckerProduct>

namespace tessera::test {

template <class Matrix>
struct QuantizedTruth {
  using A = Matrix;
  static Eigen::MatrixXd value(const A& a) { return a.to_dense().template cast<double>(); }
  static Eigen::MatrixXd magnitude(const A& a) { return value(a).cwiseAbs(); }
  static double roundings(const A& a, Op) { return static_cast<double>(std::max(a.rows(), a.cols())) + 8; }
  static double extra(const A& a, Op op, Index row, VectorView<const float> x) {
    return op == Op::none ? a.error_bound(row, x) : 0;
  }
};
template <class F>
struct Truth<Quantized<F>> : QuantizedTruth<Quantized<F>> {};
template <class F>
struct Truth<ScaledRows<F>> : QuantizedTruth<ScaledRows<F>> {};
template <class S>
struct Truth<QuantizedSparse<S>> : QuantizedTruth<QuantizedSparse<S>> {};

/// Structures of parts whose products are exact up to rounding: those parts' values decide.
template <class A, class Parts>
struct StructureTruth {
  static Eigen::MatrixXd value(const A& a) { return Parts::of(a, false); }
  static Eigen::MatrixXd magnitude(const A& a) { return Parts::of(a, true); }
  static double roundings(const A& a, Op) { return 2.0 * static_cast<double>(a.rows() + a.cols()) + 24; }
  static double extra(const A&, Op, Index, VectorView<const float>) { return 0; }
};
template <class A>
Eigen::MatrixXd part_value(const A& a, bool magnitude) {
  const Eigen::MatrixXd value = to_dense(a).template cast<double>();
  return magnitude ? Eigen::MatrixXd(value.cwiseAbs()) : value;
}
struct LowRankParts {
  template <class A>
  static Eigen::MatrixXd of(const A& a, bool magnitude) {
    return part_value(a.left(), magnitude) * part_value(a.right(), magnitude).transpose();
  }
};
struct KroneckerParts {
  template <class A>
  static Eigen::MatrixXd of(const A& a, bool magnitude) {
    Eigen::MatrixXd product = Eigen::MatrixXd::Ones(1, 1);
    a.for_each_factor(
        [&](const auto& f) { product = Eigen::MatrixXd(Eigen::kroneckerProduct(product, part_value(f, magnitude))); });
    return product;
  }
};
struct TermParts {
  template <class A>
  static Eigen::MatrixXd of(const A& a, bool magnitude) {
    using T = Truth<std::remove_cvref_t<decltype(a.terms()[0])>>;
    Eigen::MatrixXd sum = Eigen::MatrixXd::Zero(a.rows(), a.cols());
    for (const auto& t : a.terms()) sum += magnitude ? T::magnitude(t) : T::value(t);
    return sum;
  }
};
struct BlockParts {
  template <class A>
  static Eigen::MatrixXd of(const A& a, bool magnitude) {
    return part_value(a, magnitude);
  }
};
struct KroneckerSumParts {
  template <class A>
  static Eigen::MatrixXd of(const A& a, bool magnitude) {
    Eigen::MatrixXd sum = Eigen::MatrixXd::Zero(1, 1);
    const auto add = [&](const Eigen::MatrixXd& next) {
      const Eigen::MatrixXd left = Eigen::MatrixXd::Identity(sum.rows(), sum.rows()),
                            right = Eigen::MatrixXd::Identity(next.rows(), next.rows());
      const Eigen::MatrixXd grown = Eigen::kroneckerProduct(sum, right), added = Eigen::kroneckerProduct(left, next);
      sum = grown + added;
    };
    std::apply([&](const auto&... part) { (add(part_value(part, magnitude)), ...); }, a.parts());
    return sum;
  }
};
template <class A>
constexpr bool is_quantized = false;
template <class F>
constexpr bool is_quantized<Quantized<F>> = true;
template <class F>
constexpr bool is_quantized<ScaledRows<F>> = true;
template <class A>
constexpr bool is_quantized<KroneckerOf<A>> = is_quantized<A>;
template <class U, class V>
requires(is_quantized<U> || is_quantized<V>) struct Truth<LowRank<U, V>> : StructureTruth<LowRank<U, V>, LowRankParts> {
};
template <class... As>
requires(is_quantized<As> || ...) struct Truth<Kronecker<As...>> : StructureTruth<Kronecker<As...>, KroneckerParts> {
};
template <class B>
requires is_quantized<B>
struct Truth<BlockDiagonal<B>> : StructureTruth<BlockDiagonal<B>, BlockParts> {
};
template <class F>
struct Truth<QuantizedKhatriRao<F>> : StructureTruth<QuantizedKhatriRao<F>, BlockParts> {};
template <class F, Shape shape>
struct Truth<QuantizedTriangular<F, shape>> : StructureTruth<QuantizedTriangular<F, shape>, BlockParts> {};
template <class F>
struct Truth<QuantizedBlockCirculant<F>> : StructureTruth<QuantizedBlockCirculant<F>, BlockParts> {};
template <class B, bool vertical>
requires is_quantized<B>
struct Truth<Stack<B, vertical>> : StructureTruth<Stack<B, vertical>, BlockParts> {
};
template <class... As>
requires(is_quantized<As> || ...) struct Truth<Block2x2<As...>> : StructureTruth<Block2x2<As...>, BlockParts> {
};
template <class... As>
requires(is_quantized<As> || ...) struct Truth<KroneckerSum<As...>>
    : StructureTruth<KroneckerSum<As...>, KroneckerSumParts> {
};
template <class A>
requires is_quantized<A>
struct Truth<KroneckerOf<A>> : StructureTruth<KroneckerOf<A>, KroneckerParts> {
};
template <class A>
requires is_quantized<A>
struct Truth<SumOf<A>> : StructureTruth<SumOf<A>, TermParts> {
};

namespace TESSERA_TEST_FILE {

Dense<float> random_dense(Index rows, Index cols, std::uint64_t seed) {
  const auto values = random_buffer<float>(rows * cols, seed);
  return Dense<float>(MatrixView<const float>(values.data(), rows, cols));
}

using LowRankOf = LowRank<Dense<float>, Dense<float>>;
using KroneckerOfTwo = Kronecker<Dense<float>, Dense<float>>;
using BlocksOf = BlockDiagonal<Dense<float>>;
LowRankOf low_rank_sample() { return {random_dense(70, 33, 71), random_dense(40, 33, 72)}; }
KroneckerOfTwo kronecker_sample() { return KroneckerOfTwo(random_dense(5, 6, 73), random_dense(9, 7, 74)); }
BlocksOf blocks_sample() { return block_diagonal(random_dense(17, 5, 75), random_dense(3, 40, 76)); }

template <class F>
struct LowRankCase {
  using Operator = decltype(quantize<F>(std::declval<Context&>(), low_rank_sample()));
  static std::vector<Operator> samples() {
    return {quantize<F>(default_context(), low_rank_sample(), Activations::exact)};
  }
};
struct KroneckerCase {
  using Operator = decltype(quantize<Q8_0>(std::declval<Context&>(), kronecker_sample()));
  static std::vector<Operator> samples() { return {quantize<Q8_0>(default_context(), kronecker_sample())}; }
};
struct HalfKroneckerCase {
  using Operator = Kronecker<Dense<bf16>, Dense<bf16>>;
  static std::vector<Operator> samples() {
    const auto A = kronecker_sample();
    return {Operator(Dense<bf16>(A.factor<0>().view()), Dense<bf16>(A.factor<1>().view()))};
  }
};
template <class F>
struct BlocksCase {
  using Operator = decltype(quantize<F>(std::declval<Context&>(), blocks_sample()));
  static std::vector<Operator> samples() {
    return {quantize<F>(default_context(), blocks_sample(), Activations::exact)};
  }
};
/// A structure of sample() with every part in Q8_0, its activations exact where it has them.
template <auto sample>
auto quantized_parts() {
  if constexpr (requires(Context & ctx) { quantize<Q8_0>(ctx, sample(), Activations::exact); })
    return quantize<Q8_0>(default_context(), sample(), Activations::exact);
  else
    return quantize<Q8_0>(default_context(), sample());
}
template <auto sample>
struct PartsCase {
  using Operator = decltype(quantized_parts<sample>());
  static std::vector<Operator> samples() { return {quantized_parts<sample>()}; }
};
Ldu<float> ldu_sample() { return ldu_decompose(random_dense(18, 40, 80).to_dense(), 12); }
DiagonalPlusLowRank<float> bordered_sample() {
  return {Diagonal<float>(random_buffer<float>(37, 81)), random_dense(37, 5, 82), random_dense(37, 5, 83)};
}
KroneckerOf<Dense<float>> factors_sample() {
  return kronecker(std::vector{random_dense(5, 6, 84), random_dense(4, 9, 85)});
}
SumOf<KroneckerOf<Dense<float>>> sum_sample() { return sum_of(std::vector{factors_sample(), factors_sample()}); }

KhatriRao<float> khatri_rao_sample() { return {random_dense(6, 37, 86), random_dense(35, 37, 87)}; }
BlockCirculant<float> block_circulant_sample() { return {5, 6, 9, random_buffer<float>(5 * 6 * 9, 88)}; }
template <Shape shape>
Triangular<float, shape> triangular_sample() {
  Dense<float> W = random_dense(150, 150, 89);
  for (Index i = 0; i < 150; ++i)
    for (Index j = 0; j < 150; ++j) W(i, j) = W(i, j) / 64 + (i == j ? 2.0f : 0.0f);
  return triangular<shape>(W.view());
}

struct HalfBlocksCase {
  using Operator = BlockDiagonal<Dense<bf16>>;
  static std::vector<Operator> samples() {
    std::vector<Dense<bf16>> blocks;
    const BlocksOf sample = blocks_sample();
    for (const auto& b : sample.blocks()) blocks.emplace_back(b.view());
    return {Operator(std::move(blocks))};
  }
};

Dense<bf16> half(Index rows, Index cols, std::uint64_t seed) {
  return Dense<bf16>(random_dense(rows, cols, seed).view());
}
Quantized<Q8_0> bytes_of(Index rows, Index cols, std::uint64_t seed) {
  return quantize<Q8_0>(default_context(), random_dense(rows, cols, seed).view()).activations(Activations::exact);
}
template <auto block, bool vertical>
struct StackCase {
  using Operator = Stack<decltype(block(0, 0, 0)), vertical>;
  static std::vector<Operator> samples() {
    if (vertical) return {Operator({block(4, 33, 86), block(0, 33, 87), block(19, 33, 88)})};
    return {Operator({block(21, 3, 86), block(21, 0, 87), block(21, 37, 88)})};
  }
};
struct Block2x2Case {  // solved by the blocks that are of numbers
  using Operator = Block2x2<Dense<bf16>, Quantized<Q8_0>, Quantized<Q8_0>, Dense<bf16>>;
  static std::vector<Operator> samples() {
    return {Operator(half(9, 9, 89), bytes_of(9, 35, 90), bytes_of(7, 9, 91), half(7, 35, 92)),
            Operator(half(5, 5, 93), bytes_of(5, 4, 94), bytes_of(4, 5, 95), half(4, 4, 96))};
  }
};
struct KroneckerSumCase {
  using Operator = KroneckerSum<Dense<bf16>, Quantized<Q8_0>>;
  static std::vector<Operator> samples() {
    return {Operator(half(5, 5, 97), bytes_of(33, 33, 98)), Operator(half(1, 1, 97), bytes_of(2, 2, 98))};
  }
};

template <class F>
struct QuantizedCase {
  using Operator = Quantized<F>;
  static std::vector<Operator> samples() {
    Context ctx;
    std::vector<Operator> all;
    for (const auto& [rows, cols] : std::vector<std::pair<Index, Index>>{{1, 32}, {17, 64}, {64, 64}, {5, 50}}) {
      const auto W = random_buffer<float>(rows * cols, 70);
      all.push_back(quantize<F>(ctx, MatrixView<const float>(W.data(), rows, cols)));
    }
    return all;
  }
};

struct ScaledRowsCase {
  using Operator = ScaledRows<Integers<4>>;
  static std::vector<Operator> samples() {
    Context ctx;
    const auto W = random_buffer<float>(17 * 50, 70);
    const MatrixView<const float> all(W.data(), 17, 50);
    return {quantize_rows<Integers<4>>(ctx, all), quantize_rows<Integers<4>>(ctx, all, ScaleOf::tensor, true)};
  }
};

inline auto in_blocks(const Csr<float>& W) { return pack_block_sparse(W, 4); }
inline auto in_groups(const Csr<float>& W) { return pack_n_of_m(W, 4, 8); }
inline auto in_rows(const Csr<float>& W) { return quantize_sparse(W); }

/// Half of the 4×1 blocks, four of each eight columns.
template <auto pack>
struct PrunedCase {
  using Operator = decltype(pack(Csr<float>()));
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (const auto& [rows, cols] : std::vector<std::pair<Index, Index>>{{1, 3}, {18, 40}}) {
      auto W = random_buffer<float>(rows * cols, 70);
      for (Index i = 0; i < W.size(); ++i)
        if ((i / cols / 4 + i % cols) % 2 == 1) W[i] = 0;
      const Operator packed = pack(csr_from_dense(MatrixView<float>(W.data(), rows, cols)));
      for (const Activations mode : {Activations::int8, Activations::exact}) all.push_back(packed.activations(mode));
    }
    return all;
  }
};

using Types = ::testing::Types<
    QuantizedCase<Q8_0>, QuantizedCase<Q4_0>, ScaledRowsCase, PrunedCase<in_blocks>, PrunedCase<in_groups>,
    PrunedCase<in_rows>, LowRankCase<Q8_0>, LowRankCase<Integers<4>>, KroneckerCase, HalfKroneckerCase,
    BlocksCase<Q4_0>, BlocksCase<Integers<4>>, HalfBlocksCase, PartsCase<ldu_sample>, PartsCase<bordered_sample>,
    PartsCase<factors_sample>, PartsCase<sum_sample>, PartsCase<khatri_rao_sample>, PartsCase<block_circulant_sample>,
    PartsCase<triangular_sample<Shape::lower>>, PartsCase<triangular_sample<Shape::unit_upper>>, StackCase<half, true>,
    StackCase<half, false>, StackCase<bytes_of, true>, StackCase<bytes_of, false>, Block2x2Case, KroneckerSumCase>;
const bool quantized_laws = OperatorLaws<Types>::of("Quantized");

// Integer products of activations rounded to int8: a part's own bound is tested by its laws, here their composition.
TEST(QuantizedStructures, ReportsAndProductsOfInt8Activations) {
  Context ctx;
  const LowRankOf A(random_dense(256, 64, 77), random_dense(192, 64, 78));
  Calibration calibration(192);
  const auto X = random_buffer<float>(192 * 20, 79);
  calibration.add(ctx, MatrixView<const float>(X.data(), 192, 20));
  const auto [Q, report] = quantize<Q8_0>(ctx, A, calibration);
  EXPECT_LT(report.weight_error, 0.01);
  EXPECT_LT(report.output_error, 0.01);
  EXPECT_NEAR(static_cast<double>(report.bytes) / static_cast<double>(bytes(A)), 8.5 / 32, 0.01);
  const Eigen::MatrixXf exact = to_dense(A) * detail::eigen_map(MatrixView<const float>(X.data(), 192, 20));
  Eigen::MatrixXf Y(256, 20);
  Q.apply(ctx, Op::none, 1, MatrixView<const float>(X.data(), 192, 20), 0, view(Y));
  EXPECT_LT((Y - exact).norm(), 0.02 * exact.norm());
}

}  // namespace
}  // namespace tessera::test
