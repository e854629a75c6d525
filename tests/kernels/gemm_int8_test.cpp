#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <support/amx_emulator.hpp>
#include <tessera/core/buffer.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

enum class Order { rows, columns, spread };

template <class T>
struct Matrix {
  Buffer<T> memory;
  MatrixView<T> view;

  Matrix(Index rows, Index cols, Order order, std::uint64_t seed) {
    const Index gap = 3, step = order == Order::spread ? 2 : 1;
    const Index line = (order == Order::columns ? rows : cols) * step + gap;
    memory = Buffer<T>((order == Order::columns ? cols : rows) * line + 1);
    view = order == Order::columns ? MatrixView<T>(memory.data() + 1, {rows, cols}, {1, line})
                                   : MatrixView<T>(memory.data() + 1, {rows, cols}, {line, step});
    const Philox draws(seed);
    for (Index i = 0; i < memory.size(); ++i) {
      const float u = draws.uniform(static_cast<std::uint64_t>(i));
      using Limits = std::numeric_limits<T>;
      memory[i] = u < 0.1f   ? Limits::min()
                  : u > 0.9f ? Limits::max()
                             : static_cast<T>(static_cast<std::int32_t>(u * 1e9f));
    }
  }
};

template <class TA, class TB>
void check(Context& ctx, Index m, Index n, Index k, Order a, Order b, Order c, std::int32_t alpha, std::int32_t beta,
           ZeroPoints<std::int32_t> zeros) {
  SCOPED_TRACE(detail::concat(m, "x", n, "x", k, " orders ", int(a), int(b), int(c), ", alpha ", alpha, ", beta ", beta,
                              ", zeros ", zeros.zero_a, ", ", zeros.zero_b));
  const Matrix<TA> A(m, k, a, 1);
  const Matrix<TB> B(k, n, b, 2);
  Matrix<std::int32_t> C(m, n, c, 3);
  Matrix<std::int32_t> expected = C;
  expected.view = MatrixView<std::int32_t>(expected.memory.data() + (C.view.data() - C.memory.data()), C.view.extents(),
                                           C.view.strides());
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      std::int64_t sum = 0;
      for (Index t = 0; t < k; ++t)
        sum += std::int64_t{A.view(i, t) - zeros.zero_a} * std::int64_t{B.view(t, j) - zeros.zero_b};
      auto& out = expected.view(i, j);
      out = static_cast<std::int32_t>(static_cast<std::uint32_t>(
          static_cast<std::uint64_t>(sum) * static_cast<std::uint64_t>(std::int64_t{alpha}) +
          static_cast<std::uint64_t>(std::int64_t{beta}) * static_cast<std::uint64_t>(std::int64_t{out})));
    }
  gemm(ctx, alpha, MatrixView<const TA>(A.view), MatrixView<const TB>(B.view), beta, C.view, zeros);
  EXPECT_EQ(0, std::memcmp(C.memory.data(), expected.memory.data(), C.memory.bytes()));
}

template <class A, class B>
struct Pair {
  using TA = A;
  using TB = B;
};
template <class Types>
struct GemmInt8 : testing::Test {};
using Types = testing::Types<Pair<std::int8_t, std::int8_t>, Pair<std::uint8_t, std::int8_t>,
                             Pair<std::int8_t, std::uint8_t>, Pair<std::uint8_t, std::uint8_t>>;
TYPED_TEST_SUITE(GemmInt8, Types);

TYPED_TEST(GemmInt8, EveryKernelIsExact) {
  const test::AmxEmulation amx;
  using TA = typename TypeParam::TA;
  using TB = typename TypeParam::TB;
  constexpr std::int32_t za = std::is_signed_v<TA> ? -7 : 200, zb = std::is_signed_v<TB> ? 127 : 3;
  constexpr ZeroPoints<std::int32_t> none{}, some{za, zb};
  for (const auto& kernel : GemmKernels<TA, TB, std::int32_t>::template entries<GemmArgs<TA, TB, std::int32_t>>()) {
    if (!active_isa().has(kernel.isa)) {
      std::printf("[          ] %s: needs %s\n", std::string(kernel.name).c_str(),
                  std::string(isa_name(kernel.isa)).c_str());
      continue;
    }
    SCOPED_TRACE(std::string(kernel.name));
    Context ctx;
    ctx.force(kernel.name);
    for (Index m : {1, 5, 6, 14, 15, 29})
      for (Index n : {1, 7, 8, 16, 17, 33, 65})
        for (Index k : {1, 2, 3, 4, 5, 16, 19, 67})
          check<TA, TB>(ctx, m, n, k, Order::rows, Order::rows, Order::rows, 1, 0, k % 2 == 0 ? none : some);
    for (const auto a : {Order::rows, Order::columns, Order::spread})
      for (const auto b : {Order::rows, Order::columns, Order::spread})
        for (const auto c : {Order::rows, Order::columns, Order::spread}) {
          check<TA, TB>(ctx, 17, 35, 37, a, b, c, 1, 1, some);
          check<TA, TB>(ctx, 31, 18, 70, a, b, c, -3, 5, none);
        }
    check<TA, TB>(ctx, 300, 40, 30, Order::rows, Order::columns, Order::rows, 1, 0, some);
    check<TA, TB>(ctx, 15, 33, 4200, Order::rows, Order::columns, Order::rows, 1, 2, some);
    check<TA, TB>(ctx, 3, 2100, 9, Order::rows, Order::rows, Order::rows, 1, 0, some);
    check<TA, TB>(ctx, 3, 4, 0, Order::rows, Order::rows, Order::rows, 1, 7, some);
    check<TA, TB>(ctx, 0, 4, 3, Order::rows, Order::rows, Order::rows, 1, 7, some);
    Context several = Context::with_threads(2);
    several.force(kernel.name);
    check<TA, TB>(several, 150, 190, 170, Order::rows, Order::rows, Order::rows, 1, 0, some);
  }
}

TEST(GemmInt8Errors, ZeroPointOutOfRange) {
  Context ctx;
  Buffer<std::int8_t> a(4);
  Buffer<std::uint8_t> b(4);
  Buffer<std::int32_t> c(4);
  try {
    gemm(ctx, 1, MatrixView<const std::int8_t>(a.data(), 2, 2), MatrixView<const std::uint8_t>(b.data(), 2, 2), 0,
         MatrixView<std::int32_t>(c.data(), 2, 2), {0, 300});
    FAIL() << "no exception";
  } catch (const unsupported_error& e) {
    EXPECT_STREQ(e.what(), "tessera: gemm: zero point 300 of B; expected 0 to 255");
  }
}

}  // namespace
}  // namespace tessera
