// Expressions without Eigen operands are operators, and keep their laws.
#include <support/operator_laws.hpp>
#include <tessera/matrix/dense.hpp>

namespace tessera::test {

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
