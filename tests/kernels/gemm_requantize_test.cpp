#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <kernels/gemm_epilogue_suite.hpp>
#include <limits>

namespace tessera {
namespace TESSERA_TEST_FILE {

using namespace epilogue;
using namespace test;

template <class A, class B, class C>
struct Types {
  using TA = A;
  using TB = B;
  using T = C;
};

/// What requantized products of bytes are, one by one.
template <class D>
D requantized(std::int64_t sum, std::int32_t bias, float scale, float again, std::int32_t zero) {
  const auto biased = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) + static_cast<std::uint32_t>(bias));
  const float x = static_cast<float>(biased) * scale * again;
  const float q = std::nearbyint(x) + static_cast<float>(zero);
  const float low = std::numeric_limits<D>::min(), high = std::numeric_limits<D>::max();
  return static_cast<D>(q < low ? low : q > high ? high : q);
}

template <class TA, class TB, class D>
void check_bytes(Context& ctx, Index m, Index n, Index k, Order a, Order b, Order d, bool per_row) {
  SCOPED_TRACE(
      tessera::detail::concat(m, "x", n, "x", k, " orders ", int(a), int(b), int(d), per_row ? " per row" : ""));
  constexpr int low = std::is_signed_v<TA> ? -128 : 0;
  const Numbers<TA> A(m, k, 1, a, low, low + 255);
  const Numbers<TB> B(k, n, 2, b, std::is_signed_v<TB> ? -128 : 0, std::is_signed_v<TB> ? 127 : 255);
  const Numbers<std::int32_t> bias(1, per_row ? m : n, 4, Order::spread, -20000, 20000);
  Numbers<float> scales(1, per_row ? n : m, 5, Order::rows, 1, 9);
  const ZeroPoints<std::int32_t> zeros{5, 3};
  Numbers<D> to(m, n, 6, d, 7, 7), expected(m, n, 6, d, 7, 7);
  const float s = 0.000917f;
  const std::int32_t zero = std::is_signed_v<D> ? -4 : 117;
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      std::int64_t sum = 0;
      for (Index t = 0; t < k; ++t)
        sum += (std::int64_t{A.view(i, t)} - zeros.zero_a) * (std::int64_t{B.view(t, j)} - zeros.zero_b);
      expected.view(i, j) =
          requantized<D>(sum, bias.view(0, per_row ? i : j), s, scales.view(0, per_row ? j : i), zero);
    }
  if (per_row)
    gemm_to(ctx, 1, A.get(), B.get(),
            bias_per_row(vector_of(bias)) | scale(s) | scale_per_column(vector_of(scales)) | requantize(zero), to.view,
            zeros);
  else
    gemm_to(ctx, 1, A.get(), B.get(),
            bias_per_column(vector_of(bias)) | scale(s) | scale_per_row(vector_of(scales)) | requantize(zero), to.view,
            zeros);
  EXPECT_EQ(0, std::memcmp(to.memory.data(), expected.memory.data(), to.memory.bytes()));
}

template <class T>
struct GemmRequantized : testing::Test {};
using Bytes =
    testing::Types<Types<std::int8_t, std::int8_t, std::int8_t>, Types<std::uint8_t, std::int8_t, std::uint8_t>>;
TYPED_TEST_SUITE(GemmRequantized, Bytes);

TYPED_TEST(GemmRequantized, EveryKernelBitForBit) {
  using TA = typename TypeParam::TA;
  using TB = typename TypeParam::TB;
  using D = typename TypeParam::T;
  for_each_kernel<TA, TB, std::int32_t>([](Context& ctx) {
    for (const bool per_row : {false, true}) {
      for (const auto d : {Order::rows, Order::columns, Order::spread}) {
        check_bytes<TA, TB, D>(ctx, 19, 37, 45, Order::rows, Order::columns, d, per_row);
        check_bytes<TA, TB, D>(ctx, 1, 5, 3, Order::columns, Order::rows, d, per_row);
      }
      check_bytes<TA, TB, D>(ctx, 16, 32, 1100, Order::rows, Order::rows, Order::rows, per_row);
      check_bytes<TA, TB, D>(ctx, 300, 33, 130, Order::rows, Order::rows, Order::rows, per_row);
      check_bytes<TA, TB, D>(ctx, 3, 2100, 9, Order::rows, Order::rows, Order::columns, per_row);
    }
  });
}

TEST(GemmTo, StoredInOtherTypes) {
  const Numbers<float> A(21, 40, 1), B(40, 35, 2);
  const auto each = [&]<class D>(D, Context& ctx, auto expected) {
    Numbers<D> to(21, 35, 3);
    gemm_to(ctx, 1.0f, A.get(), B.get(), scale(0.3f), to.view);
    for (Index i = 0; i < 21; ++i)
      for (Index j = 0; j < 35; ++j) {
        float sum = 0;
        for (Index t = 0; t < 40; ++t) sum += A.view(i, t) * B.view(t, j);
        EXPECT_EQ(static_cast<float>(to.view(i, j)), expected(sum * 0.3f)) << sum;
      }
  };
  for (const char* kernel : {"", "gemm:ref", "gemm:xsimd"}) {
    Context ctx;
    if (*kernel != 0) ctx.force(kernel);
    each(bf16(), ctx, [](float x) { return static_cast<float>(bf16(x)); });
    each(f16(), ctx, [](float x) { return static_cast<float>(f16(x)); });
    each(std::int8_t(), ctx, [](float x) { return std::nearbyint(std::clamp(x, -128.0f, 127.0f)); });
    each(std::uint8_t(), ctx, [](float x) { return std::nearbyint(std::clamp(x, 0.0f, 255.0f)); });
    each(float(), ctx, [](float x) { return x; });
  }
  Context ctx;
  const float values[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -1e30f,
                          1e-41f};
  const float one = 1;
  bf16 wide[4];
  std::int8_t bytes[4];
  gemm_to(ctx, 1.0f, MatrixView<const float>(&one, 1, 1), MatrixView<const float>(values, 1, 4), scale(1.0f),
          MatrixView<bf16>(wide, 1, 4));
  gemm_to(ctx, 1.0f, MatrixView<const float>(&one, 1, 1), MatrixView<const float>(values, 1, 4), scale(1.0f),
          MatrixView<std::int8_t>(bytes, 1, 4));
  EXPECT_TRUE(std::isnan(static_cast<float>(wide[0])));
  for (int i = 1; i < 4; ++i) EXPECT_EQ(wide[i].bits, bf16(values[i]).bits);
  EXPECT_EQ(bytes[0], 0);
  EXPECT_EQ(bytes[1], 127);
  EXPECT_EQ(bytes[2], -128);
  EXPECT_EQ(bytes[3], 0);
}

}  // namespace
}  // namespace tessera
