// Small floats against an oracle that knows only the table of their values: the nearest one, ties to the even code.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <tessera/core/rng.hpp>
#include <tessera/core/types.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

template <class T>
class SmallFloat : public ::testing::Test {
 protected:
  static constexpr int width = 8 * static_cast<int>(sizeof(typename T::bits_type));
  static constexpr std::uint32_t codes = 1u << width;

  /// The value of a code by its definition, sign·(implicit + fraction)·2^exponent.
  static double value(std::uint32_t code) {
    const std::uint32_t magnitude = code & (T::sign_mask - 1);
    const double sign = (code & T::sign_mask) != 0 ? -1 : 1;
    const std::uint32_t field = magnitude >> T::mantissa_bits;
    const std::uint32_t fraction = magnitude & ((1u << T::mantissa_bits) - 1);
    const bool top = field == (1u << T::exponent_bits) - 1;
    if (T::has_infinity && top)
      return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
    if (!T::has_infinity && magnitude == T::sign_mask - 1) return std::numeric_limits<double>::quiet_NaN();
    const int exponent = static_cast<int>(field == 0 ? 1 : field) - T::bias - T::mantissa_bits;
    return sign * std::ldexp(static_cast<double>(fraction + (field == 0 ? 0 : 1u << T::mantissa_bits)), exponent);
  }

  /// Codes of the finite values >= 0 are 0, 1, … in order; the one past them stands for the value they would go on to.
  static std::uint32_t finite_codes() { return T::infinity_code; }
  static double ladder(std::uint32_t code) {
    return code < finite_codes() ? value(code) : 2 * value(code - 1) - value(code - 2);
  }

  template <class Wide>
  void expect_code(Wide x, std::uint32_t code) {
    const T encoded(x);
    if (std::isnan(value(code))) {
      ASSERT_TRUE(std::isnan(float(encoded))) << double(x);
    } else {
      ASSERT_EQ(encoded.bits, code) << double(x);
    }
  }

  /// Around the boundary between two neighbouring codes, in f32 or f64.
  template <class Wide>
  void check_between(std::uint32_t low) {
    const std::uint32_t sign = T::sign_mask, high = low + 1;
    const Wide middle = static_cast<Wide>((ladder(low) + ladder(high)) / 2);
    if (static_cast<double>(middle) * 2 != ladder(low) + ladder(high)) return;  // no exact midpoint in Wide
    const std::uint32_t even = low % 2 == 0 ? low : high;
    const Wide below = std::nextafter(middle, Wide(0)), above = std::nextafter(middle, Wide(INFINITY));
    expect_code(middle, even);
    expect_code(-middle, even | sign);
    expect_code(below, low);
    expect_code(-below, low | sign);
    expect_code(above, high);
    expect_code(-above, high | sign);
  }
};
using SmallFloats = ::testing::Types<bf16, f16, fp8_e4m3, fp8_e5m2>;
TYPED_TEST_SUITE(SmallFloat, SmallFloats);

TYPED_TEST(SmallFloat, EveryCodeDecodesToItsValueAndBack) {
  using T = TypeParam;
  for (std::uint32_t code = 0; code < this->codes; ++code) {
    const T x = T::from_bits(code);
    const double expected = this->value(code);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(float(x))) << code;
      ASSERT_TRUE(std::isnan(float(T(float(x))))) << code;
      ASSERT_TRUE(std::isnan(float(T(std::numeric_limits<double>::quiet_NaN()))));
      continue;
    }
    ASSERT_EQ(static_cast<double>(float(x)), expected) << code;
    ASSERT_EQ(std::signbit(float(x)), (code & T::sign_mask) != 0) << code;
    ASSERT_EQ(T(float(x)).bits, code);
    ASSERT_EQ(T(static_cast<double>(float(x))).bits, code);
  }
}

TYPED_TEST(SmallFloat, RoundsToNearestTiesToEvenBetweenAllNeighbours) {
  for (std::uint32_t code = 0; code < this->finite_codes(); ++code) {
    this->template check_between<float>(code);
    this->template check_between<double>(code);
    if (this->HasFatalFailure()) return;
  }
}

TYPED_TEST(SmallFloat, ExtremesGoToZeroAndPastTheLargest) {
  using T = TypeParam;
  for (const std::uint32_t sign : {0u, T::sign_mask}) {
    const double s = sign != 0 ? -1 : 1;
    EXPECT_EQ(T(static_cast<float>(s) * std::numeric_limits<float>::denorm_min()).bits, sign);
    EXPECT_EQ(T(s * std::numeric_limits<double>::denorm_min()).bits, sign);
    this->expect_code(s * std::numeric_limits<double>::max(), T::infinity_code | sign);
    this->expect_code(s * std::numeric_limits<double>::infinity(), T::infinity_code | sign);
    this->expect_code(static_cast<float>(s) * std::numeric_limits<float>::max(), T::infinity_code | sign);
  }
}

