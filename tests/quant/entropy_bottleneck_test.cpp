#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tessera/quant/entropy_bottleneck.hpp>
#include <tessera/quant/low_rank_codebook.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::random_buffer;

Buffer<float> latents(Index channels, Index n, float size, std::uint64_t seed) {
  auto y = random_buffer<float>(channels * n, seed);
  for (Index i = 0; i < y.size(); ++i) y[i] *= size * static_cast<float>(1 + i / n);
  return y;
}

/// A few hundred steps of gradient descent on the rate of noisy latents.
void fit(Context& ctx, EntropyBottleneck& prior, MatrixView<const float> Y, int steps) {
  Buffer<float> noise(Y.size()), gradient(static_cast<Index>(prior.parameters().size()));
  std::vector<double> first(prior.parameters().size()), second(first.size());
  const MatrixView<float> noisy(noise.data(), Y.rows(), Y.cols());
  for (int step = 1; step <= steps; ++step) {
    prior.noisy(ctx, Y, 1, static_cast<std::uint64_t>(step), noisy);
    std::fill(gradient.begin(), gradient.end(), 0.0f);
    prior.rate_backward(ctx, noisy, 1.0f / static_cast<float>(Y.cols()), gradient);
    for (std::size_t i = 0; i < first.size(); ++i) {  // Adam
      const double g = static_cast<double>(gradient[static_cast<Index>(i)]);
      first[i] = 0.9 * first[i] + 0.1 * g;
      second[i] = 0.99 * second[i] + 0.01 * g * g;
      const double root = std::sqrt(second[i] / (1 - std::pow(0.99, step))) + 1e-9;
      prior.parameters()[i] -= static_cast<float>(0.05 * first[i] / (1 - std::pow(0.9, step)) / root);
    }
  }
}

TEST(EntropyBottleneck, GradientsAreThoseOfTheRate) {
  Context ctx;
  EntropyBottleneck prior(2, 4);
  auto draws = random_buffer<float>(static_cast<Index>(prior.parameters().size()), 3);
  for (std::size_t i = 0; i < prior.parameters().size(); ++i)
    prior.parameters()[i] += 0.3f * draws[static_cast<Index>(i)];
  auto y = latents(2, 40, 2, 4);
  Buffer<float> dy(80), dp(draws.size());
  const MatrixView<float> Y(y.data(), 2, 40);
  const auto bits = [&] {  // in double, from the distribution itself
    double sum = 0;
    for (Index c = 0; c < 2; ++c)
      for (Index i = 0; i < 40; ++i) {
        const double at = static_cast<double>(Y(c, i));
        sum -= std::log2(prior.cumulative(c, at + 0.5) - prior.cumulative(c, at - 0.5));
      }
    return sum;
  };
  EXPECT_NEAR(prior.rate(ctx, Y, 2, MatrixView<float>(dy.data(), 2, 40)), bits(), 1e-4 * bits());
  prior.rate_backward(ctx, Y, 2, dp);
  const auto difference = [&](float& x) {
    const float at = x, h = 0x1p-8f;
    x = at + h;
    const double above = bits();
    x = at - h;
    const double below = bits();
    x = at;
    return 2 * (above - below) / (2 * static_cast<double>(h));
  };
  for (Index i = 0; i < y.size(); ++i) EXPECT_NEAR(dy[i], difference(y[i]), 2e-3) << i;
  for (std::size_t i = 0; i < prior.parameters().size(); ++i)
    EXPECT_NEAR(dp[static_cast<Index>(i)], difference(prior.parameters()[i]), 2e-2) << i;
}

TEST(EntropyBottleneck, ProbabilitiesSumToOne) {
  const EntropyBottleneck prior(3, 5, 9);
  Context ctx;
  for (Index c = 0; c < 3; ++c) {
    double sum = 0, last = 0;
    for (int y = -4000; y <= 4000; ++y) {
      const double p = prior.cumulative(c, y + 0.5) - prior.cumulative(c, y - 0.5);
      EXPECT_GE(p, 0);
      sum += p;
      last = prior.cumulative(c, y + 0.5);
    }
    EXPECT_NEAR(sum, 1, 1e-9);
    EXPECT_NEAR(last, 1, 1e-9);
  }
}

