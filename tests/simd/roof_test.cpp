// The probes of the machine's limits: they measure something, touch what they say, and refuse what does not fit.
#include <gtest/gtest.h>

#include <cmath>

#include <support/amx_emulator.hpp>
#include <tessera/simd/roof.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

TEST(Roof, RegistersAreMeasuredWhereThereIsAnInstruction) {
  if (active_isa().has(Isa::avx2)) {
    EXPECT_GT(roof::fma<float>(), 0);
    EXPECT_GT(roof::fma<double>(), 0);
    EXPECT_GT(roof::dot_i8_by_pairs(), 0);
    EXPECT_GT(roof::dot_i4_by_pairs(), 0);
  } else {
    EXPECT_EQ(roof::fma<float>(), 0);
    EXPECT_EQ(roof::dot_i8_by_pairs(), 0);
  }
  const bool dots = active_isa().has(Isa::avx512_vnni) || active_isa().has(Isa::avx_vnni);
  EXPECT_EQ(roof::dot_i8() > 0, dots);
  const AmxEmulation amx;
  EXPECT_EQ(roof::amx_bf16() > 0, active_isa().has(Isa::amx_bf16));
  EXPECT_EQ(roof::amx_i8() > 0, active_isa().has(Isa::amx_int8));
}

TEST(Roof, StreamsDoWhatTheySay) {
  constexpr Index n = 4096;
  Buffer<float> a(n), b(n), c(n);
  for (Index i = 0; i < n; ++i) {
    b[i] = static_cast<float>(i);
    c[i] = static_cast<float>(2 * i);
  }
  EXPECT_GT(roof::copy(a, b), 0);
  for (Index i = 0; i < n; ++i) ASSERT_EQ(a[i], b[i]);
  EXPECT_GT(roof::copy_past_caches(a, c), 0);
  for (Index i = 0; i < n; ++i) ASSERT_EQ(a[i], c[i]);
  EXPECT_GT(roof::triad(a, b, c), 0);
  for (Index i = 0; i < n; ++i) ASSERT_EQ(a[i], static_cast<float>(2 * i));
  EXPECT_GT(roof::update(a), 0);
  for (Index i = 0; i < n; ++i) ASSERT_EQ(a[i], static_cast<float>(i));
  EXPECT_GT(roof::read(a), 0);
}

TEST(Roof, RefusesBuffersOfTwoSizes) {
  Buffer<float> a(64), b(128);
  EXPECT_THROW(roof::copy(a, b), shape_error);
  EXPECT_THROW(roof::copy_past_caches(a, b), shape_error);
  EXPECT_THROW(roof::triad(a, a, b), shape_error);
}

}  // namespace
}  // namespace tessera::test
