// What policies leave of memory, codec × storage.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <span>
#include <string>
#include <tessera/kv/mergers/sets.hpp>

#include "kv/memory.hpp"
#include "kv/suite.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using namespace suite;  // NOLINT(google-build-using-namespace)

class KvMemory : public testing::TestWithParam<Store> {};

TEST_P(KvMemory, BlocksAreNeverMoreThanABlockOverTheBudget) {
  constexpr Index block = 32, budget = 40;
  Context ctx;
  AnyKvCache cache = GetParam().make(kv_heads, d);
  const AnyPolicy policy = any(score(KeyDiff{}) | keep_at_most(budget) | evict(block));
  std::size_t last = 0;
  for (Index t = 0; t + block <= n; t += block) {
    cache.append(ctx, keys().part(t, block), values().part(t, block));
    ASSERT_LE(cache.size(0), budget + block);
    cache.compress(ctx, policy);
    for (Index h = 0; h < kv_heads; ++h) ASSERT_EQ(cache.size(h), std::min(t + block, budget));
    if (t >= 2 * block) {
      EXPECT_LE(cache.bytes(), 2 * last) << t;
    }
    if (t == block) last = cache.bytes();
  }
  for (const float x : attended(ctx, cache)) ASSERT_TRUE(std::isfinite(x));
}

TEST_P(KvMemory, EvictionGivesMemoryBackToTheSystem) {
  if (!measures_residence) GTEST_SKIP() << "what is freed is not given back here";
  if (std::getenv("TESSERA_ISA") != nullptr) GTEST_SKIP() << "memory is that of any instruction set";
  Context ctx;
  constexpr Index many = 4096, wide = 128;
  static const Tokens K = [] {
    Tokens tokens(2, many, wide, 5);
    for (Index i = many * wide; i < tokens.buffer.size(); ++i) tokens.buffer[i] *= 3;
    return tokens;  // the other head's keys are shorter
  }();
  static const Tokens V(2, many, wide, 6);
  const nn::RopeTable<float> turns(wide, many);
  AnyPolicy policies[]{any(score(Random{2}) | keep(0.125) | evict()),
                       any(score(KeyNorm{}) | keep_adaptive(0.125) | evict() | rerotate(turns)),
                       any(score(Random{2}) | keep(0.125) | merge(MergeSets{.threshold = -1}))};
  // What contents that are rewritten give back depends on the storage's pages.
  const std::size_t count = std::string(GetParam().storage) == "Virtual" ? std::size(policies) : 1;
  for (const AnyPolicy& policy : std::span(policies).first(count)) {
    AnyKvCache cache = GetParam().make(2, wide);
    cache.append(ctx, K.view(), V.view());
    const double before = resident_mib(ctx);
    const auto report = cache.compress(ctx, policy);
    const double freed = before - resident_mib(ctx);
    const auto mib = [](std::size_t bytes) { return static_cast<double>(bytes) / 0x1p20; };
    EXPECT_EQ(report.tokens_after, 2 * many / 8);
    if (&policy == &policies[1]) {
      EXPECT_GT(cache.size(0), 3 * cache.size(1));
    }
    EXPECT_LT(mib(report.bytes_after), 0.3 * mib(report.bytes_before) + 0.1);
    EXPECT_GT(freed, 0.8 * (mib(report.bytes_before) - mib(report.bytes_after)) - 0.1);
  }
}
INSTANTIATE_TEST_SUITE_P(Stores, KvMemory, testing::ValuesIn(all_stores().begin(), all_stores().end()), name_of);

}  // namespace
}  // namespace tessera::test
