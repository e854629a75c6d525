// Formats that no file format defines: integers by group, NF4, 8-bit microscaling.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <tessera/core/rng.hpp>
#include <tessera/quant/formats.hpp>
#include <vector>

namespace tessera {
namespace TESSERA_TEST_FILE {

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
Values<F> sample(std::uint64_t stream, float size = 1) {
  Values<F> x;
  const Philox draws(9, stream);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = size * static_cast<float>(draws.normal(i));
  return x;
}

template <class F>
Values<F> roundtrip(const Values<F>& x) {
  typename F::Block block;
  F::encode(x, block);
  Values<F> y;
  F::decode(block, y);
  return y;
}

double squared_error(std::span<const float> x, std::span<const float> y) {
  double error = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    error += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
  return error;
}

template <class F>
class OtherFormatLaws : public ::testing::Test {};
TYPED_TEST_SUITE(OtherFormatLaws, TestTypes<OtherFormats>::type, FormatNames);

TYPED_TEST(OtherFormatLaws, ErrorIsThatOfTheBits) {
  using F = TypeParam;
  double error = 0, size = 0;
  for (std::uint64_t repeat = 0; repeat < 50; ++repeat)
    for (float scale : {0.01f, 1.0f, 30.0f}) {
      const auto x = sample<F>(repeat, scale);
      const double whole = squared_error(x, Values<F>{});
      error += squared_error(x, roundtrip<F>(x)) / whole;
      size += 1;
    }
  double codes = F::bits;
  if (F::name.starts_with("mxfp8"))
    codes = F::name.ends_with("e4m3") ? 5 : 4;  // a bit of sign and those of the mantissa
  EXPECT_LT(error / size, 4.5 * std::pow(4.0, -codes));
}

TYPED_TEST(OtherFormatLaws, GroupedValuesAreHalfAStepOff) {
  using F = TypeParam;
  if constexpr (GroupedBlockFormat<F>) {
    for (std::uint64_t repeat = 0; repeat < 50; ++repeat) {
      auto x = sample<F>(repeat);
      if (repeat % 2 == 1)
        for (float& v : x) v = 5 + std::abs(v);
      typename F::Block block;
      F::encode(x, block);
      Values<F> y;
      F::decode(block, y);
      std::array<std::int8_t, F::block_size> q;
      F::integers(block, q);
      const float d = F::scale(block, 0);
      float m = 0, most = 0;
      if constexpr (F::has_minimum) m = F::minimum(block, 0);
      for (const float v : x) most = std::max(most, std::abs(v));
      for (std::size_t i = 0; i < y.size(); ++i) {
        ASSERT_EQ(y[i], d * static_cast<float>(q[i]) + m);
        // f16 rounds m; a symmetric format has no code opposite to its lowest.
        const float steps = !F::has_minimum && F::bits < 8 && x[i] / d > 0 ? 1.01f : 0.5f;
        ASSERT_LE(std::abs(x[i] - y[i]), std::abs(d) * steps * 1.001f + most * 0x1p-11f);
      }
    }
  } else {
    GTEST_SKIP() << "codes are no integers";
  }
}

TYPED_TEST(OtherFormatLaws, CodesRoundTrip) {
  using F = TypeParam;
  if constexpr (requires(typename F::Block b, std::span<std::uint8_t> c) { F::codes(b, c); }) {
    for (std::uint64_t repeat = 0; repeat < 50; ++repeat) {
      const Philox draws(4, repeat);
      std::array<std::uint8_t, F::block_size> codes, again;
      for (std::size_t i = 0; i < codes.size(); ++i)
        codes[i] = static_cast<std::uint8_t>(draws.below(i, std::uint64_t{1} << F::bits));
      typename F::Block block;
      F::set_codes(block, codes);
      F::codes(block, again);
      ASSERT_EQ(codes, again);
    }
  } else {
    GTEST_SKIP() << "gives no codes";
  }
}

TYPED_TEST(OtherFormatLaws, NothingFiniteHidesAValueThatIsNot) {
  using F = TypeParam;
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()})
    for (std::size_t at : {std::size_t{0}, static_cast<std::size_t>(F::block_size - 1)}) {
      auto x = sample<F>(1);
      x[at] = bad;
      for (float y : roundtrip<F>(x)) ASSERT_TRUE(std::isnan(y)) << bad << " at " << at;
    }
}

TYPED_TEST(OtherFormatLaws, ZerosStayZeroAndTinyOrLargeValuesFinite) {
  using F = TypeParam;
  for (float zero : {0.0f, -0.0f}) {
    Values<F> x;
    x.fill(zero);
    for (float y : roundtrip<F>(x)) EXPECT_EQ(y, 0.0f);
  }
  for (float size : {1e-44f, 1e-30f, 1e-8f, 1e4f}) {
    const auto x = sample<F>(2, size);
    EXPECT_LE(squared_error(x, roundtrip<F>(x)), squared_error(x, Values<F>{}) + 1e-12) << size;
  }
}

TYPED_TEST(OtherFormatLaws, ReencodingLosesLittle) {
  using F = TypeParam;
  double first = 0, second = 0;
  for (std::uint64_t repeat = 0; repeat < 50; ++repeat) {
    const auto x = sample<F>(repeat), y = roundtrip<F>(x), z = roundtrip<F>(y);
    first += squared_error(x, y);
    second += squared_error(y, z);
  }
  EXPECT_LE(second, 0.02 * first);
}

// Their codes lie otherwise than the kernels of AffineBlockFormat read them.
static_assert(!AffineBlockFormat<GroupAffine<4, 32>> && !AffineBlockFormat<GroupAffine<4, 32, false>> &&
              !AffineBlockFormat<MXINT8> && !AffineBlockFormat<IQ4_NL>);
static_assert(AffineBlockFormat<GroupAffine<8, 32>>);  // as Q8_0

TEST(NF4, DoubleQuantizationCostsLittle) {
  double once = 0, twice = 0;
  for (std::uint64_t repeat = 0; repeat < 20; ++repeat) {
    const auto x = sample<NF4Double<16>>(repeat);
    twice += squared_error(x, roundtrip<NF4Double<16>>(x));
    for (std::size_t g = 0; g < 16; ++g) {
      Values<NF4> part;
      std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(64 * g), 64, part.begin());
      once += squared_error(part, roundtrip<NF4>(part));
    }
  }
  EXPECT_LT(twice, 1.01 * once);
  EXPECT_NEAR(bits_per_value<NF4>, 4.5, 1e-12);
  EXPECT_NEAR(bits_per_value<NF4Double<>>, 4.129, 1e-3);
}

}  // namespace
}  // namespace tessera
