#include <array>
#include <vector>

#include <support/operator_laws.hpp>
#include <tessera/matrix/monarch.hpp>
#include <tessera/matrix/monarch_chain.hpp>
#include <tessera/matrix/monarch_dft.hpp>
#include <tessera/matrix/monarch_product.hpp>
#include <tessera/matrix/quantized_monarch.hpp>
#include <tessera/matrix/quantized_monarch_chain.hpp>

namespace tessera::test {

/// L and R as dense factors with the permutation in L: their absolute values bound the rounding.
template <class P>
struct Truth<Monarch<P>> {
  using A = Monarch<P>;
  template <class M>
  static Eigen::MatrixXd factors(const M& a, bool absolute) {
    const auto& s = a.shape();
    Eigen::MatrixXd L = Eigen::MatrixXd::Zero(a.rows(), s.middle()), R = Eigen::MatrixXd::Zero(s.middle(), a.cols());
    for (Index l = 0; l < s.row_blocks; ++l)
      for (Index i = 0; i < s.row_size; ++i)
        for (Index k = 0; k < s.col_blocks * s.rank; ++k)
          L(i * s.row_blocks + l, k * s.row_blocks + l) = static_cast<double>(a.left()(l, i, k));
    for (Index k = 0; k < s.col_blocks; ++k)
      for (Index r = 0; r < s.rank * s.row_blocks; ++r)
        for (Index q = 0; q < s.col_size; ++q)
          R(k * s.rank * s.row_blocks + r, k * s.col_size + q) = static_cast<double>(a.right()(k, r, q));
    return absolute ? Eigen::MatrixXd(L.cwiseAbs() * R.cwiseAbs()) : Eigen::MatrixXd(L * R);
  }
  static Eigen::MatrixXd value(const A& a) { return factors(a, false); }
  static Eigen::MatrixXd magnitude(const A& a) { return factors(a, true); }
  template <class M>
  static double roundings(const M& a, Op op) {
    const auto& s = a.shape();
    return static_cast<double>(s.rank * (s.col_blocks + s.row_blocks) + (op == Op::none ? s.col_size : s.row_size)) + 6;
  }
  static double extra(const A&, Op, Index, VectorView<const accum_t<P>>) { return 0; }
};

template <class P>
struct Truth<MonarchView<P>> : Truth<Monarch<P>> {
  using A = MonarchView<P>;
  static Eigen::MatrixXd value(const A& a) { return Truth<Monarch<P>>::factors(a, false); }
  static Eigen::MatrixXd magnitude(const A& a) { return Truth<Monarch<P>>::factors(a, true); }
  static double extra(const A&, Op, Index, VectorView<const accum_t<P>>) { return 0; }
};
template <class P>
struct Truth<MonarchProduct<P>> {
  using A = MonarchProduct<P>;
  using One = Truth<MonarchView<P>>;
  static Eigen::MatrixXd value(const A& a) { return One::value(a.left()) * One::value(a.right()); }
  static Eigen::MatrixXd magnitude(const A& a) { return One::magnitude(a.left()) * One::magnitude(a.right()); }
  static double roundings(const A& a, Op op) { return One::roundings(a.left(), op) + One::roundings(a.right(), op); }
  static double extra(const A&, Op, Index, VectorView<const accum_t<P>>) { return 0; }
};

/// The factors' absolute values: a product of chains of them.
template <class P>
struct Truth<MonarchChain<P>> {
  using A = MonarchChain<P>;
  static Eigen::MatrixXd value(const A& a) { return to_dense(of(a, false)); }
  static Eigen::MatrixXd magnitude(const A& a) { return to_dense(of(a, true)); }
  static double roundings(const A& a, Op) {
    double sum = 6;
    for (const Index b : a.sizes()) sum += static_cast<double>(b) + 1;
    return sum;
  }
  static double extra(const A&, Op, Index, VectorView<const accum_t<P>>) { return 0; }

