// Tensors of a GGUF file as operators, where they lie.
#include <cmath>
#include <tessera/io/gguf_operator.hpp>

#include "io_test.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

TEST(GgufOperator, TensorsAreOperatorsWhereTheyLie) {
  TESSERA_DATA_OR_SKIP(path, "golden.gguf");
  const auto file = read_gguf(path);
  int operators = 0;
  std::string others;
  for (const GgufTensor& tensor : file.tensors()) try {
      visit_operator(tensor, [&](const auto& A) {
        ASSERT_EQ(A.rows(), 4);
        ASSERT_EQ(A.cols(), 512);
        bool copied = true;
        A.for_each_buffer([&](ByteRange range) { copied = copied && range.first != tensor.data.data(); });
        EXPECT_FALSE(copied) << tensor.name;
        ++operators;
      });
    } catch (const unsupported_error& refusal) {
      EXPECT_TRUE(tensor.name.starts_with("q.")) << refusal.what();
      others += tensor.name.substr(1);
    }
  EXPECT_GE(operators, 25 + 22) << others;  // all f32; bf16 and the block formats that the kernels multiply
}

TEST(GgufOperator, BlocksMultiply) {
  TESSERA_DATA_OR_SKIP(path, "golden.gguf");
  const auto file = read_gguf(path);
  const auto W = file["y.q4_K"].view<float, 2>();
  Eigen::VectorXf x(512);
  for (Index i = 0; i < 512; ++i) x[i] = std::cos(static_cast<float>(i));
  const QuantizedView<Q4_K> A(4, 512, file["q.q4_K"].blocks<Q4_K>());
  const Eigen::VectorXf y = A * x;
  for (Index i = 0; i < 4; ++i) {
    double sum = 0, size = 0;
    for (Index k = 0; k < 512; ++k) {
      const double term = static_cast<double>(W(i, k)) * static_cast<double>(x[k]);
      sum += term;
      size += std::abs(term);
    }
    EXPECT_NEAR(static_cast<double>(y[i]), sum, 0.01 * size);  // x is rounded to int8
  }
}

}  // namespace
}  // namespace tessera
