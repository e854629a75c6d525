// Laws of every codec: the reference's bytes and errors, codes and scales, values that are not finite, zero and tiny.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <ostream>
#include <span>
#include <string>
#include <tessera/core/rng.hpp>
#include <tessera/quant/formats.hpp>
#include <vector>

#include "quant/golden.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using Values = std::vector<float>;
using Bytes = std::vector<std::byte>;

/// A format behind pointers, so that the laws are compiled once.
struct Codec {
  std::string_view name;
  std::size_t block_size, bytes;
  double bits;  // of information a code has
  bool two_level;
  void (*encode_block)(std::span<const float>, std::byte*);
  void (*decode_block)(const std::byte*, std::span<float>);
  void (*check_codes)(std::uint64_t);

  Bytes encode(std::span<const float> x) const {
    Bytes block(bytes);
    encode_block(x, block.data());
    return block;
  }
  Values decode(const std::byte* block) const {
    Values x(block_size);
    decode_block(block, x);
    return x;
  }
  Values roundtrip(std::span<const float> x) const { return decode(encode(x).data()); }
};
void PrintTo(const Codec& codec, std::ostream* out) { *out << codec.name; }

bool same_value(float a, float b) {
  return std::isnan(a) ? std::isnan(b) : std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

/// For random bytes: values are scale * integer + minimum, and what sets codes and scales is what they are read as.
template <class F>
void check_codes(std::uint64_t stream) {
  static_assert(GroupedBlockFormat<F>);
  const Philox draws(3, stream);
  std::array<std::uint8_t, sizeof(typename F::Block)> bytes;
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(draws.below(i, 256));
  typename F::Block block;
  std::memcpy(&block, bytes.data(), sizeof block);
  std::array<float, F::block_size> y;
  F::decode(block, y);
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
    detail::set_block_d<F>(copy, detail::block_d<F>(block));
    if constexpr (F::has_minimum) copy.dmin = block.dmin;
    for (Index g = F::block_size / F::group; g-- > 0;) {
      int minimum = 0;
      if constexpr (F::has_minimum) minimum = F::minimum_code(block, g);
      F::set_scale_codes(copy, g, F::scale_code(block, g), minimum);
    }
    for (Index g = 0; g < F::block_size / F::group; ++g) {
      ASSERT_TRUE(same_value(F::scale(copy, g), F::scale(block, g)));
      if constexpr (F::has_minimum) {
        ASSERT_TRUE(same_value(F::minimum(copy, g), F::minimum(block, g)));
      }
    }
  }
  if constexpr (requires { F::points; }) {  // not any codes: those of another block of random bytes
    typename F::Block other{};
    std::array<std::uint8_t, F::block_size> codes, again;
    F::codes(block, codes);
    F::restore_codes(other, codes);
    F::codes(other, again);
    ASSERT_EQ(codes, again);
    for (Index v = 0; v < F::block_size / F::points.length; ++v) ASSERT_EQ(F::index(block, v), F::index(other, v));
    for (Index o = 0; o < F::block_size / 8; ++o) ASSERT_EQ(F::signs(block, o), F::signs(other, o));
  } else if constexpr (F::bits < 8) {
    std::array<std::uint8_t, F::block_size> codes, again;
    for (std::size_t i = 0; i < codes.size(); ++i)
      codes[i] = static_cast<std::uint8_t>(draws.below(1000 + i, detail::Levels<F>::count));
    F::set_codes(block, codes);
    F::codes(block, again);
    ASSERT_EQ(codes, again);
  }
}

/// Of a grid: what an index and the signs of eight values have.
template <class F>
constexpr double information() {
  if constexpr (requires { F::points; }) {
    const double signs = F::sign_rule == detail::GridSigns::free ? 8 : F::sign_rule == detail::GridSigns::even ? 7 : 0;
    return std::countr_zero(static_cast<unsigned>(F::points.count)) / static_cast<double>(F::points.length) + signs / 8;
  } else {
    return F::bits;
  }
}

template <class F>
Codec codec_of() {
  using Block = typename F::Block;
  return {F::name,
          static_cast<std::size_t>(F::block_size),
          sizeof(Block),
          information<F>(),
          F::two_level,
          [](std::span<const float> x, std::byte* to) {
            Block block;
            F::encode(x, block);
            std::memcpy(to, &block, sizeof block);
          },
          [](const std::byte* from, std::span<float> x) {
            Block block;
            std::memcpy(&block, from, sizeof block);
            F::decode(block, x);
          },
          check_codes<F>};
}
template <class... F>
std::vector<Codec> codecs(FormatList<F...>) {
  return {codec_of<F>()...};
}

double squared_error(std::span<const float> x, std::span<const float> y) {
  double error = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    error += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
  return error;
}
double squared_size(std::span<const float> x) { return squared_error(x, Values(x.size())); }

