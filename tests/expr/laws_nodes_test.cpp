// Expressions without Eigen operands are operators, and keep their laws.
#include <support/operator_laws.hpp>
#include <tessera/matrix/dense.hpp>

namespace tessera::test {

namespace TESSERA_TEST_FILE {

template <class S>
Dense<S> random_dense(Index rows, Index cols, std::uint64_t seed) {
  const auto values = random_buffer<S>(rows * cols, seed);
  return Dense<S>(MatrixView<const S>(values.data(), rows, cols));
}

template <class S>
struct SumCase {
  using Operator = Sum<Dense<S>, Scaled<Dense<S>>>;
  static std::vector<Operator> samples() {
    return {random_dense<S>(7, 9, 1) - random_dense<S>(7, 9, 2),
            random_dense<S>(20, 20, 3) + 0.5 * random_dense<S>(20, 20, 4)};
  }
};
template <class S>
struct ProductCase {
  using Operator = Product<Transposed<Dense<S>>, Dense<S>>;
  static std::vector<Operator> samples() {
    return {random_dense<S>(5, 12, 5).transpose() * random_dense<S>(5, 9, 6),
            random_dense<S>(30, 4, 7).transpose() * random_dense<S>(30, 4, 8),
            random_dense<S>(0, 4, 9).transpose() * random_dense<S>(0, 3, 10)};
  }
};
template <class S>
struct ScaledCase {
  using Operator = Scaled<Transposed<Dense<S>>>;
  static std::vector<Operator> samples() { return {3 * random_dense<S>(6, 11, 11).transpose()}; }
};
template <class S>
struct RefCase {
  using Operator = Ref<Dense<S>>;
  static std::vector<Operator> samples() {
    static const auto W = random_dense<S>(8, 8, 12);
    return {Operator(W)};
  }
};

using Types = ::testing::Types<SumCase<float>, SumCase<double>, ProductCase<float>, ProductCase<double>,
                               ScaledCase<float>, ScaledCase<double>, RefCase<float>, RefCase<double>>;
const bool nodes_laws = OperatorLaws<Types>::of("Nodes");

}  // namespace
}  // namespace tessera::test
