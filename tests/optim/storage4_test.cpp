#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <tessera/optim/adan.hpp>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/amsgrad.hpp>
#include <tessera/optim/rms.hpp>
#include <tessera/optim/storage4.hpp>
#include <vector>

#include "optim/laws.hpp"
#include "optim/training.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

std::vector<float> through(std::vector<float> x, bool squares, std::uint32_t key) {
  const auto n = static_cast<Index>(x.size());
  Dynamic4Slot codec(n, squares);
  codec.encode(0, n, x.data(), key);
  codec.decode(0, n, x.data());
  return x;
}

TEST(Storage4, RoundsToTheRightMean) {
  constexpr std::uint32_t runs = 2000;
  for (const bool squares : {false, true}) {
    auto drawn = random_buffer<float>(300, 5);  // two blocks and a part
    std::vector<float> x(drawn.begin(), drawn.end());
    for (float& v : x) v = std::clamp(squares ? std::abs(v) : v, -2.0f, 2.0f);
    x[1] = x[140] = x[290] = 2;
    x[0] = 0;
    std::vector<double> sum(x.size());
    for (std::uint32_t key = 0; key < runs; ++key) {
      const auto y = through(x, squares, key * 7919);
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
  for (const bool squares : {false, true}) {
    for (const float v : through(std::vector<float>(5, 0.0f), squares, 1)) EXPECT_EQ(v, 0);
    EXPECT_TRUE(through({}, squares, 1).empty());
  }
}

/// The longest step of any parameter where each row has gradients in one step of four.
template <class Link>
double longest_step(const Link& link) {
  constexpr Index rows = 4, cols = 128;
  Buffer<float> w(rows * cols), g(rows * cols);
  std::fill(w.begin(), w.end(), 0.0f);
  const Parameters<float> params{{"w", std::span<float>(w)}}, grads{{"w", std::span<float>(g)}};
  const auto opt = chain(link, scale(-1));
  auto state = opt.init(params);
  Context ctx;
  double longest = 0;
  for (Index step = 0; step < 40; ++step) {
    const auto drawn = random_buffer<float>(rows * cols, static_cast<std::uint64_t>(step));
    std::copy(drawn.begin(), drawn.end(), g.begin());
    for (Index row = 0; row < rows; ++row)
      if ((row + step) % 4 != 0) std::fill_n(g.data() + row * cols, cols, 0.0f);
    const Buffer<float> before = w;
    opt.update(ctx, grads, state, params);
    for (Index i = 0; i < rows * cols; ++i)
      longest = std::max(longest, static_cast<double>(std::abs(w[i] - before[i])));
  }
  return longest;
}

/// No square is rounded to 0 while its average's root is divided by.
TEST(Storage4, SeldomGradientsTakeNoLongerSteps) {
  const auto no_longer = [](const auto& link) {
    const double whole = longest_step(link);
    EXPECT_LE(longest_step(in_bf16(link)), 1.05 * whole);
    EXPECT_LE(longest_step(in_dynamic8(link)), 1.1 * whole);
    EXPECT_LE(longest_step(in_dynamic4(link)), 2 * whole);
  };
  no_longer(scale_by_adam());
  no_longer(scale_by_amsgrad());
  no_longer(scale_by_adan());
  no_longer(scale_by_rss());
  no_longer(scale_by_adadelta());
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
