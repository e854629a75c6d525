// Quantized matrices keep the laws of operators, up to the rounding of activations.
#include <support/operator_laws.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/quantized.hpp>
#include <tessera/matrix/quantized_rows.hpp>

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

namespace {

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

using Types = ::testing::Types<QuantizedCase<Q8_0>, QuantizedCase<Q4_0>, ScaledRowsCase>;
INSTANTIATE_TYPED_TEST_SUITE_P(Quantized, OperatorLaws, Types);

}  // namespace
}  // namespace tessera::test
