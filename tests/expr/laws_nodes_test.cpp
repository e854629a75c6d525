// Expressions without Eigen operands are operators, and keep their laws.
#include <support/operator_laws.hpp>
#include <tessera/matrix/dense.hpp>

namespace tessera::test {

template <class A>
struct Truth<Scaled<A>> {
  using S = Scaled<A>;
  static Eigen::MatrixXd value(const S& s) { return static_cast<double>(s.factor()) * Truth<A>::value(s.inner()); }
  static Eigen::MatrixXd magnitude(const S& s) {
    return std::abs(static_cast<double>(s.factor())) * Truth<A>::magnitude(s.inner());
  }
  static double roundings(const S& s, Op op) { return Truth<A>::roundings(s.inner(), op) + 1; }
  static double extra(const S&, Op, Index, VectorView<const scalar_of<A>>) { return 0; }
};
template <class A>
struct Truth<Transposed<A>> {
  using T = Transposed<A>;
  static Eigen::MatrixXd value(const T& t) { return Truth<A>::value(t.inner()).transpose(); }
  static Eigen::MatrixXd magnitude(const T& t) { return Truth<A>::magnitude(t.inner()).transpose(); }
  static double roundings(const T& t, Op op) { return Truth<A>::roundings(t.inner(), flip(op)); }
  static double extra(const T&, Op, Index, VectorView<const scalar_of<A>>) { return 0; }
};
template <class A, class B>
struct Truth<Sum<A, B>> {
  using T = Sum<A, B>;
  static const A& a(const T& t) { return std::get<0>(t.terms()); }
  static const B& b(const T& t) { return std::get<1>(t.terms()); }
  static Eigen::MatrixXd value(const T& t) { return Truth<A>::value(a(t)) + Truth<B>::value(b(t)); }
  static Eigen::MatrixXd magnitude(const T& t) { return Truth<A>::magnitude(a(t)) + Truth<B>::magnitude(b(t)); }
  static double roundings(const T& t, Op op) {
    return Truth<A>::roundings(a(t), op) + Truth<B>::roundings(b(t), op) + 1;
  }
  static double extra(const T&, Op, Index, VectorView<const scalar_of<A>>) { return 0; }
};
template <class A, class B>
struct Truth<Product<A, B>> {
  using T = Product<A, B>;
  static const A& a(const T& t) { return std::get<0>(t.factors()); }
  static const B& b(const T& t) { return std::get<1>(t.factors()); }
  static Eigen::MatrixXd value(const T& t) { return Truth<A>::value(a(t)) * Truth<B>::value(b(t)); }
  static Eigen::MatrixXd magnitude(const T& t) { return Truth<A>::magnitude(a(t)) * Truth<B>::magnitude(b(t)); }
  static double roundings(const T& t, Op op) { return Truth<A>::roundings(a(t), op) + Truth<B>::roundings(b(t), op); }
  static double extra(const T&, Op, Index, VectorView<const scalar_of<A>>) { return 0; }
};

namespace TESSERA_TEST_FILE {

Dense<float> random_dense(Index rows, Index cols, std::uint64_t seed) {
  const auto values = random_buffer<float>(rows * cols, seed);
  return Dense<float>(MatrixView<const float>(values.data(), rows, cols));
}

struct SumCase {
  using Operator = Sum<Dense<float>, Scaled<Dense<float>>>;
  static std::vector<Operator> samples() {
    return {random_dense(7, 9, 1) - random_dense(7, 9, 2), random_dense(20, 20, 3) + 0.5 * random_dense(20, 20, 4)};
  }
};
struct ProductCase {
  using Operator = Product<Transposed<Dense<float>>, Dense<float>>;
  static std::vector<Operator> samples() {
    return {random_dense(5, 12, 5).transpose() * random_dense(5, 9, 6),
            random_dense(30, 4, 7).transpose() * random_dense(30, 4, 8),
            random_dense(0, 4, 9).transpose() * random_dense(0, 3, 10)};
  }
};
struct ScaledCase {
  using Operator = Scaled<Transposed<Dense<float>>>;
  static std::vector<Operator> samples() { return {3 * random_dense(6, 11, 11).transpose()}; }
};
struct RefCase {
  using Operator = Ref<Dense<float>>;
  static std::vector<Operator> samples() {
    static const auto W = random_dense(8, 8, 12);
    return {Operator(W)};
  }
};

using Types = ::testing::Types<SumCase, ProductCase, ScaledCase, RefCase>;
INSTANTIATE_TYPED_TEST_SUITE_P(Nodes, OperatorLaws, Types);

}  // namespace
}  // namespace tessera::test
