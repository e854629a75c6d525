/// Quantizers on the first layer of the language model of examples/lm, on what it sees of this very file.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <tessera/core/executor.hpp>
#include <tessera/io/safetensors.hpp>
#include <tessera/quant/quantize.hpp>
#include <tessera/quant/quantizers/gptq.hpp>
#include <tessera/quant/quantizers/quantease.hpp>

#include "quant/layers.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::RowMatrixf;

RowMatrixf matrix_of(const Safetensors& file, const std::string& name) {
  const auto values = file[name].view<bf16, 2>();
  RowMatrixf m(values.rows(), values.cols());
  for (Index i = 0; i < m.rows(); ++i)
    for (Index j = 0; j < m.cols(); ++j) m(i, j) = static_cast<float>(values(i, j));
  return m;
}

TEST(QuantizersOnAModel, QuantEaseIsAtMostGptqIsAtMostRounding) {
  const auto here = std::filesystem::path(__FILE__).parent_path();
  const auto path = here / "../../examples/lm/models/eigen-3m.safetensors";
  std::ifstream self(__FILE__, std::ios::binary);
  if (!std::filesystem::exists(path) || !self) GTEST_SKIP() << path << " or the test's source is not there";
  const std::string text(std::istreambuf_iterator<char>(self), {});
  const auto file = read_safetensors(path.string());
  const RowMatrixf embedding = matrix_of(file, "tok_embeddings.weight");
  const RowMatrixf norm = matrix_of(file, "layers.0.attention_norm.weight");
  RowMatrixf X(embedding.cols(), static_cast<Index>(text.size()));  // what wq, wk and wv of the first layer see
  for (Index n = 0; n < X.cols(); ++n) {
    const auto row = embedding.row(static_cast<unsigned char>(text[static_cast<std::size_t>(n)]));
    X.col(n) = (row.cwiseProduct(norm.row(0)) / std::sqrt(row.squaredNorm() / static_cast<float>(row.size()) + 1e-5f))
                   .transpose();
  }
  const auto calibration = test::calibration_of(X);
  Context ctx;
  for (const char* name : {"wq", "wk", "wv"}) {
    const RowMatrixf W = matrix_of(file, std::string("layers.0.attention.") + name + ".weight");
    const auto error = [&](const auto& quantizer) {
      return quantize<Q4_0>(ctx, view(W), calibration, quantizer).report.output_error;
    };
    const double nearest = error(RoundToNearest{}), gptq = error(Gptq{}), eased = error(QuantEase{});
    EXPECT_LT(gptq, nearest) << name;
    EXPECT_LE(eased, gptq) << name;
    std::printf("%s: rounding %.4f, GPTQ %.4f, QuantEase %.4f\n", name, nearest, gptq, eased);
  }
}

}  // namespace
}  // namespace tessera
