#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <tessera/optim/mixed_precision.hpp>
#include <tessera/optim/offload_schedule.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera::optim {
namespace TESSERA_TEST_FILE {

template <class H>
void check_halves() {
  namespace h = detail::halves;
  std::vector<float> x;
  for (std::uint32_t code = 0; code < 0x10000u; code += 7) {  // numbers, those half-way between, and their neighbours
    const float a = static_cast<float>(H::from_bits(code)),
                b = static_cast<float>(H::from_bits(code + 1 > 0xFFFFu ? code : code + 1));
    const float between = a + (b - a) / 2;
    for (const float v : {a, between, std::nextafter(between, 1e30f), std::nextafter(between, -1e30f)}) x.push_back(v);
  }
  for (const float v : {1e38f, -3e38f, 1e-45f, std::numeric_limits<float>::infinity()}) x.push_back(v);
  const auto n = static_cast<Index>(x.size()) - 3;  // a tail
  std::vector<H> narrow(x.size()), other(x.size());
  std::vector<float> wide(x.size()), wider(x.size());
  h::portable::narrow(x.data(), n, narrow.data());
  h::narrow(x.data(), n, other.data());
  h::portable::widen(narrow.data(), n, wide.data());
  h::widen(narrow.data(), n, wider.data());
  for (Index i = 0; i < n; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const float got = static_cast<float>(other[at]), expected = static_cast<float>(narrow[at]);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(got) && std::isnan(wider[at])) << x[at];
    } else {
      ASSERT_EQ(got, expected) << x[at];
      ASSERT_EQ(std::memcmp(&wide[at], &wider[at], sizeof(float)), 0) << x[at];
    }
  }
}

TEST(MixedPrecision, HalvesAreThoseOfTheirTypes) {
  check_halves<bf16>();
  check_halves<f16>();
}

template <class H>
struct Mixed {
  Buffer<H> grad, param;
  Buffer<float> master, mu, nu;
  explicit Mixed(Index n) : grad(n), param(n), master(test::random_buffer<float>(n, 1)), mu(n), nu(n) { draw(0); }
  void draw(std::uint64_t step) {
    const auto g = test::random_buffer<float>(grad.size(), 10 + step);
    for (Index i = 0; i < g.size(); ++i) grad[i] = H(g[i]);
  }
  Subgroup<H> part(Index begin, Index end) {
    const auto of = [&](auto& x) { return std::span(x.data() + begin, static_cast<std::size_t>(end - begin)); };
    return {of(grad), of(master), of(mu), of(nu), of(param)};
  }
};

template <class H>
void any_grouping_is_adamw() {
  constexpr Index n = 40007;
  const MixedAdamW o{.rate = 0.01, .adam = {.b2 = 0.95}, .weight_decay = 0.1, .grad_factor = 0.25};
  Mixed<H> whole(n), grouped(n);
  auto plain = test::random_buffer<float>(n, 1), g = plain;
  const Parameters<float> params{{"w", std::span<float>(plain)}}, grads{{"w", std::span<float>(g)}};
  const auto opt = chain(scale(0.25), adamw(0.01, {.b2 = 0.95}, 0.1));
  auto state = opt.init(params);
  Context one;
  auto three = Context::with_threads(3);
  const std::vector<Index> ends{0, 5, 4096, 4097, 30000, n}, order{3, 0, 4, 2, 1};
  for (Index step = 0; step < 3; ++step) {
    whole.draw(static_cast<std::uint64_t>(step));
    grouped.draw(static_cast<std::uint64_t>(step));
    for (Index i = 0; i < n; ++i) g[i] = static_cast<float>(whole.grad[i]);
    opt.update(one, grads, state, params);
    adamw_step_subgroup(three, o, step, whole.part(0, n));
    std::vector<Subgroup<H>> groups;
    for (std::size_t k = 0; k + 1 < ends.size(); ++k) groups.push_back(grouped.part(ends[k], ends[k + 1]));
    adamw_step_subgroups<H>(one, o, step, groups, order);
  }
  EXPECT_EQ(std::memcmp(whole.master.data(), plain.data(), plain.bytes()), 0);
  EXPECT_EQ(std::memcmp(grouped.master.data(), plain.data(), plain.bytes()), 0);
  EXPECT_EQ(std::memcmp(grouped.param.data(), whole.param.data(), whole.param.bytes()), 0);
  for (Index i = 0; i < n; ++i) ASSERT_EQ(static_cast<float>(whole.param[i]), static_cast<float>(H(plain[i])));
  EXPECT_THROW(adamw_step_subgroup(one, o, 0, Subgroup<H>{whole.part(0, 3).grad, whole.part(0, 4).master, {}, {}, {}}),
               shape_error);
}

TEST(MixedPrecision, AnyGroupingIsAdamwBitForBit) {
  any_grouping_is_adamw<bf16>();
  any_grouping_is_adamw<f16>();
}

TEST(OffloadSchedule, IsTheQuickestThereIs) {
  const Philox draws(3);
  std::uint64_t drawn = 0;
  const auto draw = [&](double most) { return most * static_cast<double>(draws.uniform(drawn++)); };
  for (int trial = 0; trial < 60; ++trial) {
    const OffloadCosts costs{draw(4), draw(1), draw(2), draw(0.5), draw(2)};
    const Index n = 1 + trial % 10;
    double best = std::numeric_limits<double>::infinity();
    for (unsigned code = 0; code < 1u << n; ++code) {
      std::vector<bool> on_device;
      for (Index i = 0; i < n; ++i) on_device.push_back((code >> i) % 2 == 1);
      best = std::min(best, offload_time(on_device, costs));
    }
    EXPECT_NEAR(offload_time(interleaved_schedule(n, costs), costs), best, 1e-12 * best);
    for (Index stride = 0; stride <= n; ++stride)
      EXPECT_GE(offload_time(strided_schedule(n, stride), costs), best * (1 - 1e-12));
  }
  // An update on the host takes as long as three on the device with their transfers: three of four go there.
  const OffloadCosts costs{
      .host_update = 3, .host_send = 0, .device_receive = 1, .device_update = 0.1, .device_return = 1};
  const auto long_one = interleaved_schedule(64, costs);
  EXPECT_NEAR(static_cast<double>(std::count(long_one.begin(), long_one.end(), true)), 48, 1);
  EXPECT_LT(offload_time(long_one, costs), 0.27 * offload_time(strided_schedule(64, 0), costs));
}

}  // namespace
}  // namespace tessera::optim
