#include <support/operator_laws.hpp>
#include <tessera/matrix/dense.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

template <class T>
struct DenseCase {
  using Operator = Dense<T>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    std::uint64_t seed = 20;
    for (const auto& [rows, cols] :
         std::vector<std::pair<Index, Index>>{{1, 1}, {17, 5}, {5, 33}, {64, 64}, {70, 129}, {0, 3}, {3, 0}, {0, 0}}) {
      const auto values = random_buffer<T>(rows * cols, ++seed);
      all.emplace_back(MatrixView<const T>(values.data(), rows, cols));
    }
    return all;
  }
};

using Types = ::testing::Types<DenseCase<float>, DenseCase<double>>;
const bool dense_laws = OperatorLaws<Types>::of("Dense");

TEST(Dense, CopiesAnyEigenObject) {
  const Eigen::MatrixXf M = Eigen::MatrixXf::Random(4, 3);
  EXPECT_EQ(Dense(M).to_dense(), M);
  EXPECT_EQ(Dense((M + M).transpose()).to_dense(), (M + M).transpose());
  EXPECT_EQ(Dense(M.block(1, 1, 2, 2)).to_dense(), M.block(1, 1, 2, 2));
  EXPECT_EQ(Dense<bf16>(M).to_dense()(3, 2), float(bf16(M(3, 2))));
  EXPECT_EQ(Dense(M.array() * 2).to_dense(), 2 * M);
}

TEST(Dense, RefusesImpossibleSizes) {
  EXPECT_THROW(Dense<float>(-1, 2), shape_error);
  EXPECT_THROW(Dense<float>(std::numeric_limits<Index>::max(), 2), shape_error);
}

TEST(Dense, ViewsOfEigenObjectsKeepTheirStrides) {
  Eigen::MatrixXf M = Eigen::MatrixXf::Random(6, 5);
  const Eigen::Matrix<float, -1, -1, Eigen::RowMajor> R = M;
  const auto expect_same = [](auto v, const Eigen::MatrixXf& expected) {
    ASSERT_EQ(v.rows(), expected.rows());
    ASSERT_EQ(v.cols(), expected.cols());
    for (Index i = 0; i < v.rows(); ++i)
      for (Index j = 0; j < v.cols(); ++j) EXPECT_EQ(v(i, j), expected(i, j));
  };
  expect_same(view(M), M);
  expect_same(view(R), M);
  expect_same(view(M.transpose()), M.transpose());
  expect_same(view(M.row(2)), M.row(2));
  expect_same(view(R.col(3)), R.col(3));
  expect_same(view(M.block(1, 2, 3, 2).transpose()), M.block(1, 2, 3, 2).transpose());
  static_assert(!EigenDirect<decltype(M(Eigen::seq(0, 4, 2), Eigen::seqN(1, 2)))>);
  view(M.row(1))(0, 2) = 42;
  EXPECT_EQ(M(1, 2), 42);
  static_assert(std::same_as<decltype(view(R)), MatrixView<const float>>);
  static_assert(std::same_as<decltype(view(M)), MatrixView<float>>);
}

}  // namespace
}  // namespace tessera::test