 private:
  static MonarchChain<double> of(const A& a, bool absolute) {
    MonarchChain<double> copy(std::vector<Index>(a.sizes().begin(), a.sizes().end()));
    for (std::size_t i = 0; i < a.parameters().size(); ++i) {
      const double p = static_cast<double>(a.parameters()[i]);
      copy.parameters()[i] = absolute ? std::abs(p) : p;
    }
    return copy;
  }
};

/// That of the matrix of numbers it stands for; scales multiply sums.
template <class Q, class Plain>
struct DequantizedTruth {
  static Eigen::MatrixXd value(const Q& a) { return Truth<Plain>::value(a.dequantized()); }
  static Eigen::MatrixXd magnitude(const Q& a) { return Truth<Plain>::magnitude(a.dequantized()); }
  static double roundings(const Q& a, Op op) { return Truth<Plain>::roundings(a.dequantized(), op) + 8; }
  static double extra(const Q&, Op, Index, VectorView<const float>) { return 0; }
};
template <class F>
struct Truth<QuantizedMonarch<F>> : DequantizedTruth<QuantizedMonarch<F>, Monarch<float>> {};
template <class F>
struct Truth<QuantizedMonarchChain<F>> : DequantizedTruth<QuantizedMonarchChain<F>, MonarchChain<float>> {};

/// A transform's rounding scales with all of its input, not with |A|.
template <class T>
struct Truth<MonarchConvolution<T>> {
  using A = MonarchConvolution<T>;
  static Eigen::MatrixXd value(const A& a) { return a.to_dense().template cast<double>(); }
  static Eigen::MatrixXd magnitude(const A& a) {
    double sum = 0;
    for (const T h : a.filter()) sum += std::abs(static_cast<double>(h));
    return Eigen::MatrixXd::Constant(a.rows(), a.cols(), sum);
  }
  static double roundings(const A& a, Op) { return static_cast<double>(a.rows()) + 8; }
  static double extra(const A&, Op, Index, VectorView<const T>) { return 0; }
};

namespace TESSERA_TEST_FILE {

template <class P>
Monarch<P> random_monarch(Index rows, Index cols, Index l, Index k, Index rank, std::uint64_t seed) {
  Monarch<P> M(rows, cols, l, k, rank);
  const Philox draws(seed);
  std::uint64_t i = 0;
  for (auto& p : M.parameters()) p = static_cast<P>(static_cast<float>(draws.normal(i++)));
  return M;
}

template <class P>
struct MonarchCase {
  using Operator = Monarch<P>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    std::uint64_t seed = 70;
    for (const auto& [m, n, l, k, r] : std::vector<std::array<Index, 5>>{{1, 1, 1, 1, 1},
                                                                         {36, 36, 6, 6, 1},
                                                                         {40, 21, 8, 3, 1},
                                                                         {15, 64, 5, 2, 3},
                                                                         {34, 40, 17, 20, 1},
                                                                         {150, 6, 2, 2, 1},
                                                                         {0, 6, 2, 3, 1},
                                                                         {6, 0, 2, 3, 2}})
      all.push_back(random_monarch<P>(m, n, l, k, r, ++seed));
    return all;
  }
};

/// The inner stages apart, and merged: in groups of blocks, into a dense one, with ranks.
template <class P>
struct ProductCase {
  using Operator = MonarchProduct<P>;
  struct Shape {
    Index m, k, n, row_blocks1, col_blocks1, rank1, row_blocks2, col_blocks2, rank2;
    bool merged;
  };
  static const std::vector<Shape>& shapes() {
    static const std::vector<Shape> all{{36, 36, 36, 6, 6, 1, 6, 6, 1, false}, {5, 24, 7, 1, 6, 1, 12, 1, 1, true},
                                        {6, 24, 8, 1, 12, 1, 12, 2, 2, true},  {34, 24, 9, 2, 12, 1, 12, 1, 1, true},
                                        {16, 512, 16, 4, 2, 1, 4, 2, 1, true}, {6, 30, 6, 3, 5, 1, 10, 3, 1, false},
                                        {6, 0, 6, 3, 2, 1, 2, 2, 1, false},    {0, 8, 0, 2, 2, 1, 2, 2, 1, true}};
    return all;
  }
  static std::vector<Operator> samples() {
    static const auto factors = [] {  // the products refer to them
      std::vector<std::array<Monarch<P>, 2>> kept;
      for (const auto& s : shapes())
        kept.push_back({random_monarch<P>(s.m, s.k, s.row_blocks1, s.col_blocks1, s.rank1, 96),
                        random_monarch<P>(s.k, s.n, s.row_blocks2, s.col_blocks2, s.rank2, 97)});
      return kept;
    }();
    std::vector<Operator> all;
    for (const auto& [a, b] : factors) all.push_back(monarch_product(a, b));
    return all;
  }
};

struct ViewOfMonarchCase {
  using Operator = MonarchView<float>;
  static std::vector<Operator> samples() {
    static const auto owners = MonarchCase<float>::samples();
    return {owners.begin(), owners.end()};
  }
};

template <class P>
struct ChainCase {
  using Operator = MonarchChain<P>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (const auto& sizes : std::vector<std::vector<Index>>{{}, {5}, {17, 3}, {3, 4, 5}, {2, 2, 2, 2, 2}}) {
      all.emplace_back(sizes);
      const Philox draws(92);
      std::uint64_t i = 0;
      for (auto& p : all.back().parameters()) p = static_cast<P>(static_cast<float>(draws.normal(i++)));
    }
    return all;
  }
};

