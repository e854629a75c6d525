// Packed factors of bf16 and of bytes: what gemm gives of the matrix they were packed from, by every kernel that packs.
#include <gtest/gtest.h>

#include <cstring>
#include <support/amx_emulator.hpp>
#include <support/oracle.hpp>
#include <tessera/kernels/gemm/packed.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

template <class T>
Buffer<T> draws(Index n, std::uint64_t seed) {
  if constexpr (std::is_integral_v<T>) {
    Buffer<T> values(n);
    const Philox philox(seed);
    for (Index i = 0; i < n; ++i) values[i] = static_cast<T>(philox.bits(static_cast<std::uint64_t>(i)));
    return values;
  } else {
    return test::random_buffer<T>(n, seed);
  }
}

/// Calls `f` with each kernel forced that packs, or prints why not.
template <class TA, class TB, class T, class F>
int for_each_packing_kernel(F&& f) {
  int count = 0;
  for (const auto& kernel : GemmKernels<TA, TB, T>::template entries<GemmArgs<TA, TB, T>>()) {
    Context ctx;
    ctx.force(kernel.name);
    const Buffer<TB> one(1);
    try {
      (void)PackedFactor<TB>(ctx, MatrixView<const TB>(one.data(), 1, 1));
    } catch (const unsupported_error&) {
      continue;
    }
    SCOPED_TRACE(std::string(kernel.name));
    f(ctx);
    ++count;
  }
  return count;
}

template <class TA, class TB>
void check(std::int32_t zero_a, std::int32_t zero_b) {
  using T = detail::packed_sum_t<TB>;
  const test::AmxEmulation amx;
  constexpr Index shapes[][3] = {{1, 1, 1}, {17, 33, 70}, {40, 65, 35}, {5, 300, 130}, {64, 40, 1100}};
  const int kernels = for_each_packing_kernel<TA, TB, T>([&](const Context& forced) {
    for (const auto& [m, n, k] : shapes) {
      SCOPED_TRACE(detail::concat(m, 'x', n, 'x', k));
      const auto a = draws<TA>(m * k, 1);
      const auto b = draws<TB>(k * n, 2);
      Buffer<T> expected(m * n), c(m * n);
      const MatrixView<const TA> A(a.data(), m, k);
      const MatrixView<const TB> B(b.data(), k, n);
      const PackedFactor<TB> packed(forced, B, zero_b);
      EXPECT_EQ(packed.kernel(), forced.forced("gemm"));
      EXPECT_GE(packed.bytes(), b.bytes());
      Context ctx;
      ctx.force(forced.forced("gemm"));
      for (Index threads : {1, 2}) {
        Context several = Context::with_threads(threads);
        if constexpr (std::is_integral_v<TB>) {
          gemm(ctx, 3, A, B, 0, MatrixView<T>(expected.data(), m, n), {zero_a, zero_b});
          packed.multiply(several, 3, A, 0, MatrixView<T>(c.data(), m, n), zero_a);
        } else {
          gemm(ctx, 0.5f, A, B, 0, MatrixView<T>(expected.data(), m, n));
          packed.multiply(several, 0.5f, A, 0, MatrixView<T>(c.data(), m, n));
        }
        EXPECT_EQ(0, std::memcmp(c.data(), expected.data(), c.bytes()));
      }
    }
  });
  EXPECT_GT(kernels, 0);
}

TEST(PackedWeights, HalvesEqualGemm) { check<bf16, bf16>(0, 0); }
TEST(PackedWeights, BytesEqualGemm) {
  check<std::uint8_t, std::int8_t>(130, -3);
  check<std::uint8_t, std::int8_t>(0, 0);
}
TEST(PackedWeights, UnsignedBytesEqualGemm) { check<std::int8_t, std::uint8_t>(-128, 7); }

TEST(PackedWeights, OfALayer) {
  const Index m = 70, k = 90, n = 12;
  const auto w = draws<std::int8_t>(m * k, 1);
  const auto x = draws<std::uint8_t>(n * k, 2);
  Buffer<std::int32_t> y(n * m), expected(n * m);
  const MatrixView<const std::int8_t> W(w.data(), m, k);
  const MatrixView<const std::uint8_t> X(x.data(), n, k);
  Context ctx;
  const auto packed = pack(W);
  packed.multiply(ctx, 1, X, 0, MatrixView<std::int32_t>(y.data(), n, m));
  gemm(ctx, 1, X, W.transposed(), 0, MatrixView<std::int32_t>(expected.data(), n, m));
  EXPECT_EQ(0, std::memcmp(y.data(), expected.data(), y.bytes()));
  EXPECT_LT(packed.bytes(), static_cast<std::size_t>(m * k) * (active_isa().has(Isa::avx512_vnni) ? 2 : 6));
  EXPECT_THROW(pack(W, 128), unsupported_error);
  EXPECT_THROW(packed.multiply(ctx, 1, X.slice(1, 0, 3), 0, MatrixView<std::int32_t>(y.data(), n, m)), shape_error);
  EXPECT_THROW(packed.multiply(ctx, 1, X, 0, MatrixView<std::int32_t>(y.data(), n, m), 256), unsupported_error);
}

}  // namespace
}  // namespace tessera
