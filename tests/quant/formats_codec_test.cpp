// Laws of every codec: the reference's bytes and errors, codes and scales, values that are not finite, zero and tiny.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <tessera/core/rng.hpp>
#include <tessera/quant/formats.hpp>
#include <vector>

#include "quant/golden.hpp"

namespace tessera {
namespace {

template <class List>
struct TestTypes;
template <class... F>
struct TestTypes<FormatList<F...>> {
  using type = ::testing::Types<F...>;
};

struct FormatNames {
  template <class F>
  static std::string GetName(int) {
    return std::string(F::name);
  }
};

template <class F>
using Values = std::array<float, static_cast<std::size_t>(F::block_size)>;

template <class F>
Values<F> decode(const typename F::Block& block) {
  Values<F> x;
  F::decode(block, x);
  return x;
}

template <class F>
typename F::Block encode(std::span<const float> x) {
  typename F::Block block;
  F::encode(x, block);
  return block;
}

double squared_error(std::span<const float> x, std::span<const float> y) {
  double error = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    error += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
  return error;
}

/// Normal, one-sided, outliers, sparse, a few sizes within one block; all times 2^exponent.
template <class F>
Values<F> sample(int kind, int exponent, std::uint64_t stream) {
  const Philox draws(7, stream);
  std::uint64_t at = 0;
  Values<F> x;
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = std::ldexp(static_cast<float>(draws.normal(at++)), exponent);
    if (kind == 1) x[i] = std::abs(x[i]);
    if (kind == 2 && draws.below(at++, 32) == 0) x[i] *= 30;
    if (kind == 3 && draws.below(at++, 2) == 0) x[i] = 0;
    if (kind == 4) x[i] = std::ldexp(x[i], -static_cast<int>(i / 16));
    if (kind == 5) x[i] = -std::abs(x[i]);
  }
  return x;
}
constexpr int kinds = 6;

bool same_value(float a, float b) {
  return std::isnan(a) ? std::isnan(b) : std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

template <class F>
class CodecLaws : public ::testing::Test {};
TYPED_TEST_SUITE(CodecLaws, TestTypes<CodecFormats>::type, FormatNames);

TYPED_TEST(CodecLaws, DecodesTheReferenceExactly) {
  using F = TypeParam;
  const auto golden = test::golden_gguf();
  if (!golden) GTEST_SKIP() << "golden.gguf is not there (TESSERA_TEST_DATA)";
  const auto stored = golden->bytes("q." + std::string(F::name));
  const auto expected = golden->floats("y." + std::string(F::name));
  ASSERT_GT(expected.size(), 0u);
  ASSERT_EQ(stored.size() / sizeof(typename F::Block) * static_cast<std::size_t>(F::block_size), expected.size());
  for (std::size_t b = 0; b < expected.size() / static_cast<std::size_t>(F::block_size); ++b) {
    typename F::Block block;
    std::memcpy(&block, stored.data() + b * sizeof block, sizeof block);
    const auto y = decode<F>(block);
    ASSERT_EQ(0, std::memcmp(y.data(), &expected[b * y.size()], sizeof y)) << "block " << b;
  }
}

TYPED_TEST(CodecLaws, QuantizesNoWorseThanTheReference) {
  using F = TypeParam;
  const auto golden = test::golden_gguf();
  if (!golden) GTEST_SKIP() << "golden.gguf is not there (TESSERA_TEST_DATA)";
  const auto input = golden->floats("input");
  const auto theirs = golden->floats("y." + std::string(F::name));
  ASSERT_EQ(input.size(), theirs.size());
  double ours = 0, reference = 0;
  for (std::size_t b = 0; b < input.size() / static_cast<std::size_t>(F::block_size); ++b) {
    const auto x = std::span(input).subspan(b * static_cast<std::size_t>(F::block_size), F::block_size);
    ours += squared_error(x, decode<F>(encode<F>(x)));
    reference +=
        squared_error(x, std::span(theirs).subspan(b * static_cast<std::size_t>(F::block_size), F::block_size));
  }
  EXPECT_LE(ours, reference);
}

TYPED_TEST(CodecLaws, CodesScalesAndMinimaAreTheValues) {
  using F = TypeParam;
  static_assert(GroupedBlockFormat<F>);
  for (std::uint64_t repeat = 0; repeat < 200; ++repeat) {
    const Philox draws(3, repeat);
    std::array<std::uint8_t, sizeof(typename F::Block)> bytes;
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(draws.below(i, 256));
    typename F::Block block;
    std::memcpy(&block, bytes.data(), sizeof block);
    const auto y = decode<F>(block);
    std::array<std::int8_t, F::block_size> q;
    F::integers(block, q);
    for (std::size_t i = 0; i < y.size(); ++i) {
      const Index g = static_cast<Index>(i) / F::group;
      float expected = F::scale(block, g) * static_cast<float>(q[i]);
      if constexpr (F::has_minimum) expected += F::minimum(block, g);
      ASSERT_TRUE(same_value(y[i], expected)) << i;
    }
    if constexpr (F::two_level) {
      typename F::Block copy{};
      copy.d = block.d;
      if constexpr (F::has_minimum) copy.dmin = block.dmin;
      for (Index g = F::block_size / F::group; g-- > 0;) {
        int minimum = 0;
        if constexpr (F::has_minimum) minimum = F::minimum_code(block, g);
        F::set_scale_codes(copy, g, F::scale_code(block, g), minimum);
      }
      for (Index g = 0; g < F::block_size / F::group; ++g) {
        EXPECT_EQ(F::scale_code(copy, g), F::scale_code(block, g));
        EXPECT_TRUE(same_value(F::scale(copy, g), F::scale(block, g)));
        if constexpr (F::has_minimum) {
          EXPECT_TRUE(same_value(F::minimum(copy, g), F::minimum(block, g)));
        }
      }
    }
    if constexpr (F::bits < 8) {
      constexpr auto count = static_cast<std::uint64_t>(detail::Levels<F>::count);
      std::array<std::uint8_t, F::block_size> codes, again;
      for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(draws.below(1000 + i, count));
      F::set_codes(block, codes);
      F::codes(block, again);
      ASSERT_EQ(codes, again);
    }
  }
}

TYPED_TEST(CodecLaws, ErrorIsThatOfTheBitsAndNeverAboveThatOfZeros) {
  using F = TypeParam;
  double normal_error = 0, normal_size = 0;
  for (int kind = 0; kind < kinds; ++kind)
    for (int exponent = -34; exponent <= 4; exponent += 3)
      for (std::uint64_t repeat = 0; repeat < 4; ++repeat) {
        const auto x = sample<F>(kind, exponent, repeat);
        const double size = squared_error(x, Values<F>{}), error = squared_error(x, decode<F>(encode<F>(x)));
        ASSERT_LE(error, size * (1 + 1e-5) + 1e-20) << "kind " << kind << ", 2^" << exponent;
        if (kind == 0 && exponent >= -4) {
          normal_error += error / size;
          normal_size += 1;
        }
      }
  EXPECT_LT(normal_error, 3.3 * std::pow(4.0, -F::bits) * normal_size);
}

TYPED_TEST(CodecLaws, ReencodingLosesNothingOrLess) {
  using F = TypeParam;
  double first = 0, second = 0;
  for (int kind = 0; kind < kinds; ++kind)
    for (std::uint64_t repeat = 0; repeat < 10; ++repeat) {
      const auto x = sample<F>(kind, 0, repeat), y = decode<F>(encode<F>(x)), z = decode<F>(encode<F>(y));
      const double size = squared_error(x, Values<F>{});
      first += squared_error(x, y) / size;
      second += squared_error(y, z) / size;
      if constexpr (!F::two_level) {
        for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], z[i]) << "kind " << kind;
      }
    }
  EXPECT_LT(second, 0.6 * first);
}

