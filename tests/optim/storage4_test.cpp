#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/storage4.hpp>
#include <vector>

#include "optim/laws.hpp"
#include "optim/training.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

std::vector<float> through(std::vector<float> x, const char* slot, std::uint32_t key) {
  const auto n = static_cast<Index>(x.size());
  Dynamic4Slot codec(n, slot);
  codec.encode(0, n, x.data(), key);
  codec.decode(0, n, x.data());
  return x;
}

TEST(Storage4, RoundsToTheRightMean) {
  constexpr std::uint32_t runs = 2000;
  for (const char* slot : {"mu", "nu"}) {
    const bool squares = std::strcmp(slot, "nu") == 0;
    auto drawn = random_buffer<float>(300, 5);  // two blocks and a part
    std::vector<float> x(drawn.begin(), drawn.end());
    for (float& v : x) v = std::clamp(squares ? std::abs(v) : v, -2.0f, 2.0f);
    x[1] = x[140] = x[290] = 2;
    x[0] = 0;
    std::vector<double> sum(x.size());
    for (std::uint32_t key = 0; key < runs; ++key) {
      const auto y = through(x, slot, key * 7919);
      for (std::size_t i = 0; i < x.size(); ++i) {
        sum[i] += y[i];
        ASSERT_LE(std::abs(y[i] - x[i]), 2 * (squares ? 64 / 191.0 : 4 / 11.0) * 1.0001) << i;  // the widest step
      }
      ASSERT_NEAR(y[1], 2, 1e-6);
      ASSERT_EQ(y[0], squares ? 0.5f * (2.0f / 191) : 0);
    }
    for (std::size_t i = 0; i < x.size(); ++i)
      if (!squares || x[i] > 1 / 191.0f) {  // below, there is no size
        EXPECT_NEAR(sum[i] / runs, x[i], 5 * 0.5 * 2 * (squares ? 64 / 191.0 : 4 / 11.0) / std::sqrt(double{runs}))
            << i;
      }
  }
}

TEST(Storage4, LanesAgreeAndSpecialNumbersStay) {
  namespace c = detail::codes;
  auto x = random_buffer<float>(128, 9);
  std::uint8_t a[64], b[64];
  float y[128], z[128];
  for (const bool squares : {false, true})
    for (const float special : {0.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN(),
                                1e-42f, std::numeric_limits<float>::max()}) {
      x[17] = special;
      const float scale = c::portable::dynamic4_encode(x.data(), squares, a, 3, 0);
      c::portable::dynamic4_decode(a, squares, scale, y);
      EXPECT_EQ(std::isnan(y[0]), !std::isfinite(special));
      const float other = c::lane4().encode(x.data(), squares, b, 3, 0);
      c::lane4().decode(b, squares, scale, z);
      EXPECT_EQ(std::memcmp(&scale, &other, sizeof scale), 0);
      EXPECT_EQ(std::memcmp(a, b, sizeof a), 0);
      EXPECT_EQ(std::memcmp(y, z, sizeof y), 0);
    }
  for (const char* slot : {"mu", "nu"}) {
    for (const float v : through(std::vector<float>(5, 0.0f), slot, 1)) EXPECT_EQ(v, 0);
    EXPECT_TRUE(through({}, slot, 1).empty());
  }
}

TEST(Storage4, AdamKeepsItsPromises) {
  obeys(
      chain(in_dynamic4(scale_by_adam({.b2 = 0.95}), 7), scale(-0.01)), [](Index, const Plain&, Plain&) {},
      10);  // only the bits
}

TEST(Storage4, LearnsFasterThanDescentInAnEighthOfAdamsBytes) {
  Model<float> model(64, 128);
  auto state = chain(in_dynamic4(scale_by_adam())).init(model.params);
  const std::size_t numbers = 64 * 128 + 128;
  EXPECT_EQ(state.state_bytes(), numbers + numbers / 16);  // 2·(4 bits and a float for 128): 0.13 of f32's
  const double whole = best_of([](double rate) { return adam(rate); }, {0.05, 0.1}, 400);
  const double coded =
      best_of([](double rate) { return chain(in_dynamic4(scale_by_adam()), scale(-rate)); }, {0.05, 0.1}, 400);
  const double descent = best_of([](double rate) { return sgd(rate); }, {0.2}, 400);
  // Of the first loss 0.028, 0.061 and 0.161 are left.
  EXPECT_LT(coded, 0.5 * descent);
  EXPECT_LT(whole, coded);  // the sizes of squares are coarse
}

}  // namespace
}  // namespace tessera::optim
