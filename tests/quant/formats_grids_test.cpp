// Formats whose codes are indices of a grid: the grids, what blocks of any bits decode to, and that the nearest is
// found.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <tessera/core/rng.hpp>
#include <tessera/quant/formats.hpp>
#include <vector>

namespace tessera {
namespace TESSERA_TEST_FILE {

struct FormatNames {
  template <class F>
  static std::string GetName(int) {
    return std::string(F::name);
  }
};

/// The digits of an entry.
template <class F>
std::vector<int> vector_of(int entry) {
  constexpr const auto& points = F::points;
  std::vector<int> digits;
  for (const auto& half : {points.low[entry], points.high[entry]})
    for (int i = 0; i < points.half; ++i) digits.push_back(points.digits[half][i]);
  return digits;
}
template <class F>
int number_of(const std::vector<int>& digits, std::size_t begin, std::size_t end) {
  int number = 0;
  for (std::size_t i = end; i-- > begin;) number = number * F::points.base + digits[i];
  return number;
}

template <class F>
class Grids : public ::testing::Test {};
using GridFormats = ::testing::Types<IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S>;
TYPED_TEST_SUITE(Grids, GridFormats, FormatNames);

TYPED_TEST(Grids, EntriesIncreaseAndAreFoundAgain) {
  using F = TypeParam;
  constexpr const auto& points = F::points;
  int before = -1;
  for (int e = 0; e < points.count; ++e) {
    const auto v = vector_of<F>(e);
    const int number = number_of<F>(v, 0, v.size());
    ASSERT_GT(number, before);
    before = number;
    ASSERT_LT(*std::max_element(v.begin(), v.end()), points.base);
    ASSERT_EQ(points.index(number_of<F>(v, 0, v.size() / 2), number_of<F>(v, v.size() / 2, v.size())), e);
    // A law of the published ones.
    const bool even = std::string_view(F::name).starts_with("iq2") || F::name == IQ3_XXS::name;
    int sum = 0;
    for (const int digit : v) sum += digit;
    ASSERT_TRUE(!even || sum % 2 == 0) << e;
  }
}

TYPED_TEST(Grids, EveryIndexAndSignsAreLevelsOfTheGrid) {
  using F = TypeParam;
  constexpr const auto& points = F::points;
  constexpr Index vectors = F::block_size / points.length;
  for (int e = 0; e < std::max(points.count, 256); ++e) {
    typename F::Block block{};
    const int index = e % points.count, mask = e % 256;
    for (Index v = 0; v < vectors; ++v) F::set_index(block, v, (index + static_cast<int>(v)) % points.count);
    for (Index o = 0; o < 32; ++o) F::set_signs(block, o, F::sign_rule == detail::GridSigns::shared ? mask : mask ^ 1);
    std::array<std::int8_t, 256> q;
    F::integers(block, q);
    for (Index v = 0; v < vectors; ++v) {
      ASSERT_EQ(F::index(block, v), (index + static_cast<int>(v)) % points.count);
      const auto digits = vector_of<F>(F::index(block, v));
      for (int i = 0; i < points.length; ++i) {
        const std::size_t at = static_cast<std::size_t>(v) * digits.size() + static_cast<std::size_t>(i);
        const int sign = F::signs(block, static_cast<Index>(at / 8)) >> (at % 8) & 1;
        ASSERT_EQ(q[at], F::codebook[sign * points.base + digits[static_cast<std::size_t>(i)]]);
      }
    }
    for (Index o = 0; o < 32; ++o) {
      const unsigned signs = static_cast<unsigned>(F::signs(block, o));
      const unsigned given = static_cast<unsigned>(mask ^ 1);
      if (F::sign_rule == detail::GridSigns::free) {
        ASSERT_EQ(signs, given);
      } else if (F::sign_rule == detail::GridSigns::even) {
        ASSERT_TRUE(std::popcount(signs) % 2 == 0 && (signs & 127) == (given & 127));
      } else {
        ASSERT_TRUE(signs == 0 || signs == 255);
      }
    }
  }
}

TYPED_TEST(Grids, AnyBytesDecode) {  // and what is no vector of the grid becomes one
  using F = TypeParam;
  for (const int byte : {0x00, 0xff, 0x7f, 0x80, 0x55}) {
    typename F::Block block;
    std::memset(static_cast<void*>(&block), byte, sizeof block);
    std::array<std::int8_t, 256> q;
    F::integers(block, q);
    for (const int level : q) ASSERT_NE(std::count(std::begin(F::codebook), std::end(F::codebook), level), 0);
  }
  const Philox draws(3);
  std::array<std::uint8_t, 256> codes;
  for (std::uint64_t repeat = 0; repeat < 50; ++repeat) {
    for (std::size_t i = 0; i < codes.size(); ++i)
      codes[i] = static_cast<std::uint8_t>(draws.below(256 * repeat + i, 2 * F::points.base));
    if (repeat == 0) codes.fill(static_cast<std::uint8_t>(2 * F::points.base - 1));
    typename F::Block block{};
    F::restore_codes(block, codes);
    for (Index v = 0; v < F::block_size / F::points.length; ++v) ASSERT_LT(F::index(block, v), F::points.count);
  }
}

TYPED_TEST(Grids, TheNearestVectorIsFound) {
  using F = TypeParam;
  constexpr const auto& points = F::points;
  constexpr bool shifts = points.base == 3 && F::codebook[0] < 0;
  const Philox draws(4);
  float level[points.base], x[8];
  for (int d = 0; d < points.base; ++d) level[d] = 0.01f * static_cast<float>(F::codebook[d]);
  detail::GridSearch<F::points> search;
  for (std::uint64_t repeat = 0; repeat < 100; ++repeat) {
    for (int i = 0; i < points.length; ++i) {
      x[i] = level[points.base - 1] * static_cast<float>(draws.normal(8 * repeat + static_cast<std::uint64_t>(i)));
      if (!shifts) x[i] = std::abs(x[i]);
    }
    search.template prepare<true>(x, level);
    double nearest = 1e9, flipped = 1e9;
    for (int e = 0; e < points.count; ++e) {
      const auto v = vector_of<F>(e);
      double error = 0, flip = 1e9;
      for (int i = 0; i < points.length; ++i) {
        const double xi = static_cast<double>(x[i]), l = static_cast<double>(level[v[static_cast<std::size_t>(i)]]);
        error += (xi - l) * (xi - l);
        flip = std::min(flip, 4 * xi * l);
      }
      nearest = std::min(nearest, error);
      flipped = std::min(flipped, error + flip);
    }
    ASSERT_NEAR(search.nearest().error, nearest, 1e-5 * nearest + 1e-9);
    if (!shifts) {
      ASSERT_NEAR(search.nearest_flipped().error, flipped, 1e-5 * flipped + 1e-9);
    }
  }
}

}  // namespace
}  // namespace tessera
