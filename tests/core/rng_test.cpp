// Philox against the published known answers (Random123, kat_vectors) and by its moments.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include <tessera/core/rng.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

using Four = std::array<std::uint32_t, 4>;

TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Four{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Four{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Four{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, IsAConstantExpression) {
  static_assert(philox4x32({0, 0, 0, 0}, {0, 0})[0] == 0x6627e8d5);
  static_assert(Philox(0).bits(3) == 0x9b00dbd8);
  SUCCEED();
}

TEST(Philox, DrawsDependOnSeedStreamAndIndexAlone) {
  const Philox a(7), b(7, 1), c(8);
  std::set<std::uint32_t> seen;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(a.bits(i), a.block(i / 4)[i % 4]);
    seen.insert({a.bits(i), b.bits(i), c.bits(i)});
  }
  EXPECT_GT(seen.size(), 2990u);
  EXPECT_EQ(a.bits(std::uint64_t{1} << 40), Philox(7).bits(std::uint64_t{1} << 40));
  EXPECT_NE(a.bits(std::uint64_t{1} << 40), a.bits(0));
}

TEST(Philox, UniformHasItsMoments) {
  const Philox draws(11);
  constexpr int n = 200000;
  double sum = 0, squares = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    const double u = static_cast<double>(draws.uniform(i));
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
    squares += u * u;
  }
  EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(squares / n, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / n));
}

TEST(Philox, NormalHasItsMomentsAndIsIndependentOfItsNeighbour) {
  const Philox draws(12, 3);
  constexpr int n = 200000;
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, pair = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    const double x = draws.normal(i);
    ASSERT_TRUE(std::isfinite(x));
    m1 += x;
    m2 += x * x;
    m3 += x * x * x;
    m4 += x * x * x * x;
    pair += x * draws.normal(i ^ 1);
  }
  EXPECT_NEAR(m1 / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(m2 / n, 1, 5 * std::sqrt(2.0 / n));
  EXPECT_NEAR(m3 / n, 0, 5 * std::sqrt(15.0 / n));
  EXPECT_NEAR(m4 / n, 3, 5 * std::sqrt(96.0 / n));
  EXPECT_NEAR(pair / n, 0, 10 / std::sqrt(n));
}

TEST(Philox, BelowStaysBelowAndReachesAll) {
  const Philox draws(13);
  std::array<int, 7> counts{};
  for (std::uint64_t i = 0; i < 70000; ++i) ++counts.at(draws.below(i, 7));
  for (const int count : counts) EXPECT_NEAR(count, 10000, 500);
  EXPECT_EQ(draws.below(0, 1), 0u);
  EXPECT_LT(draws.below(1, ~std::uint64_t{0}), ~std::uint64_t{0});
}

}  // namespace
}  // namespace tessera
