// Kronecker products, sums of them, Kronecker sums and Khatri–Rao products.
#include <concepts>
#include <unsupported/Eigen/KroneckerProduct>
#include <vector>

#include <support/operator_laws.hpp>
#include <tessera/matrix/khatri_rao.hpp>
#include <tessera/matrix/kronecker_sum.hpp>
#include <tessera/matrix/sum_of.hpp>

namespace tessera::test {

template <class A>
Eigen::MatrixXd kronecker_value(const A& a, bool magnitude) {
  Eigen::MatrixXd product = Eigen::MatrixXd::Ones(1, 1);
  a.for_each_factor([&](const auto& f) {
    Eigen::MatrixXd dense = to_dense(f).template cast<double>();
    if (magnitude) dense = dense.cwiseAbs();
    product = Eigen::MatrixXd(Eigen::kroneckerProduct(product, dense));
  });
  return product;
}
template <class A>
struct KroneckerTruth {
  static Eigen::MatrixXd value(const A& a) { return kronecker_value(a, false); }
  static Eigen::MatrixXd magnitude(const A& a) { return kronecker_value(a, true); }
  static double roundings(const A& a, Op op) {
    double k = 3;
    a.for_each_factor([&](const auto& f) { k += static_cast<double>(op == Op::none ? f.cols() : f.rows()) + 3; });
    return k;
  }
  static double extra(const A&, Op, Index, VectorView<const scalar_of<A>>) { return 0; }
};

namespace TESSERA_TEST_FILE {
template <class S>
Dense<S> random_factor(Index rows, Index cols, std::uint64_t seed) {
  const auto values = random_buffer<S>(rows * cols, seed);
  return Dense<S>(MatrixView<const S>(values.data(), rows, cols));
}
}  // namespace

template <class... As>
struct Truth<Kronecker<As...>> : KroneckerTruth<Kronecker<As...>> {};
template <class A>
struct Truth<KroneckerOf<A>> : KroneckerTruth<KroneckerOf<A>> {};

template <class... As>
struct Truth<KroneckerSum<As...>> {
  using A = KroneckerSum<As...>;
  static Eigen::MatrixXd value(const A& a) { return sum(a, false); }
  static Eigen::MatrixXd magnitude(const A& a) { return sum(a, true); }
  static double roundings(const A& a, Op) { return 2 * static_cast<double>(a.rows()) + 4; }
  static double extra(const A&, Op, Index, VectorView<const scalar_of<A>>) { return 0; }
  static Eigen::MatrixXd sum(const A& a, bool magnitude) {
    Eigen::MatrixXd total = Eigen::MatrixXd::Zero(1, 1);
    const auto add = [&](Eigen::MatrixXd next) {
      if (magnitude) next = next.cwiseAbs().eval();
      const Eigen::MatrixXd left = Eigen::MatrixXd::Identity(total.rows(), total.rows());
      const Eigen::MatrixXd right = Eigen::MatrixXd::Identity(next.rows(), next.rows());
      total =
          Eigen::MatrixXd(Eigen::kroneckerProduct(total, right)) + Eigen::MatrixXd(Eigen::kroneckerProduct(left, next));
    };
    std::apply([&](const auto&... part) { (add(to_dense(part).template cast<double>()), ...); }, a.parts());
    return total;
  }
};

template <class A>
struct Truth<SumOf<A>> {
  static Eigen::MatrixXd value(const SumOf<A>& a) {
    return sum([](const A& t) { return Truth<A>::value(t); }, a);
  }
  static Eigen::MatrixXd magnitude(const SumOf<A>& a) {
    return sum([](const A& t) { return Truth<A>::magnitude(t); }, a);
  }
  static double roundings(const SumOf<A>& a, Op op) {
    return Truth<A>::roundings(a.terms()[0], op) + static_cast<double>(a.terms().size());
  }
  static double extra(const SumOf<A>&, Op, Index, VectorView<const scalar_of<A>>) { return 0; }
  template <class F>
  static Eigen::MatrixXd sum(F&& f, const SumOf<A>& a) {
    Eigen::MatrixXd total = Eigen::MatrixXd::Zero(a.rows(), a.cols());
    for (const A& t : a.terms()) total += f(t);
    return total;
  }
};

/// Of two products the first's result is rounded: entries of `to_dense` and a bound of their size.
template <class L, class R, class M>
struct Truth<detail::KroneckerPair<L, R, M>> {
  using A = detail::KroneckerPair<L, R, M>;
  static Eigen::MatrixXd value(const A& a) { return to_dense(a).template cast<double>(); }
  static Eigen::MatrixXd magnitude(const A& a) {
    const Eigen::MatrixXd v = value(a);
    return Eigen::MatrixXd::Constant(v.rows(), v.cols(), v.size() > 0 ? 4 * v.cwiseAbs().maxCoeff() : 0.0);
  }
  static double roundings(const A& a, Op) { return 2 * static_cast<double>(a.rows() + a.cols()) + 16; }
  static double extra(const A&, Op, Index, VectorView<const scalar_of<L>>) { return 0; }
};

template <class S>
struct Truth<KhatriRao<S>> {
  using A = KhatriRao<S>;
  static Eigen::MatrixXd value(const A& a) { return to_dense(a).template cast<double>(); }
  static Eigen::MatrixXd magnitude(const A& a) { return value(a).cwiseAbs(); }
  static double roundings(const A& a, Op op) {
    return static_cast<double>(op == Op::none ? a.cols() : a.left().rows() + a.right().rows()) + 6;
  }
  static double extra(const A&, Op, Index, VectorView<const accum_t<S>>) { return 0; }
};

template <class... As, class F>
void for_each_parameter(Kronecker<As...>& a, F&& f) {
  [&]<std::size_t... I>(std::index_sequence<I...>) { (for_each_parameter(a.template factor<I>(), f), ...); }
  (std::index_sequence_for<As...>());
}
template <class... As, class F>
void for_each_parameter(KroneckerSum<As...>& a, F&& f) {
  [&]<std::size_t... I>(std::index_sequence<I...>) { (for_each_parameter(a.template part<I>(), f), ...); }
  (std::index_sequence_for<As...>());
}
template <class A, class F>
void for_each_parameter(SumOf<A>& a, F&& f) {
  for (std::size_t i = 0; i < a.terms().size(); ++i) for_each_parameter(a.term(static_cast<Index>(i)), f);
}
template <class S, class F>
void for_each_parameter(KhatriRao<S>& a, F&& f) {
  for_each_parameter(a.left(), f);
  for_each_parameter(a.right(), f);
}

namespace TESSERA_TEST_FILE {

template <class S>
struct TripleCase {
  using D = Dense<S>;
  using Operator = Kronecker<D, D, D>;
  static Operator make(Index a, Index b, Index c, Index d, Index e, Index f) {
    return Operator(random_factor<S>(a, b, 21), random_factor<S>(c, d, 22), random_factor<S>(e, f, 23));
  }
  static std::vector<Operator> samples() {
    return {make(3, 5, 4, 2, 7, 6), make(1, 1, 1, 1, 1, 1), make(2, 3, 0, 4, 3, 2), make(2, 2, 8, 8, 16, 16),
            make(6, 2, 1, 3, 2, 5)};
  }
};
struct BigFactorCase {  // beyond the small products, and slabs 4 KiB apart
  using Operator = Kronecker<Dense<float>, Dense<float>>;
  static std::vector<Operator> samples() {
    return {Operator(random_factor<float>(2, 3, 24), random_factor<float>(70, 66, 25)),
            Operator(random_factor<float>(4, 4, 26), random_factor<float>(64, 64, 27))};
  }
};
struct MixedCase {
  using Operator = Kronecker<Diagonal<double>, Dense<double>, Permutation<double>>;
  static std::vector<Operator> samples() {
    const std::vector<Index> p{2, 0, 1};
    return {Operator(Diagonal<double>(random_buffer<double>(4, 28)), random_factor<double>(5, 5, 29),
                     Permutation<double>(p))};
  }
};
template <class S>
struct RunTimeCase {
  using Operator = KroneckerOf<Dense<S>>;
  static std::vector<Operator> samples() {
    std::vector<Dense<S>> four;
    for (std::uint64_t i = 0; i < 4; ++i) four.push_back(random_factor<S>(3, 3, 30 + i));
    return {Operator({}), Operator({random_factor<S>(5, 4, 35)}), Operator(std::move(four))};
  }
};
template <class S>
struct PairCase {  // merged, and two products whose factors do not fit
  using Two = Kronecker<Dense<S>, Dense<S>>;
  using Operator = decltype(std::declval<const Two&>() * std::declval<const Two&>());
  static Two make(Index a, Index b, Index c, Index d, std::uint64_t seed) {
    return Two(random_factor<S>(a, b, seed), random_factor<S>(c, d, seed + 1));
  }
  static std::vector<Operator> samples() {
    const Two all[] = {make(3, 4, 2, 5, 41), make(4, 2, 5, 3, 43), make(1, 2, 2, 5, 45), make(5, 1, 2, 2, 47),
                       make(2, 3, 1, 2, 49)};
    return {all[0] * all[1], all[2] * all[3], all[3] * all[4]};
  }
};
template <class S>
struct SumOfProductsCase {
  using Pair = Kronecker<Dense<S>, Dense<S>>;
  using Operator = SumOf<Pair>;
  static std::vector<Operator> samples() {
    std::vector<Pair> terms;
    for (std::uint64_t i = 0; i < 3; ++i)
      terms.emplace_back(random_factor<S>(3, 4, 40 + i), random_factor<S>(5, 2, 50 + i));
    return {Operator(std::move(terms))};
  }
};
template <class S>
struct KroneckerSumCase {
  using D = Dense<S>;
  using Operator = KroneckerSum<D, D, D>;
  static std::vector<Operator> samples() {
    return {Operator(random_factor<S>(3, 3, 36), random_factor<S>(5, 5, 37), random_factor<S>(2, 2, 38)),
            Operator(D(1, 1), D(0, 0), D(2, 2))};
  }
};
template <class S>
struct KhatriRaoCase {
  using Operator = KhatriRao<S>;
  static std::vector<Operator> samples() {
    return {Operator(random_factor<S>(4, 7, 33), random_factor<S>(3, 7, 34)),
            Operator(random_factor<S>(9, 3, 35), random_factor<S>(17, 3, 36)),
            Operator(Dense<S>(0, 2), Dense<S>(3, 2))};
  }
};

using KroneckerTypes =
    ::testing::Types<TripleCase<float>, TripleCase<double>, BigFactorCase, MixedCase, RunTimeCase<float>,
                     RunTimeCase<double>, PairCase<float>, PairCase<double>, SumOfProductsCase<float>,
                     SumOfProductsCase<double>, KroneckerSumCase<float>, KroneckerSumCase<double>, KhatriRaoCase<float>,
                     KhatriRaoCase<double>, KhatriRaoCase<bf16>>;
const bool kronecker_family_laws = OperatorLaws<KroneckerTypes>::of("KroneckerFamily");

TEST(Kronecker, ProductsHaveGradients) {  // what does not fit: of both; what is merged: of the merged factors
  using Two = Kronecker<Dense<double>, Dense<double>>;
  const auto draws = random_buffer<double>(12, 50);
  const MatrixView<const double> X(draws.data(), 2, 3), dY(draws.data() + 6, 2, 3);
  const auto as_eigen = [](MatrixView<const double> m) { return detail::eigen_map(m).eval(); };
  Context ctx;
  Two AB(random_factor<double>(1, 2, 45), random_factor<double>(2, 5, 46));
  Two CD(random_factor<double>(5, 1, 47), random_factor<double>(2, 2, 48));
  const auto product = AB * CD;
  ASSERT_EQ(product.merged(), nullptr);
  std::vector<double> gradient(static_cast<std::size_t>(product.parameter_count()), 1);
  product.grad(ctx, X, dY, 0.5, gradient);
  const auto value = [&] {
    const Eigen::MatrixXd y = to_dense(AB) * to_dense(CD) * as_eigen(X);
    return y.cwiseProduct(as_eigen(dY)).sum();
  };
  const double before = value();
  std::size_t k = 0;
  const auto check = [&](Dense<double>& factor) {  // linear in each entry
    for (double& entry : factor.parameters()) {
      entry += 1;
      EXPECT_NEAR(gradient.at(k++), 0.5 + value() - before, 1e-12);
      entry -= 1;
    }
  };
  check(AB.factor<0>());
  check(AB.factor<1>());
  check(CD.factor<0>());
  check(CD.factor<1>());
  EXPECT_EQ(k, gradient.size());

  const Two EF(random_factor<double>(2, 1, 49), random_factor<double>(5, 2, 50));
  const auto merged = AB * EF;
  ASSERT_NE(merged.merged(), nullptr);
  std::vector<double> mine(static_cast<std::size_t>(merged.parameter_count())), its(mine.size());
  merged.grad(ctx, X, dY, 0, mine);
  merged.merged()->grad(ctx, X, dY, 0, its);
  EXPECT_EQ(mine, its);
}

TEST(Kronecker, ProductsMergeFactorByFactor) {  // (A⊗B)(C⊗D) = AC ⊗ BD
  const auto A = random_factor<double>(3, 4, 1), B = random_factor<double>(2, 5, 2);
  const auto C = random_factor<double>(4, 2, 3), D = random_factor<double>(5, 3, 4);
  const auto AB = kronecker(A, B), CD = kronecker(C, D);
  const auto product = AB * CD;
  ASSERT_NE(product.merged(), nullptr);
  static_assert(std::same_as<decltype(product.merged()), const Kronecker<Dense<double>, Dense<double>>*>);
  EXPECT_TRUE(product.to_dense().isApprox(AB.to_dense() * CD.to_dense(), 1e-13));
  EXPECT_EQ(product.bytes(), 6 * sizeof(double) + 6 * sizeof(double));
  // 2x10 and 10x2 multiply, their factors do not.
  const auto left = kronecker(random_factor<double>(1, 2, 5), random_factor<double>(2, 5, 6));
  const auto right = kronecker(random_factor<double>(5, 1, 7), random_factor<double>(2, 2, 8));
  const auto apart = left * right;
  EXPECT_EQ(apart.merged(), nullptr);
  EXPECT_TRUE(apart.to_dense().isApprox(left.to_dense() * right.to_dense(), 1e-13));
  EXPECT_TRUE(apart.transpose().to_dense().isApprox(apart.to_dense().transpose(), 1e-13));
}

TEST(Kronecker, TransposesAndInvertsItsFactors) {
  Eigen::MatrixXd A = Eigen::MatrixXd::Random(4, 4), B = Eigen::MatrixXd::Random(3, 3);
  A.diagonal().array() += 4;
  B.diagonal().array() += 4;
  const auto K = kronecker(A, B);
  static_assert(std::same_as<decltype(K.transpose()), Kronecker<DenseView<double>, DenseView<double>>>);
  EXPECT_EQ(K.transpose().to_dense(), Eigen::MatrixXd(K.to_dense().transpose()));
  const auto inverse_of = inverse(K);
  static_assert(std::same_as<decltype(inverse_of), const Kronecker<LuInverse<double>, LuInverse<double>>>);
  EXPECT_TRUE((inverse_of.to_dense() * K.to_dense()).isApprox(Eigen::MatrixXd::Identity(12, 12), 1e-12));
  EXPECT_TRUE(inverse(inverse_of).to_dense().isApprox(K.to_dense(), 1e-12));
}

TEST(Kronecker, EqualsEigens) {
  const Eigen::MatrixXd A = Eigen::MatrixXd::Random(3, 4), B = Eigen::MatrixXd::Random(5, 2);
  const Eigen::MatrixXd expected = Eigen::kroneckerProduct(A, B);
  EXPECT_EQ(kronecker(A, B).to_dense(), expected);
  const Eigen::VectorXd x = Eigen::VectorXd::Random(8);
  const Eigen::VectorXd y = kronecker(A, B) * x;
  EXPECT_TRUE(y.isApprox(expected * x, 1e-13));
}

TEST(Kronecker, RefusesWhatDoesNotFit) {
  EXPECT_THROW(kronecker_sum(random_factor<double>(2, 3, 1)), shape_error);
  EXPECT_THROW(khatri_rao(random_factor<double>(2, 3, 1), random_factor<double>(2, 4, 1)), shape_error);
  EXPECT_THROW(SumOf<Dense<double>>({}), shape_error);
}

}  // namespace
}  // namespace tessera::test
