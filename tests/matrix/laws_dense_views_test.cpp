#include <support/operator_laws.hpp>
#include <tessera/matrix/dense.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

template <class T>
struct HalfCase {
  using Operator = Dense<T>;
  static std::vector<Operator> samples() {
    const auto values = random_buffer<T>(70 * 129, 21);
    std::vector<Operator> all;
    for (const auto& [rows, cols] : std::vector<std::pair<Index, Index>>{{1, 1}, {17, 5}, {64, 64}, {70, 129}, {0, 3}})
      all.emplace_back(MatrixView<const T>(values.data(), rows, cols));
    return all;
  }
};

struct ViewCase {  // row-major, column-major, strided, reversed
  using Operator = DenseView<float>;
  static std::vector<Operator> samples() {
    static const auto cells = random_buffer<float>(4096, 30);
    return {DenseView<float>(MatrixView<const float>(cells.data(), {17, 9}, {9, 1})),
            DenseView<float>(MatrixView<const float>(cells.data(), {33, 31}, {1, 40})),
            DenseView<float>(MatrixView<const float>(cells.data() + 3, {21, 21}, {61, 2})),
            DenseView<float>(MatrixView<const float>(cells.data() + 400, {13, 20}, {20, -1})),
            DenseView<float>(MatrixView<const float>(cells.data(), {4, 1}, {1, 1}))};
  }
};

struct AnyCase {
  using Operator = AnyOperator<float>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all{Operator()};
    for (const auto& a : ViewCase::samples()) all.emplace_back(a);
    for (const auto& a : HalfCase<bf16>::samples()) all.emplace_back(a);
    return all;
  }
};

using Types = ::testing::Types<HalfCase<bf16>, HalfCase<f16>, ViewCase, AnyCase>;
const bool dense_views_laws = OperatorLaws<Types>::of("DenseViews");

TEST(Any, CopiesShareAndTargetsAreFound) {
  AnyOperator<float> a{Dense<float>(2, 2)};
  AnyOperator<float> b = a;
  a.parameters()[3] = 5;
  EXPECT_EQ(b.target<Dense<float>>()->operator()(1, 1), 5);
  EXPECT_EQ(b.target<Dense<bf16>>(), nullptr);
  EXPECT_EQ(b.parameter_count(), 4);
  const Eigen::MatrixXf W = Eigen::MatrixXf::Ones(2, 2);
  EXPECT_TRUE(AnyOperator<float>(DenseView(view(W))).parameters().empty());
}

}  // namespace
}  // namespace tessera::test