TYPED_TEST(CodecLaws, NothingFiniteHidesAValueThatIsNot) {
  using F = TypeParam;
  const auto last = static_cast<std::size_t>(F::block_size - 1);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity(), 3.4e38f, -3.4e38f})
    for (std::size_t at : {std::size_t{0}, last / 2, last}) {
      if (std::is_same_v<F, MXFP4> && std::isfinite(bad)) continue;  // it holds that
      auto x = sample<F>(0, 0, 1);
      x[at] = bad;
      for (float y : decode<F>(encode<F>(x))) ASSERT_TRUE(std::isnan(y)) << bad << " at " << at;
    }
}

TYPED_TEST(CodecLaws, ZerosStayZero) {
  using F = TypeParam;
  for (float zero : {0.0f, -0.0f, 1e-40f}) {
    Values<F> x;
    x.fill(zero);
    for (float y : decode<F>(encode<F>(x))) EXPECT_EQ(y, 0.0f);
  }
}

TEST(MXFP4, HoldsTheWholeRange) {
  for (float size : {1e-36f, 1e-20f, 1e20f, 3e38f}) {
    std::array<float, 32> x{};
    x[3] = size;
    x[4] = -size / 6;
    const auto y = decode<MXFP4>(encode<MXFP4>(x));
    EXPECT_NEAR(y[3] / size, 1, 0.2);
    EXPECT_NEAR(y[4] * 6 / size, -1, 0.5);
  }
  MXFP4::Block block{255, {}};
  for (float y : decode<MXFP4>(block)) EXPECT_TRUE(std::isnan(y));
}

}  // namespace
}  // namespace tessera
