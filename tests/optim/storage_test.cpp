#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <tessera/optim/alias.hpp>
#include <tessera/optim/storage.hpp>
#include <vector>

#include "optim/laws.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

/// x after one way through Codec under `key`.
template <class Codec, class T>
std::vector<T> through(std::vector<T> x, std::uint32_t key) {
  const auto n = static_cast<Index>(x.size());
  Codec codec(n);
  codec.encode(0, n, x.data(), key);
  codec.decode(0, n, x.data());
  return x;
}

template <class Codec>
void mean_is_right(double step) {
  const auto draws = random_buffer<float>(300, 5);  // two blocks and a part
  std::vector<float> x(draws.begin(), draws.end());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] *= static_cast<float>(std::exp2(-static_cast<double>(i % 10)));
  x[0] = 0;
  x[1] = -4;
  x[140] = 4;
  x[290] = 4;
  constexpr std::uint32_t runs = 400;
  std::vector<double> sum(x.size());
  for (std::uint32_t key = 0; key < runs; ++key) {
    const auto y = through<Codec>(x, key * 7919);
    for (std::size_t i = 0; i < x.size(); ++i) {
      sum[i] += y[i];
      // A step each way of the number, at the low end of the largest's.
      ASSERT_LE(std::abs(y[i] - x[i]), step * std::abs(x[i]) + 4 * 0x1p-18) << i;
    }
    ASSERT_EQ(y[0], 0);
  }
  for (std::size_t i = 0; i < x.size(); ++i)  // five deviations, each at most half a step
    EXPECT_NEAR(sum[i] / runs, x[i], 5 * 0.5 * (step * std::abs(x[i]) + 4 * 0x1p-18) / std::sqrt(double{runs})) << i;
}

TEST(Storage, RoundsToTheRightMean) {
  mean_is_right<Bf16Slot>(0x1p-7);
  mean_is_right<Dynamic8Slot>(0x1p-3 * 1.01);
}

TEST(Storage, LanesAgreeAndSpecialNumbersStay) {
  namespace c = detail::codes;
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  auto x = random_buffer<float>(128, 9);
  std::uint8_t a[128], b[128];
  std::uint16_t h[128], k[128];
  float y[128], z[128], u[128];
  std::vector<c::Lane> lanes{c::lane()};
#if TESSERA_X86
  if (active_isa().has(Isa::avx2)) lanes.push_back(c::avx2_lane);
#endif
  for (const float special : {0.0f, infinity, nan, 1e-42f, 1e-35f, std::numeric_limits<float>::max()})
    for (const c::Key key : {c::Key(3), c::Key(7, true)}) {
      if (special == 1e-35f) std::fill(x.begin(), x.end(), -3e-36f);  // a scale whose offset is rounded
      x[17] = special;
      const bool squares = special == 0 || key.odd;
      const float scale = c::portable::dynamic8_encode(x.data(), squares, a, key, 384);
      c::portable::dynamic8_decode(a, scale, y);
      EXPECT_TRUE(special != 0 || (y[17] > 0 && y[17] <= 0x1p-18f * scale));
      EXPECT_EQ(std::isnan(y[0]), !std::isfinite(special));
      c::portable::bf16_encode(x.data(), h, key, 384);
      c::portable::bf16_decode(h, z);
      EXPECT_EQ(std::isnan(z[17]), std::isnan(special));
      EXPECT_TRUE(special != infinity || z[17] == infinity);
      for (const c::Lane& lane : lanes) {
        const float other = lane.dynamic8_encode(x.data(), squares, b, key, 384);
        EXPECT_EQ(std::memcmp(&scale, &other, sizeof scale), 0);
        EXPECT_EQ(std::memcmp(a, b, sizeof a), 0);
        lane.dynamic8_decode(a, scale, u);
        EXPECT_TRUE(std::isnan(scale) ? std::isnan(u[17]) : std::memcmp(y, u, sizeof y) == 0);
        lane.bf16_encode(x.data(), k, key, 384);
        EXPECT_EQ(std::memcmp(h, k, sizeof h), 0);
        lane.bf16_decode(h, u);
        EXPECT_EQ(std::memcmp(z, u, sizeof z), 0);
      }
    }
  for (float v : through<Dynamic8Slot>(std::vector<float>(5, 1e-42f), 1)) EXPECT_EQ(v, 0);
  EXPECT_TRUE(through<Dynamic8Slot>(std::vector<float>(), 1).empty());
}

TEST(Storage, DrawsAreIndependent) {
  // Signs of draws about their median: of n keys a product's mean is within 6/sqrt(n) of 0 for each pair of the 64
  // elements and two slots that share hashes, and so for shares of an eighth. But elements j and j + 16 have each
  // other's draws in the other slot.
  constexpr int keys = 6000;
  std::vector<std::vector<float>> half(128, std::vector<float>(keys)), eighth(half);
  for (std::uint32_t k = 0; k < keys; ++k)
    for (std::uint32_t e = 0; e < 128; ++e) {
      const auto draw = detail::codes::portable::draw<20>({k * 2654435761u, e >= 64}, e % 64 + 64 * (k % 2));
      ASSERT_LT(draw, 1u << 20);
      half[e][k] = draw < (1u << 19) ? 1.0f : -1.0f;
      eighth[e][k] = (draw < (1u << 17) ? 7.0f : -1.0f) / std::sqrt(7.0f);
    }
  for (const auto& signs : {half, eighth})
    for (std::size_t i = 0; i < 128; ++i) {
      float mean = 0;
      for (float x : signs[i]) mean += x;
      EXPECT_NEAR(mean / keys, 0, 6 / std::sqrt(float{keys})) << i;
      for (std::size_t j = i % 16; j < i; j += 16) {  // what may share a hash
        if (i >= 64 && j == ((i - 64) ^ 16)) continue;
        float product = 0;
        for (std::size_t k = 0; k < keys; ++k) product += signs[i][k] * signs[j][k];
        EXPECT_NEAR(product / keys, 0, 6 / std::sqrt(float{keys})) << i << ' ' << j;
      }
    }
}

