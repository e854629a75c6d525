#include <cstring>
#include <support/operator_laws.hpp>
#include <tessera/matrix/packed.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

template <class T>
struct PackedCase {
  using Operator = Packed<T>;
  static std::vector<Operator> samples() {
    std::vector<Operator> all;
    std::uint64_t seed = 40;
    for (const auto& [rows, cols] :
         std::vector<std::pair<Index, Index>>{{1, 1}, {17, 5}, {5, 33}, {70, 129}, {0, 3}, {3, 0}, {0, 0}}) {
      const auto values = random_buffer<T>(rows * cols, ++seed);
      all.emplace_back(MatrixView<const T>(values.data(), rows, cols));
    }
    return all;
  }
};

using Types = ::testing::Types<PackedCase<float>, PackedCase<double>>;
const bool packed_laws = OperatorLaws<Types>::of("Packed");

// The same cuts of K and the same tiles as gemm's: the same bits, on any number of threads.
TEST(Packed, EqualsTheProductOfTheMatrixItWasPackedFrom) {
  constexpr Index shapes[][2] = {{2100, 40}, {33, 1100}, {150, 170}, {64, 513}};
  for (const char* kernel : {"gemm:avx512", "gemm:avx2", "gemm:xsimd"}) {
    Context ctx;
    ctx.force(kernel);
    const auto w = random_buffer<float>(2100 * 1100, 1), x = random_buffer<float>(1100 * 60, 2);
    for (const auto& [m, k] : shapes)
      for (const Index n : {1, 13, 60}) {
        const MatrixView<const float> W(w.data(), m, k), X(x.data(), {k, n}, {1, k});
        Buffer<float> expected(m * n), y(m * n);
        try {
          gemm(ctx, 0.5f, W, X, 0.0f, MatrixView<float>(expected.data(), {m, n}, {1, m}));
        } catch (const unsupported_error&) {
          continue;  // not on this processor
        }
        const Packed<float> P(W, ctx);
        EXPECT_GE(P.bytes(), static_cast<std::size_t>(m * k) * sizeof(float));
        for (Index threads : {1, 2}) {
          Context several = Context::with_threads(threads);
          P.apply(several, Op::none, 0.5f, X, 0.0f, MatrixView<float>(y.data(), {m, n}, {1, m}));
          EXPECT_EQ(0, std::memcmp(y.data(), expected.data(), y.bytes())) << kernel << ' ' << m << 'x' << n << 'x' << k;
        }
      }
  }
}

TEST(Packed, ForcedKernelMustPack) {
  Context ctx;
  ctx.force("gemm:ref");
  const Buffer<float> w(6);
  EXPECT_THROW(Packed<float>(MatrixView<const float>(w.data(), 2, 3), ctx), unsupported_error);
}

TEST(Packed, OfEigenAndOfDense) {
  const Eigen::MatrixXf M = Eigen::MatrixXf::Random(7, 5);
  EXPECT_EQ(pack(M).to_dense(), M);
  EXPECT_EQ(pack(Dense(M)).to_dense(), M);
  EXPECT_EQ(pack(view(M)).to_dense(), M);
  const Eigen::MatrixXd D = Eigen::MatrixXd::Random(70, 530);
  EXPECT_EQ(pack(D).to_dense(), D);
  EXPECT_TRUE((pack(D) * Eigen::MatrixXd::Identity(530, 3)).eval() == D.leftCols(3));
  const Eigen::MatrixXf Y = pack(M) * Eigen::MatrixXf::Identity(5, 5);
  EXPECT_EQ(Y, M);
}

}  // namespace
}  // namespace tessera::test
