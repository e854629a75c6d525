#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <span>
#include <tessera/core/rng.hpp>
#include <tessera/quant/formats.hpp>
#include <tessera/quant/quantizers/round_to_nearest.hpp>
#include <tessera/quant/quantizers/scale_search.hpp>

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

using Values = std::array<float, 32>;

template <class F>
Values decode(const typename F::Block& block) {
  Values x;
  F::decode(block, x);
  return x;
}

template <class F>
typename F::Block encode(const Values& x) {
  typename F::Block block;
  F::encode(x, block);
  return block;
}

/// Normal, one-sided, outliers, sizes from 2^-12 to 2^8, sparse.
std::vector<Values> samples() {
  std::vector<Values> all;
  const Philox draws(7);
  std::uint64_t at = 0;
  for (int kind = 0; kind < 5; ++kind)
    for (int repeat = 0; repeat < 200; ++repeat) {
      Values x;
      const float size = std::ldexp(1.0f, static_cast<int>(draws.below(at++, 21)) - 12);
      for (float& v : x) {
        v = size * static_cast<float>(draws.normal(at++));
        if (kind == 1) v = std::abs(v);
        if (kind == 2 && draws.below(at++, 16) == 0) v *= 30;
        if (kind == 3 && draws.below(at++, 2) == 0) v = 0;
        if (kind == 4) v = -std::abs(v);
      }
      all.push_back(x);
    }
  return all;
}

/// Half a step; Q4_0 has no code +8, Q5_0 no code +16, so that its end opposite to the extreme value is up to a step
/// off, and half of one more where the scale is subnormal and thus coarse.
template <class F>
double error_bound(const typename F::Block& block, float x) {
  const double d = std::abs(static_cast<double>(float(block.d)));
  double steps = 0.5;
  if constexpr (F::zero != 0)
    if (static_cast<double>(x) / static_cast<double>(float(block.d)) > F::zero - 0.5) steps = d < 0x1p-14 ? 1.5 : 1.01;
  return d * steps * (1 + 1e-5) + 4e-7 * std::abs(static_cast<double>(x));
}

double squared_error(const Values& x, const Values& y) {
  double error = 0;
  for (std::size_t i = 0; i < 32; ++i) error += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
  return error;
}

template <class F>
bool same(const typename F::Block& a, const typename F::Block& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

template <class F>
class BlockFormatLaws : public ::testing::Test {};
using HalfStepFormats = FormatList<Q8_0, Q4_0, Q4_1, Q5_0, Q5_1>;
TYPED_TEST_SUITE(BlockFormatLaws, TestTypes<HalfStepFormats>::type, FormatNames);

TYPED_TEST(BlockFormatLaws, ErrorIsAtMostHalfAStep) {
  for (const Values& x : samples()) {
    const auto block = encode<TypeParam>(x);
    const Values y = decode<TypeParam>(block);
    for (std::size_t i = 0; i < 32; ++i)
      ASSERT_LE(std::abs(static_cast<double>(x[i]) - static_cast<double>(y[i])), error_bound<TypeParam>(block, x[i]))
          << x[i] << " became " << y[i];
  }
}

TYPED_TEST(BlockFormatLaws, QuantizingTheDecodedIsTheIdentity) {
  for (const Values& x : samples()) {
    const auto block = encode<TypeParam>(x);
    if (std::abs(float(block.d)) < 0x1p-14f) continue;  // a coarse, subnormal scale may be refined
    const auto again = encode<TypeParam>(decode<TypeParam>(block));
    ASSERT_TRUE(same<TypeParam>(block, again)) << float(block.d) << " became " << float(again.d);
  }
}

TYPED_TEST(BlockFormatLaws, NothingFiniteHidesAValueThatIsNot) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity(), 3e38f, -3e38f})
    for (std::size_t at : {0u, 15u, 16u, 31u}) {
      Values x = samples()[0];
      x[at] = bad;
      const auto block = encode<TypeParam>(x);
      for (float y : decode<TypeParam>(block)) EXPECT_TRUE(std::isnan(y)) << bad << " at " << at;
      EXPECT_TRUE(same<TypeParam>(block, encode<TypeParam>(decode<TypeParam>(block))));
    }
}