template <class Case, class F>
struct QuantizedBlocksCase {
  using Operator = decltype(quantize<F>(std::declval<Context&>(), std::declval<const typename Case::Operator&>()));
  static std::vector<Operator> samples() {
    Context ctx;
    std::vector<Operator> all;
    for (const auto& M : Case::samples()) all.push_back(quantize<F>(ctx, M));
    return all;
  }
};

template <class S>
struct ConvolutionCase {
  using Operator = MonarchConvolution<S>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    for (const Index n : {0, 1, 21}) all.emplace_back(std::span<const S>(random_buffer<S>(n, 93)));
    return all;
  }
};

using Types = ::testing::Types<
    MonarchCase<float>, MonarchCase<double>, MonarchCase<bf16>, ChainCase<float>, ChainCase<double>, ChainCase<bf16>,
    ConvolutionCase<float>, ConvolutionCase<double>, ProductCase<float>, ProductCase<double>, ProductCase<bf16>,
    ViewOfMonarchCase, QuantizedBlocksCase<MonarchCase<float>, Integers<8>>,
    QuantizedBlocksCase<MonarchCase<bf16>, Integers<4>>, QuantizedBlocksCase<ChainCase<float>, Integers<4>>,
    QuantizedBlocksCase<ProductCase<float>, Integers<8>>>;
const bool monarch_laws = OperatorLaws<Types>::of("Monarch");

TEST(Monarch, EveryKernelAgrees) {
  for (const auto& kernel : MonarchKernels::entries<BlockStageArgs<float, float>>()) {
    if (!active_isa().has(kernel.isa)) {
      std::printf("[          ] %s: needs %s\n", std::string(kernel.name).c_str(),
                  std::string(isa_name(kernel.isa)).c_str());
      continue;
    }
    for (const auto& [m, n, l, k, r] : std::vector<std::array<Index, 5>>{
             {96, 144, 16, 12, 1}, {170, 64, 17, 4, 2}, {66, 60, 33, 30, 1}, {420, 20, 3, 5, 1}}) {
      const auto M = random_monarch<float>(m, n, l, k, r, 90);
      const auto subject = make_subject(M);
      for (const Op op : {Op::none, Op::transpose})
        for (const Index cols : {1, 3, 33, 70})
          for (int layout = 0; layout < Grid<float>::layouts; ++layout) {
            Context ctx = Context::with_threads(1 + layout % 2);
            ctx.force(kernel.name);
            const Grid<float> X(subject.cols(op), cols, layout, 1);
            Grid<float> Y(subject.rows(op), cols, layout, 2);
            const Grid<float> before = Y;
            const float beta = layout == 3 ? 0.5f : 0.0f;
            M.apply(ctx, op, 2.0f, X.view(), beta, Y.view());
            expect_applied(subject, op, 2.0f, X.view(), beta, in_double(before.view()), std::as_const(Y).view(),
                           detail::concat(kernel.name, " ", describe(M), " cols ", cols, " layout ", layout));
            EXPECT_TRUE(Y.gaps_equal(before));
          }
    }
  }
}

TEST(QuantizedMonarch, EveryKernelAgrees) {
  for (const auto& kernel : CodedStageKernels::entries<CodedStageArgs<4>>()) {
    if (!active_isa().has(kernel.isa)) continue;
    for (const auto& [m, n, l, k, r] : std::vector<std::array<Index, 5>>{
             {96, 144, 16, 12, 1}, {170, 64, 17, 4, 2}, {66, 60, 33, 30, 1}, {420, 20, 3, 5, 1}, {260, 300, 1, 2, 1}}) {
      Context plain;
      const auto M = random_monarch<float>(m, n, l, k, r, 90);
      const auto eight = quantize<Integers<8>>(plain, M);
      const auto four = quantize<Integers<4>>(plain, M);
      const auto each = [&](const auto& Q) {
        const auto subject = make_subject(Q);
        for (const Op op : {Op::none, Op::transpose})
          for (const Index cols : {1, 3, 35})
            for (int layout = 0; layout < Grid<float>::layouts; ++layout) {
              Context ctx = Context::with_threads(1 + layout % 2);
              ctx.force(kernel.name);
              const Grid<float> X(subject.cols(op), cols, layout, 1);
              Grid<float> Y(subject.rows(op), cols, layout, 2);
              const Grid<float> before = Y;
              const float beta = layout == 3 ? 0.5f : 0.0f;
              Q.apply(ctx, op, 2.0f, X.view(), beta, Y.view());
              expect_applied(subject, op, 2.0f, X.view(), beta, in_double(before.view()), std::as_const(Y).view(),
                             detail::concat(kernel.name, " ", describe(Q), " cols ", cols, " layout ", layout));
              EXPECT_TRUE(Y.gaps_equal(before));
            }
      };
      each(eight);
      each(four);
    }
  }
}