/// Normal, one-sided, outliers, sparse, many sizes within one block; all times 2^exponent.
Values sample(std::size_t size, int kind, int exponent, std::uint64_t stream) {
  const Philox draws(7, stream);
  std::uint64_t at = 0;
  Values x(size);
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

class CodecLaws : public ::testing::TestWithParam<Codec> {};

TEST_P(CodecLaws, DecodesTheReferenceExactly) {
  const Codec& f = GetParam();
  const auto golden = test::golden_gguf();
  if (!golden) GTEST_SKIP() << "golden.gguf is not there (TESSERA_TEST_DATA)";
  if (!golden->has(detail::concat("q.", f.name))) GTEST_SKIP() << "the reference needs an importance matrix for it";
  const auto stored = golden->bytes(detail::concat("q.", f.name));
  const auto expected = golden->floats(detail::concat("y.", f.name));
  ASSERT_GT(expected.size(), 0u);
  ASSERT_EQ(stored.size() / f.bytes * f.block_size, expected.size());
  for (std::size_t b = 0; b < expected.size() / f.block_size; ++b) {
    const auto y = f.decode(stored.data() + b * f.bytes);
    ASSERT_EQ(0, std::memcmp(y.data(), &expected[b * y.size()], 4 * y.size())) << "block " << b;
  }
}

TEST_P(CodecLaws, QuantizesNoWorseThanTheReference) {
  const Codec& f = GetParam();
  const auto golden = test::golden_gguf();
  if (!golden) GTEST_SKIP() << "golden.gguf is not there (TESSERA_TEST_DATA)";
  if (!golden->has(detail::concat("q.", f.name))) GTEST_SKIP() << "the reference needs an importance matrix for it";
  const auto input = golden->floats("input");
  const auto theirs = golden->floats(detail::concat("y.", f.name));
  ASSERT_EQ(input.size(), theirs.size());
  double ours = 0, reference = 0;
  for (std::size_t at = 0; at < input.size(); at += f.block_size) {
    const auto x = std::span(input).subspan(at, f.block_size);
    ours += squared_error(x, f.roundtrip(x));
    reference += squared_error(x, std::span(theirs).subspan(at, f.block_size));
  }
  EXPECT_LE(ours, reference);
}

TEST_P(CodecLaws, CodesScalesAndMinimaAreTheValues) {
  for (std::uint64_t stream = 0; stream < 200 && !HasFatalFailure(); ++stream) GetParam().check_codes(stream);
}

TEST_P(CodecLaws, ErrorIsThatOfTheBitsAndNeverAboveThatOfZeros) {
  const Codec& f = GetParam();
  double normal_error = 0, normal_size = 0;
  for (int kind = 0; kind < kinds; ++kind)
    for (int exponent = -34; exponent <= 4; exponent += 3)
      for (std::uint64_t repeat = 0; repeat < 4; ++repeat) {
        const auto x = sample(f.block_size, kind, exponent, repeat);
        const double size = squared_size(x), error = squared_error(x, f.roundtrip(x));
        ASSERT_LE(error, size * (1 + 1e-5) + 1e-20) << "kind " << kind << ", 2^" << exponent;
        if (kind == 0 && exponent >= -4) {
          normal_error += error / size;
          normal_size += 1;
        }
      }
  EXPECT_LT(normal_error, 3.3 * std::pow(4.0, -f.bits) * normal_size);
}

TEST_P(CodecLaws, ReencodingLosesNothingOrLess) {
  const Codec& f = GetParam();
  double first = 0, second = 0;
  for (int kind = 0; kind < kinds; ++kind)
    for (std::uint64_t repeat = 0; repeat < 10; ++repeat) {
      const auto x = sample(f.block_size, kind, 0, repeat), y = f.roundtrip(x), z = f.roundtrip(y);
      first += squared_error(x, y) / squared_size(x);
      second += squared_error(y, z) / squared_size(x);
      if (!f.two_level) {
        ASSERT_EQ(y, z) << "kind " << kind;
      }
    }
  EXPECT_LT(second, 0.6 * first);
}

TEST_P(CodecLaws, NothingFiniteHidesAValueThatIsNot) {
  const Codec& f = GetParam();
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity(), 3.4e38f, -3.4e38f})
    for (std::size_t at : {std::size_t{0}, f.block_size / 2 - 1, f.block_size - 1}) {
      if (f.name == "mxfp4" && std::isfinite(bad)) continue;  // it holds that
      auto x = sample(f.block_size, 0, 0, 1);
      x[at] = bad;
      for (float y : f.roundtrip(x)) ASSERT_TRUE(std::isnan(y)) << bad << " at " << at;
    }
}

TEST_P(CodecLaws, ZerosStayZero) {
  for (float zero : {0.0f, -0.0f, 1e-40f})
    for (float y : GetParam().roundtrip(Values(GetParam().block_size, zero))) EXPECT_EQ(y, 0.0f);
}

INSTANTIATE_TEST_SUITE_P(Formats, CodecLaws, ::testing::ValuesIn(codecs(CodecFormats{})),
                         [](const auto& each) { return std::string(each.param.name); });

TEST(MXFP4, HoldsTheWholeRange) {
  const Codec f = codec_of<MXFP4>();
  for (float size : {1e-36f, 1e-20f, 1e20f, 3e38f}) {
    Values x(32);
    x[3] = size;
    x[4] = -size / 6;
    const auto y = f.roundtrip(x);
    EXPECT_NEAR(y[3] / size, 1, 0.2);
    EXPECT_NEAR(y[4] * 6 / size, -1, 0.5);
  }
  for (float y : f.decode(Bytes(17, std::byte{255}).data())) EXPECT_TRUE(std::isnan(y));
}

}  // namespace
}  // namespace tessera