/// Every promise of an optimizer, and its parameters near those with whole state: within `share` of how far they moved.
template <class Opt>
void near_adam(const Opt& opt, double share) {
  std::vector<double> m(190 * 181), v(m), start;
  double off = 0, moved = 0;
  Plain last;
  obeys(
      opt,
      [&](Index step, const Plain& g, Plain& p) {
        if (step == 0) start = p[0];
        const double t = static_cast<double>(step + 1);
        for (std::size_t i = 0; i < m.size(); ++i) {
          m[i] = 0.9 * m[i] + 0.1 * g[0][i];
          v[i] = 0.95 * v[i] + 0.05 * g[0][i] * g[0][i];
          p[0][i] -= 0.01 * m[i] / (1 - std::pow(0.9, t)) / (std::sqrt(v[i] / (1 - std::pow(0.95, t))) + 1e-8);
        }
        last = p;
      },
      10);  // only the bits; how near, below
  Model<double> model(190, 181);
  Context ctx;
  trained(ctx, opt, model);
  for (std::size_t i = 0; i < m.size(); ++i) {
    off += std::pow(model.w[static_cast<Index>(i)] - last[0][i], 2);
    moved += std::pow(last[0][i] - start[i], 2);
  }
  EXPECT_LE(std::sqrt(off / moved), share);
}

TEST(Storage, AdamKeepsItsPromisesInFewerBits) {
  near_adam(chain(in_bf16(scale_by_adam({.b2 = 0.95})), scale(-0.01)), 0.004);
  near_adam(chain(in_dynamic8(scale_by_adam({.b2 = 0.95}), 7), scale(-0.01)), 0.08);
}

/// Losses of logistic regression on noisy signs of X·w by AdamW, the link's state in some storage.
template <class Link>
std::vector<double> losses(const Link& link) {
  constexpr Index samples = 300, features = 130;  // a block of codes and a part
  const auto X = random_buffer<float>(samples * features, 21), truth = random_buffer<float>(features, 22),
             noise = random_buffer<float>(samples, 23);
  Buffer<float> w(features), g(features);
  const Parameters<float> params{{"w", std::span<float>(w)}}, grads{{"w", std::span<float>(g)}};
  const auto opt = chain(link, add_decayed_weights(0.01), scale(-0.02));
  auto state = opt.init(params);
  Context ctx;
  std::vector<double> all;
  for (int step = 0; step < 150; ++step) {
    double loss = 0;
    std::fill(g.begin(), g.end(), 0.0f);
    for (Index i = 0; i < samples; ++i) {
      const float* x = X.data() + i * features;
      float score = 0, wanted = 4 * noise[i];
      for (Index j = 0; j < features; ++j) score += x[j] * w[j], wanted += x[j] * truth[j];
      const float sign = wanted < 0 ? -1.0f : 1.0f, off = sign / (1 + std::exp(sign * score));
      for (Index j = 0; j < features; ++j) g[j] -= off * x[j] / static_cast<float>(samples);
      loss += std::log1p(std::exp(static_cast<double>(-sign * score))) / static_cast<double>(samples);
    }
    all.push_back(loss);
    opt.update(ctx, grads, state, params);
  }
  return all;
}

TEST(Storage, LossesStayWithinAPercent) {
  const auto whole = losses(scale_by_adam()), half = losses(in_bf16(scale_by_adam())),
             eighth = losses(in_dynamic8(scale_by_adam(), 3));
  EXPECT_LT(whole.back(), 0.6 * whole.front());
  for (std::size_t t = 0; t < whole.size(); ++t) {
    EXPECT_NEAR(half[t] / whole[t], 1, 0.01) << t;
    EXPECT_NEAR(eighth[t] / whole[t], 1, 0.01) << t;
  }
}

TEST(Storage, CountsItsBytesBesideWholeState) {
  Model<float> model(64, 128);
  auto whole = chain(scale_by_adam()).init(model.params);
  auto half = chain(in_bf16(scale_by_adam())).init(model.params);
  auto eighth = chain(trace(0.5), in_dynamic8(scale_by_adam())).init(model.params);
  const std::size_t numbers = 64 * 128 + 128;
  EXPECT_EQ(whole.state_bytes(), 8 * numbers);
  EXPECT_EQ(half.state_bytes(), 4 * numbers);
  EXPECT_EQ(eighth.state_bytes(), 4 * numbers + 2 * (numbers + numbers / 32));
}

}  // namespace
}  // namespace tessera::optim