// Rows of 64 normal numbers reach 2.6 sigma: half steps of 2.6/127 and 2.6/8 of it, root mean squares of steps
// /sqrt(12).
TEST(QuantizedMonarch, LosesWhatItsStepsSay) {
  Context ctx;
  const auto M = random_monarch<float>(4096, 4096, 64, 64, 1, 95);
  const auto relative = [&](const auto& Q) {
    double error = 0, size = 0;
    const auto back = Q.dequantized();
    for (std::size_t i = 0; i < M.parameters().size(); ++i) {
      const double p = static_cast<double>(M.parameters()[i]);
      const double e = p - static_cast<double>(back.parameters()[i]);
      error += e * e;
      size += p * p;
    }
    return std::sqrt(error / size);
  };
  const auto eight = quantize<Integers<8>>(ctx, M);
  const auto four = quantize<Integers<4>>(ctx, M);
  EXPECT_LT(relative(eight), 0.0065);
  EXPECT_GT(relative(eight), 0.004);
  EXPECT_LT(relative(four), 0.11);
  EXPECT_GT(relative(four), 0.06);
  const auto count = static_cast<std::size_t>(M.parameter_count());
  EXPECT_EQ(eight.bytes(), count + 2 * 4096 * sizeof(float));
  EXPECT_EQ(four.bytes(), count / 2 + 2 * 4096 * sizeof(float));
}

TEST(QuantizedMonarch, IntegersAreExactAndNaNStays) {
  Context ctx;
  Monarch<float> M(34, 6, 2, 3);
  Index i = 0;
  for (auto& p : M.parameters()) p = static_cast<float>(i++ % 15 - 7);
  for (Index b = 0; b < 2; ++b)
    for (Index s = 0; s < 17; ++s) M.left()(b, s, 0) = -8;
  for (Index b = 0; b < 3; ++b)
    for (Index r = 0; r < 2; ++r) M.right()(b, r, 1) = -8;
  EXPECT_EQ(quantize<Integers<4>>(ctx, M).to_dense(), M.to_dense());
  M.left()(1, 2, 0) = std::numeric_limits<float>::infinity();
  const Eigen::MatrixXf D = quantize<Integers<4>>(ctx, M).to_dense();
  for (Index r = 0; r < 34; ++r) EXPECT_EQ(std::isnan(D(r, 0)), r == 2 * 2 + 1) << r;
}

TEST(MonarchProduct, IsARuleOfViewsThatMergesWhatSavesOperations) {
  const auto products = ProductCase<float>::samples();
  for (std::size_t i = 0; i < products.size(); ++i) {
    EXPECT_EQ(products[i].merged(), ProductCase<float>::shapes()[i].merged) << products[i].describe();
    EXPECT_LE(flops(products[i], 1), flops(products[i].left(), 1) + flops(products[i].right(), 1));
  }
  const auto A = random_monarch<float>(16, 512, 4, 2, 1, 98), B = random_monarch<float>(512, 16, 4, 2, 1, 99);
  const MonarchView<float> a(A), b(B);
  static_assert(std::same_as<decltype(a * b), MonarchProduct<float>>);
  std::string text;
  (a * b).explain(default_context(), Op::none, 3, [&](std::string_view kernel, std::string_view) { text += kernel; });
  EXPECT_NE(text.find("the inner two merged"), std::string::npos) << text;
  EXPECT_THROW(b * b, shape_error);
  EXPECT_THROW(MonarchView<float>(A.shape(), B.parameters().first(3)), shape_error);
}

TEST(Monarch, DiagonalsAreAbsorbed) {
  const auto M = random_monarch<double>(12, 10, 3, 2, 2, 91);
  const Eigen::VectorXd d = Eigen::VectorXd::Random(12), e = Eigen::VectorXd::Random(10);
  const auto left = diagonal(d) * M;
  const auto right = M * diagonal(e);
  static_assert(std::same_as<decltype(left), const Monarch<double>>);
  EXPECT_TRUE(left.to_dense().isApprox(d.asDiagonal() * M.to_dense(), 1e-14));
  EXPECT_TRUE(right.to_dense().isApprox(M.to_dense() * e.asDiagonal(), 1e-14));
}

TEST(Monarch, RefusesBlocksThatDoNotDivide) {
  EXPECT_THROW(Monarch<float>(10, 10, 3, 2), shape_error);
  EXPECT_THROW(Monarch<float>(10, 10, 2, 4), shape_error);
  EXPECT_THROW(Monarch<float>(10, 10, 0, 2), shape_error);
  EXPECT_THROW(Monarch<float>(10, 10, 2, 2, 0), shape_error);
}

}  // namespace
}  // namespace tessera::test