TYPED_TEST(BlockFormatLaws, ZerosStayZero) {
  for (float zero : {0.0f, -0.0f}) {
    Values x;
    x.fill(zero);
    const auto block = encode<TypeParam>(x);
    EXPECT_EQ(float(block.d), 0.0f);
    for (float y : decode<TypeParam>(block)) EXPECT_EQ(y, 0.0f);
    EXPECT_TRUE(same<TypeParam>(block, encode<TypeParam>(decode<TypeParam>(block))));
  }
}

TYPED_TEST(BlockFormatLaws, TinyValuesUseSubnormalScales) {
  const Philox draws(11);
  for (int exponent = -34; exponent < -10; ++exponent)
    for (std::uint64_t repeat = 0; repeat < 40; ++repeat) {
      Values x;
      for (std::size_t i = 0; i < 32; ++i)
        x[i] = std::ldexp(static_cast<float>(draws.normal(repeat * 32 + i)), exponent);
      const auto block = encode<TypeParam>(x);
      const Values y = decode<TypeParam>(block);
      for (std::size_t i = 0; i < 32; ++i)
        ASSERT_LE(std::abs(static_cast<double>(x[i]) - static_cast<double>(y[i])),
                  std::max(error_bound<TypeParam>(block, x[i]), 0x1p-25))
            << exponent;
    }
}

template <class F>
class ScaleSearchLaws : public ::testing::Test {};
using SearchedFormats = FormatList<Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, GroupAffine<3, 32>>;
TYPED_TEST_SUITE(ScaleSearchLaws, TestTypes<SearchedFormats>::type, FormatNames);

TYPED_TEST(ScaleSearchLaws, IsNeverWorseAndOftenBetter) {
  double nearest_total = 0, searched_total = 0;
  for (const Values& x : samples()) {
    typename TypeParam::Block nearest, searched;
    RoundToNearest{}.template encode<TypeParam>(x, nearest);
    ScaleSearch{}.template encode<TypeParam>(x, searched);
    const double size = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
    const double before = squared_error(x, decode<TypeParam>(nearest)),
                 after = squared_error(x, decode<TypeParam>(searched));
    ASSERT_LE(after, before);
    nearest_total += before / size;
    searched_total += after / size;
  }
  EXPECT_LT(searched_total, 0.97 * nearest_total);
}

TYPED_TEST(ScaleSearchLaws, KeepsZerosAndNaN) {
  Values x{};
  typename TypeParam::Block block;
  ScaleSearch{}.template encode<TypeParam>(x, block);
  EXPECT_EQ(decode<TypeParam>(block), x);
  x[3] = std::numeric_limits<float>::infinity();
  ScaleSearch{}.template encode<TypeParam>(x, block);
  for (float y : decode<TypeParam>(block)) EXPECT_TRUE(std::isnan(y));
}

TEST(ScaleSearch, TakesEveryFormat) {
  const auto check = []<class F>(std::type_identity<F>) {
    std::array<float, F::block_size> x{}, y, z;
    const Philox draws(12);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(draws.normal(i));
    typename F::Block block;
    F::encode(x, block);
    F::decode(block, y);
    ScaleSearch{}.template encode<F>(x, block);
    F::decode(block, z);
    double before = 0, after = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      before += std::pow(static_cast<double>(x[i] - y[i]), 2);
      after += std::pow(static_cast<double>(x[i] - z[i]), 2);
    }
    EXPECT_LE(after, before * (1 + 1e-6)) << F::name;
  };
  check(std::type_identity<Q4_K>{});
  check(std::type_identity<IQ4_NL>{});
  check(std::type_identity<TQ2_0>{});
  check(std::type_identity<MXFP4>{});
  check(std::type_identity<NF4>{});
  check(std::type_identity<GroupAffine<8, 64, false>>{});
}

TEST(Q4_1, ConstantBlocksKeepTheirPrecision) {
  for (float v : {1.0f, -3.0f, 0.1f, -0.1f, 1000.3f, -1000.3f}) {
    Values x;
    x.fill(v);
    for (float y : decode<Q4_1>(encode<Q4_1>(x))) EXPECT_NEAR(y, v, std::abs(v) * 0x1p-14f) << v;
  }
}

}  // namespace
}  // namespace tessera
