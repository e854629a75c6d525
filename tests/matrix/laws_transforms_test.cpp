// Hadamard matrices.
#include <concepts>
#include <vector>

#include <support/operator_laws.hpp>
#include <tessera/expr/inverse.hpp>
#include <tessera/matrix/hadamard.hpp>

namespace tessera::test {
namespace {

template <class S>
struct HadamardCase {
  using Operator = Hadamard<S>;
  static std::vector<Operator> samples() { return {Operator(1), Operator(2), Operator(16), Operator(128)}; }
};

using TransformTypes = ::testing::Types<HadamardCase<float>, HadamardCase<double>>;
INSTANTIATE_TYPED_TEST_SUITE_P(Transforms, OperatorLaws, TransformTypes);

TEST(Hadamard, IsItsOwnInverse) {
  const auto H = hadamard<double>(8);
  static_assert(std::same_as<decltype(H * H), Identity<double>>);
  static_assert(std::same_as<decltype(inverse(H)), Hadamard<double>>);
  static_assert(std::same_as<decltype(H.transpose()), Hadamard<double>>);
  EXPECT_THROW(hadamard<float>(12), shape_error);
  for (const Index n : {1, 2, 4, 32}) {
    const Eigen::MatrixXd D = hadamard<double>(n).to_dense();
    EXPECT_NEAR(D.determinant(), hadamard<double>(n).log_determinant().determinant(), 1e-12);
    EXPECT_NEAR(D.trace(), hadamard<double>(n).diagonal_sum(), 1e-12);
    EXPECT_NEAR(D.norm(), hadamard<double>(n).frobenius_norm(), 1e-12);
    EXPECT_NEAR(hadamard<double>(n).eigenvalues().sum(), D.trace(), 1e-12);
  }
}

}  // namespace
}  // namespace tessera::test
