#include <support/operator_laws.hpp>
#include <tessera/matrix/quantized.hpp>

namespace tessera::test {

/// W * x differs from the decoded weights' product by the rounding of x, too.
template <class F>
struct Truth<Quantized<F>> {
  using A = Quantized<F>;
  static Eigen::MatrixXd value(const A& a) { return a.to_dense().template cast<double>(); }
  static Eigen::MatrixXd magnitude(const A& a) { return value(a).cwiseAbs(); }
  static double roundings(const A& a, Op op) { return static_cast<double>(op == Op::none ? a.cols() : a.rows()) + 3; }
  static double extra(const A& a, Op op, Index row, VectorView<const float> x) {
    return op == Op::none ? a.error_bound(row, x) : 0;
  }
};

namespace {

template <class F, Activations Mode>
struct QuantizedCase {
  using Operator = Quantized<F>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    Context ctx;
    std::uint64_t seed = 40;
    for (const auto& [rows, cols] :
         std::vector<std::pair<Index, Index>>{{1, 1}, {17, 5}, {5, 33}, {64, 64}, {70, 129}, {0, 3}, {3, 0}, {0, 0}}) {
      const auto values = random_buffer<float>(rows * cols, ++seed);
      all.push_back(quantize<F>(ctx, MatrixView<const float>(values.data(), rows, cols)).activations(Mode));
    }
    return all;
  }
};

using Types = ::testing::Types<QuantizedCase<Q8_0, Activations::int8>, QuantizedCase<Q4_0, Activations::int8>,
                               QuantizedCase<Q4_1, Activations::int8>, QuantizedCase<Q4_0, Activations::exact>>;
INSTANTIATE_TYPED_TEST_SUITE_P(Quantized, OperatorLaws, Types);

}  // namespace
}  // namespace tessera::test