TEST(EntropyBottleneck, CodesAreAsLongAsTheRateAndDecodeExactly) {
  Context ctx;
  const Index channels = 4, n = 3000;
  auto y = latents(channels, n, 1.5f, 5);
  const MatrixView<float> Y(y.data(), channels, n);
  EntropyBottleneck prior(channels);
  const double before = prior.rate(ctx, Y);
  fit(ctx, prior, Y.slice(1, 0, 500), 150);
  Buffer<float> rounded(y.size()), back(y.size());
  for (Index i = 0; i < y.size(); ++i) rounded[i] = EntropyBottleneck::rounded(y[i]);
  const double rate = prior.rate(ctx, MatrixView<const float>(rounded.data(), channels, n));
  EXPECT_LT(rate, 0.8 * before);
  double entropy = 0;  // of normal variables of these deviations, in bits
  for (Index c = 0; c < channels; ++c)
    entropy += static_cast<double>(n) * std::log2(1.5 * static_cast<double>(c + 1) * std::sqrt(17.0794684453));
  EXPECT_NEAR(rate, entropy, 0.02 * entropy);
  const auto code = prior.compress(ctx, Y);
  EXPECT_NEAR(8.0 * static_cast<double>(code.size()), rate, 0.01 * rate + 32);
  prior.decompress(ctx, code, MatrixView<float>(back.data(), channels, n));
  EXPECT_TRUE(std::equal(back.begin(), back.end(), rounded.begin()));
  double last = 0;  // the rate rises with the scale
  for (const float size : {0.5f, 1.0f, 2.0f, 8.0f, 100.0f}) {
    const auto wider = latents(channels, n, size, 5);
    const double now = prior.rate(ctx, MatrixView<const float>(wider.data(), channels, n));
    EXPECT_GT(now, last);
    last = now;
  }
  Context threads = Context::with_threads(2);
  EXPECT_EQ(threads.concurrency(), 2);
  EXPECT_EQ(prior.rate(threads, Y), prior.rate(ctx, Y));
  EXPECT_EQ(prior.compress(threads, Y), code);
}

TEST(EntropyBottleneck, HostileValuesAndCodes) {
  Context ctx;
  const EntropyBottleneck prior(1);
  std::vector<float> y{1e30f, -1e30f, std::nanf(""), 5000, -70000, 0.5f, 1.5f, -0.2f, 3e38f};
  const auto count = static_cast<Index>(y.size());
  std::vector<float> back(y.size());
  const auto code = prior.compress(ctx, MatrixView<const float>(y.data(), 1, count));
  prior.decompress(ctx, code, MatrixView<float>(back.data(), 1, count));
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(back[i], EntropyBottleneck::rounded(y[i])) << i;
  EXPECT_TRUE(std::isnan(prior.rate(ctx, MatrixView<const float>(y.data() + 2, 1, 1))));
  EXPECT_NEAR(prior.rate(ctx, MatrixView<const float>(y.data(), 1, 1)), 40, 1e-3);
  const MatrixView<float> out(back.data(), 1, count);
  for (std::size_t size = 0; size < code.size(); ++size)
    EXPECT_THROW(prior.decompress(ctx, std::span(code).first(size), out), format_error) << size;
  std::vector<std::uint8_t> noise(300);
  const Philox draws(1);
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = static_cast<std::uint8_t>(draws.bits(i));
  noise[0] = 1;  // a state in range, but no end where the values end
  EXPECT_THROW(prior.decompress(ctx, noise, out), format_error);
  auto longer = code;
  longer.push_back(7);
  EXPECT_THROW(prior.decompress(ctx, longer, out), format_error);
  EXPECT_THROW(prior.rate(ctx, MatrixView<const float>(y.data(), 2, 2)), shape_error);
  EXPECT_THROW(prior.rate_backward(ctx, out, 1, std::span<float>()), shape_error);
  for (const float scale : {0.0f, -3.0f, 1e-20f, std::nanf(""), std::numeric_limits<float>::infinity()})
    EXPECT_THROW(EntropyBottleneck(1, scale), unsupported_error) << scale;
  EXPECT_TRUE(std::isfinite(EntropyBottleneck(1, 1e-10f).rate(ctx, MatrixView<const float>(y.data() + 5, 1, 2))));
  EXPECT_THROW(EntropyBottleneck(-1), shape_error);
}

TEST(RangeCoder, RefusesIntervalsOutside) {
  RangeEncoder encoder;
  for (const RangeInterval bad : std::vector<RangeInterval>{{0, 0}, {1, range_total}, {~0u, 1}, {2, ~0u}})
    EXPECT_THROW(encoder.push(bad), unsupported_error) << bad.begin << " " << bad.size;
  encoder.push({0, range_total});
  encoder.push({range_total - 1, 1});
  EXPECT_EQ(std::move(encoder).finish().size(), 6u);
}

TEST(LowRankCodebook, RefusesSizesAndCodesThatDoNotFit) {
  EXPECT_THROW(PackedCodes(Index{1} << 61, 256), shape_error);
  EXPECT_THROW(PackedCodes(-1, 4), shape_error);
  EXPECT_THROW(PackedCodes(1, Index{1} << 40), shape_error);
  PackedCodes codes(4, 9);
  EXPECT_THROW(codes.set(1, 16), shape_error);
  EXPECT_THROW(codes.set(4, 1), shape_error);
  codes.set(1, 15);
  EXPECT_EQ(codes[1], 15u);
  EXPECT_EQ(codes[2], 0u);
  EXPECT_THROW(LowRankCodebook(1, 1, 2, Index{1} << 62, 2, Buffer<float>(0), PackedCodes(1, 2)), shape_error);
  EXPECT_THROW(LowRankCodebook(1, 1, 2, 1, std::numeric_limits<Index>::max(), Buffer<float>(0), PackedCodes(1, 2)),
               shape_error);
}

}  // namespace
}  // namespace tessera