TYPED_TEST(SmallFloat, RandomDoublesLandOnTheNearestCode) {
  using T = TypeParam;
  const Philox draws(5);
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const auto words = draws.block(i);
    const double x = std::ldexp(1.0 + words[0] * 0x1p-32, static_cast<int>(words[1] % 60) - 30);
    const T y(x);
    if (!std::isfinite(float(y))) continue;
    const std::uint32_t code = y.bits;
    const double error = std::abs(this->ladder(code) - x);
    ASSERT_LE(error, std::abs(this->ladder(code + 1) - x)) << x;
    ASSERT_LE(error, std::abs(this->ladder(code == 0 ? 0 : code - 1) - x)) << x;
  }
}

TYPED_TEST(SmallFloat, SaturateCastClampsAndKeepsNaN) {
  using T = TypeParam;
  using L = std::numeric_limits<T>;
  EXPECT_EQ(saturate_cast<T>(INFINITY).bits, L::max().bits);
  EXPECT_EQ(saturate_cast<T>(-INFINITY).bits, L::lowest().bits);
  EXPECT_EQ(saturate_cast<T>(float(L::max())).bits, L::max().bits);
  EXPECT_EQ(saturate_cast<T>(std::nextafter(float(L::max()), INFINITY)).bits, L::max().bits);
  EXPECT_EQ(saturate_cast<T>(3e38f).bits,
            sizeof(typename T::bits_type) == 2 && T::exponent_bits == 8 ? T(3e38f).bits : L::max().bits);
  EXPECT_TRUE(std::isnan(float(saturate_cast<T>(NAN))));
  EXPECT_EQ(float(saturate_cast<T>(1.5f)), 1.5f);
}

TYPED_TEST(SmallFloat, LimitsAreThoseOfTheTable) {
  using T = TypeParam;
  using L = std::numeric_limits<T>;
  EXPECT_EQ(double(float(L::max())), this->value(T::infinity_code - 1));
  EXPECT_EQ(float(L::lowest()), -float(L::max()));
  EXPECT_EQ(double(float(L::denorm_min())), this->value(1));
  EXPECT_EQ(double(float(L::min())), this->value(1u << T::mantissa_bits));
  EXPECT_EQ(float(T(1.0f + float(L::epsilon()))), 1.0f + float(L::epsilon()));
  EXPECT_EQ(float(T(1.0f + float(L::epsilon()) / 2)), 1.0f);
  EXPECT_TRUE(std::isnan(float(L::quiet_NaN())));
  if constexpr (T::has_infinity) {
    EXPECT_TRUE(std::isinf(float(L::infinity())));
  } else {
    EXPECT_TRUE(std::isnan(float(T(INFINITY))));
  }
}

TEST(SmallFloat, KnownCodes) {
  EXPECT_EQ(f16(1.0f).bits, 0x3c00);
  EXPECT_EQ(f16(65504.0f).bits, 0x7bff);
  EXPECT_EQ(f16(65519.99f).bits, 0x7bff);
  EXPECT_EQ(f16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(f16(0x1p-24f).bits, 1);
  EXPECT_EQ(f16(0x1p-25f).bits, 0);
  EXPECT_EQ(bf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(bf16(3.140625f).bits, 0x4049);
  EXPECT_EQ(fp8_e4m3(448.0f).bits, 0x7e);
  EXPECT_EQ(fp8_e4m3(465.0f).bits, 0x7f);
  EXPECT_EQ(fp8_e5m2(57344.0f).bits, 0x7b);
  EXPECT_EQ(fp8_e5m2(61440.0f).bits, 0x7c);
  EXPECT_EQ(f16(3).bits, f16(3.0f).bits);
  EXPECT_TRUE(f16(0.0f) == f16(-0.0f));
  EXPECT_FALSE(std::numeric_limits<f16>::quiet_NaN() == std::numeric_limits<f16>::quiet_NaN());
}

// Through f32 a double just above a midpoint would become the midpoint, and go the wrong way.
TEST(SmallFloat, DoublesAreRoundedOnce) {
  const double x = 1.0 + 0x1p-11 + 0x1p-40;
  EXPECT_EQ(f16(x).bits, 0x3c01);
  EXPECT_EQ(f16(static_cast<float>(x)).bits, 0x3c00);
}

TEST(SmallFloat, AccumulatesWider) {
  static_assert(std::is_same_v<accum_t<bf16>, float> && std::is_same_v<accum_t<const fp8_e4m3>, float>);
  static_assert(std::is_same_v<accum_t<std::int8_t>, std::int32_t> &&
                std::is_same_v<accum_t<std::int64_t>, std::int64_t>);
  static_assert(std::is_same_v<accum_t<double>, double>);
  static_assert(f16(2.0f) == f16(2) && float(bf16(0.5)) == 0.5f);
}

}  // namespace
}  // namespace tessera
