#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <tessera/core/buffer.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/fixed_gemm/fixed_gemm.hpp>
#include <tessera/kernels/fixed_round/list.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

/// Rows, columns, or neither contiguous.
template <class T>
struct Strided {
  Buffer<T> memory;
  MatrixView<T> view;

  Strided(Index rows, Index cols, int order) {
    const Index step = order == 2 ? 2 : 1, line = (order == 1 ? rows : cols) * step + 3;
    memory = Buffer<T>((order == 1 ? cols : rows) * line + 1);
    view = order == 1 ? MatrixView<T>(memory.data() + 1, {rows, cols}, {1, line})
                      : MatrixView<T>(memory.data() + 1, {rows, cols}, {line, step});
  }
};

Strided<std::int16_t> integers(Index rows, Index cols, int order, int most, std::uint64_t seed) {
  Strided<std::int16_t> m(rows, cols, order);
  const Philox draws(seed);
  for (Index i = 0; i < m.memory.size(); ++i) {
    const float u = draws.uniform(static_cast<std::uint64_t>(i));
    m.memory[i] = static_cast<std::int16_t>(std::lround((2 * u - 1) * static_cast<float>(most)));
  }
  return m;
}

void check(Context& ctx, Index m, Index n, Index k, int a, int b, int c, float alpha, float beta, Index chain) {
  SCOPED_TRACE(detail::concat(m, "x", n, "x", k, " orders ", a, b, c, ", chain ", chain));
  const int most = chain == 2 ? 32767 : chain == 8 ? 16383 : 2896;
  const auto A = integers(m, k, a, most, 1), B = integers(k, n, b, most, 2);
  Strided<float> C(m, n, c);
  for (Index i = 0; i < C.memory.size(); ++i) C.memory[i] = beta == 0 ? std::nanf("") : static_cast<float>(i % 100);
  Strided<float> expected = C;
  expected.view = MatrixView<float>(expected.memory.data() + 1, C.view.extents(), C.view.strides());
  Context plain;
  plain.force("fixed_gemm:ref");
  fixed_gemm(plain, alpha, A.view, B.view, beta, expected.view, chain);
  fixed_gemm(ctx, alpha, A.view, B.view, beta, C.view, chain);
  EXPECT_EQ(0, std::memcmp(C.memory.data(), expected.memory.data(), C.memory.bytes()));
}

TEST(FixedGemm, EveryKernelGivesTheBitsOfTheReference) {
  for (const auto& kernel : FixedGemmKernels::entries<FixedGemmArgs>()) {
    if (!active_isa().has(kernel.isa)) {
      std::printf("[          ] %s: needs %s\n", std::string(kernel.name).c_str(),
                  std::string(isa_name(kernel.isa)).c_str());
      continue;
    }
    SCOPED_TRACE(std::string(kernel.name));
    Context ctx;
    ctx.force(kernel.name);
    for (const Index m : {1, 2, 3, 7, 8, 15})
      for (const Index n : {1, 8, 15, 16, 17, 33})
        for (const Index k : {1, 2, 3, 8, 19, 67}) check(ctx, m, n, k, 0, 0, 0, 0.25f, 0, k % 2 == 0 ? 2 : 8);
    for (int orders = 0; orders < 27; ++orders)
      check(ctx, 17, 35, 40, orders % 3, orders / 3 % 3, orders / 9, -2.0f, 1, 8);
    check(ctx, 9, 34, 2500, 0, 1, 0, 0x1p-20f, 1, 256);
    check(ctx, 300, 40, 30, 0, 0, 0, 1, 0, 8);
    check(ctx, 3, 4, 0, 0, 0, 0, 1, 1, 8);
    check(ctx, 0, 4, 3, 0, 0, 0, 1, 1, 8);
    Context several = Context::with_threads(2);
    several.force(kernel.name);
    check(several, 150, 190, 1100, 0, 0, 0, 1, 0, 8);
  }
}

TEST(FixedGemm, ChainsThatFitDoNotOverflow) {
  Context ctx;
  const Index k = 512;
  for (const int most : {32767, 16383, 2896}) {
    Buffer<std::int16_t> a(k), b(k);
    for (Index i = 0; i < k; ++i) a[i] = b[i] = static_cast<std::int16_t>(most);
    const Index chain = fixed_gemm_chain(most, most);
    EXPECT_EQ(chain, most == 32767 ? 2 : most == 16383 ? 8 : 256);
    float c = 0;
    const auto product = [&](Index length) {
      fixed_gemm(ctx, 1, MatrixView<const std::int16_t>(a.data(), 1, k), MatrixView<const std::int16_t>(b.data(), k, 1),
                 0, MatrixView<float>(&c, 1, 1), length);
      return static_cast<double>(c);
    };
    const double exact = static_cast<double>(k) * most * most;
    EXPECT_NEAR(product(chain), exact, 1e-6 * exact);
    if (chain < 256) {
      EXPECT_GT(std::abs(product(2 * chain) - exact), 0.1 * exact);
    }
  }
  EXPECT_EQ(fixed_gemm_chain(1, 1), fixed_gemm_longest_chain);
  EXPECT_THROW(fixed_gemm_chain(32768, 32768), unsupported_error);
  Strided<std::int16_t> A(2, 3, 0);
  Strided<float> C(2, 2, 0);
  EXPECT_THROW(fixed_gemm(ctx, 1, A.view, A.view, 0, C.view, 2), shape_error);
  EXPECT_THROW(fixed_gemm(ctx, 1, A.view, A.view.transposed(), 0, C.view, 3), unsupported_error);
}

TEST(FixedRound, EveryKernelGivesTheReferencesIntegers) {
  for (const auto& kernel : FixedRoundKernels::entries<FixedRoundArgs>()) {
    if (!active_isa().has(kernel.isa)) continue;
    SCOPED_TRACE(std::string(kernel.name));
    for (const Index n : {1, 15, 16, 17, 31, 33, 300})
      for (int order = 0; order < 3; ++order) {
        Strided<float> X(3, n, order);
        Strided<std::int16_t> Q(3, n, order == 0 ? 0 : 2 - order), expected = Q;
        expected.view = MatrixView<std::int16_t>(expected.memory.data() + 1, Q.view.extents(), Q.view.strides());
        const Philox draws(5);
        for (Index i = 0; i < X.memory.size(); ++i)
          X.memory[i] = static_cast<float>(static_cast<int>(40 * draws.normal(static_cast<std::uint64_t>(i)))) / 4;
        std::uint32_t largest[3] = {}, wanted[3] = {};
        FixedRoundArgs args;
        args.X = X.view;
        args.largest = largest;
        kernel.run(args, {0, 3, 0});
        args.largest = wanted;
        FixedRoundRef::run(args, {0, 3, 0});
        for (int i = 0; i < 3; ++i) EXPECT_EQ(largest[i], wanted[i]);
        args.largest = nullptr;
        args.factor[0] = 2;
        args.Q = Q.view;
        kernel.run(args, {0, 3, 0});
        args.Q = expected.view;
        FixedRoundRef::run(args, {0, 3, 0});
        EXPECT_EQ(0, std::memcmp(Q.memory.data(), expected.memory.data(), Q.memory.bytes()));
      }
  }
}

}  // namespace
}  // namespace tessera
