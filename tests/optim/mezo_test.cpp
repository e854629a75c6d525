// Zeroth-order steps: what is drawn, what is put back, what is allocated, what the estimates are estimates of.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <new>
#include <numbers>
#include <stdexcept>
#include <string>
#include <tessera/optim/mezo.hpp>
#include <vector>

#include "optim/model.hpp"

namespace {
std::atomic<std::size_t> aligned_allocated{0};  // bytes, by Buffer and Workspace: whatever asks for an alignment
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t align) {
  aligned_allocated += bytes;
  const auto unit = static_cast<std::size_t>(align);
  if (void* memory = std::aligned_alloc(unit, unit + (bytes + unit - 1) / unit * unit)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

TEST(NormalDraws, AreBoxMullersOfPhiloxWords) {
  Context ctx, plain;
  plain.force("draws:ref");
  std::vector<float> z(256), same(256);
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, neighbours = 0;
  constexpr Index groups = 400;
  for (Index g = 0; g < groups; ++g) {
    NormalDraws(ctx, 7, 3, 5)(ctx, g, z.data());
    NormalDraws(plain, 7, 3, 5)(plain, g, same.data());
    ASSERT_EQ(z, same);
    for (std::size_t i = 0; i < 128; ++i) {
      const auto word = [&](std::size_t at) {  // 32 words of eight Philox blocks, side by side
        const auto first = static_cast<std::uint32_t>(g * 64) + static_cast<std::uint32_t>(at / 32 * 8 + at % 8);
        return static_cast<double>(philox4x32({first, 5, 3, 0}, {7, 0})[at % 32 / 8] >> 9) * 0x1p-23;
      };
      const double r = std::sqrt(-2 * std::log(1 - word(i))), phi = 2 * std::numbers::pi * word(128 + i);
      ASSERT_NEAR(static_cast<double>(z[i]), r * std::cos(phi), 2e-6) << i;
      ASSERT_NEAR(static_cast<double>(z[128 + i]), r * std::sin(phi), 2e-6) << i;
    }
    for (std::size_t i = 0; i < 256; ++i) {
      const double x = static_cast<double>(z[i]);
      m1 += x, m2 += x * x, m3 += x * x * x, m4 += x * x * x * x;
      neighbours += x * static_cast<double>(z[i ^ 1]) + x * static_cast<double>(z[i ^ 128]);
    }
  }
  const double n = 256 * groups;
  EXPECT_NEAR(m1 / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(m2 / n, 1, 5 * std::sqrt(2 / n));
  EXPECT_NEAR(m3 / n, 0, 5 * std::sqrt(15 / n));
  EXPECT_NEAR(m4 / n, 3, 5 * std::sqrt(96 / n));
  EXPECT_NEAR(neighbours / n, 0, 15 / std::sqrt(n));
}

/// ½Σ a_i (x_i - c_i)² over both blocks, with a and c made up from i.
template <class T>
double bowl(const Parameters<T>& params) {
  double sum = 0;
  for (const auto& block : params)
    for (Index i = 0; i < block.size(); ++i) {
      const double d = static_cast<double>(block.data[i]) - std::sin(static_cast<double>(i));
      sum += 0.5 * (1 + static_cast<double>(i % 3)) * d * d;
    }
  return sum;
}

TEST(Mezo, TheMaskIsReadFromMovedNumbersWhichComeBack) {
  for (const double eps : {1e-3, 0.3}) {  // the second moves most numbers over half of the way to the threshold
    Model<float> model(43, 77);
    model.b[3] = std::numeric_limits<float>::quiet_NaN();
    const auto opt = sparse_mezo(constant{0}, smallest{0.4}, eps, 11);
    auto state = opt.init(model.params);
    model.w[0] = static_cast<float>(state.thresholds[0]);
    model.w[1] = -model.w[0];
    const auto w = model.w, b = model.b;
    Context ctx;
    Index moved = 0;
    opt.step(
        ctx,
        [&] {
          for (Index i = 0; i < w.size(); ++i) {
            const bool taken = std::abs(w[i]) <= static_cast<float>(state.thresholds[0]);
            EXPECT_EQ(taken, std::abs(model.w[i]) <= static_cast<float>(state.thresholds[0])) << i;
            EXPECT_LE(std::abs(model.w[i] - w[i]), static_cast<float>(eps) * 5.7f);
            EXPECT_TRUE(taken || model.w[i] == w[i]);
            moved += model.w[i] != w[i];
          }
          return 0.0;
        },
        state, model.params);
    EXPECT_NEAR(static_cast<double>(moved) / 2, 0.4 * 43 * 77, 5);
    for (Index i = 0; i < w.size(); ++i) {
      const bool taken = std::abs(w[i]) <= static_cast<float>(state.thresholds[0]);
      ASSERT_NEAR(model.w[i], w[i], taken ? 6e-7 : 0) << i;
    }
    EXPECT_TRUE(std::isnan(model.b[3]));
  }
}

TEST(Mezo, AllocatesNothingThatGrowsWithTheModel) {
  const auto run = [](Index rows) {
    Model<float> model(rows, 1000);
    const auto opt = sparse_mezo(constant{1e-3}, smallest{0.5});
    const std::size_t before = aligned_allocated;
    auto state = opt.init(model.params);
    Context ctx;
    for (int step = 0; step < 3; ++step)
      opt.step(
          ctx, [&] { return bowl(model.params); }, state, model.params);
    EXPECT_LT(state.state_bytes(), 64u);
    return static_cast<std::size_t>(aligned_allocated) - before;
  };
  const std::size_t small = run(10);
  EXPECT_GT(small, 0u);
  EXPECT_LE(small, std::size_t{1} << 17);
  EXPECT_EQ(small, run(100));
}

TEST(Mezo, EstimatesHaveTheMaskedGradientAsTheirMean) {
  Model<double> model(2, 5);
  model.params.pop_back();
  const double t = 0.8;
  const auto opt = sparse_mezo(
      constant{1}, [&](const auto&) { return t; }, 1e-4, 3);
  auto state = opt.init(model.params);
  const auto start = model.w;
  Context ctx;
  constexpr int draws = 5000;
  std::vector<double> sum(10), squares(10);
  for (int k = 0; k < draws; ++k) {
    opt.step(
        ctx, [&] { return bowl(model.params); }, state, model.params);
    for (std::size_t i = 0; i < 10; ++i) {
      const double g = start[static_cast<Index>(i)] - model.w[static_cast<Index>(i)];
      sum[i] += g, squares[i] += g * g;
    }
    std::copy(start.begin(), start.end(), model.w.begin());
  }
  Index taken = 0;
  for (std::size_t i = 0; i < 10; ++i) {
    const double x = start[static_cast<Index>(i)];
    const double gradient = (1 + static_cast<double>(i % 3)) * (x - std::sin(static_cast<double>(i)));
    const bool masked = std::abs(x) <= t;
    taken += masked;
    EXPECT_NEAR(sum[i] / draws, masked ? gradient : 0, 5 * std::sqrt(squares[i]) / draws) << i;
  }
  EXPECT_GT(taken, 2);
  EXPECT_LT(taken, 9);
}

/// Steps until ½Σ_small (x - c)² + ½Σ_large (x - x₀)² is a thousandth of what it was, or `limit`; small numbers are
/// a quarter of all.
template <class Opt>
int steps_to_target(const Opt& opt, int limit) {
  constexpr Index n = 200;
  std::vector<double> x(n), large(n);
  for (Index i = 0; i < n; ++i) x[static_cast<std::size_t>(i)] = large[static_cast<std::size_t>(i)] = i % 4 ? 3 : 0;
  const auto f = [&] {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double d = i % 4 ? x[i] - large[i] : x[i] - (i % 8 ? 0.5 : -0.5);
      sum += 0.5 * d * d;
    }
    return sum;
  };
  const Parameters<double> params{{"x", std::span<double>(x)}};
  auto state = opt.init(params);
  Context ctx;
  const double target = 1e-3 * f();
  for (int step = 1; step <= limit; ++step) {
    opt.step(ctx, f, state, params);
    if (const double now = f(); now < target || !(now < 1e6)) return now < target ? step : limit;
  }
  return limit;
}

TEST(Mezo, SparseStepsNeedAThirdWhereLargeNumbersAreAtHome) {
  // Where large numbers are indifferent dense steps lose nothing, for those move nothing that counts: it is their
  // curvature that makes a dense estimate noisy and its best rate small. Each at the best of its rates.
  int dense = 1 << 20, sparse = dense;
  for (const double rate : {5e-3, 1e-2, 2e-2}) {
    dense = std::min(dense, steps_to_target(mezo(constant{rate}, 1e-4, 5), 2000));
    sparse = std::min(sparse, steps_to_target(sparse_mezo(
                                                  constant{rate}, [](const auto&) { return 2.0; }, 1e-4, 5),
                                              2000));
  }
  RecordProperty("dense", dense);
  RecordProperty("sparse", sparse);
  EXPECT_LT(sparse, 1000);
  EXPECT_GE(dense, 3 * sparse) << dense << ' ' << sparse;
}

TEST(Mezo, LooksAtTwoPointsApart) {
  for (const double eps : {0.0, -1e-3, std::numeric_limits<double>::infinity(), std::nan("")}) {
    EXPECT_THROW(mezo(constant{1e-3}, eps), unsupported_error) << eps;
    EXPECT_THROW(sparse_mezo(constant{1e-3}, smallest{0.25}, eps), unsupported_error) << eps;
  }
}

TEST(Mezo, SameBitsForThreadsAndAfterAResumeAndNothingMovesWhereItFails) {
  Model<float> one(90, 500), three(90, 500);
  const auto opt = mezo(constant{1e-5}, 1e-3, 9);
  auto first = opt.init(one.params), second = opt.init(three.params);
  Context ctx;
  auto threads = Context::with_threads(3);
  for (int step = 0; step < 3; ++step)
    opt.step(
        ctx, [&] { return bowl(one.params); }, first, one.params);
  for (int step = 0; step < 2; ++step)
    opt.step(
        threads, [&] { return bowl(three.params); }, second, three.params);
  auto resumed = mezo(constant{1e-5}).init(three.params);
  std::vector<std::byte> bytes;
  second.for_each_buffer([&](const std::string&, auto values) {
    for (std::byte byte : std::as_bytes(values)) bytes.push_back(byte);
  });
  std::size_t at = 0;
  resumed.for_each_buffer([&](const std::string&, auto values) {
    for (std::byte& byte : std::as_writable_bytes(values)) byte = bytes[at++];
  });
  opt.step(
      ctx, [&] { return bowl(three.params); }, resumed, three.params);
  EXPECT_TRUE(same_bits(one.w, three.w) && same_bits(one.b, three.b));

  const auto w = one.w;
  EXPECT_THROW(opt.step(
                   ctx, []() -> double { throw std::runtime_error("no loss"); }, first, one.params),
               std::runtime_error);
  EXPECT_EQ(first.count, 3);
  for (Index i = 0; i < w.size(); ++i) ASSERT_NEAR(one.w[i], w[i], 1e-6);
  const auto nan = [] { return std::numeric_limits<double>::quiet_NaN(); };
  EXPECT_TRUE(std::isnan(opt.step(ctx, nan, first, one.params).projected));
  for (Index i = 0; i < w.size(); ++i) ASSERT_NEAR(one.w[i], w[i], 1e-6);
  EXPECT_THROW(opt.step(ctx, nan, first, Parameters<float>{one.params[0]}), shape_error);
}

}  // namespace
}  // namespace tessera::optim
