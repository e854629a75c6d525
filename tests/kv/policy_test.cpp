#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <new>
#include <numeric>
#include <string>

#include "kv/support.hpp"

// Every aligned allocation of this program, which all buffers are, is counted: what a cache says it holds is compared
// with what it really took. Sizes stand in front of the block.
namespace {
std::atomic<long> live_bytes{0};
}
void* operator new(std::size_t size, std::align_val_t align) {
  const auto gap = static_cast<std::size_t>(align);
  void* const block = std::aligned_alloc(gap, gap + (size + gap - 1) / gap * gap);
  if (block == nullptr) throw std::bad_alloc();
  *static_cast<std::size_t*>(block) = size;
  live_bytes += static_cast<long>(size);
  return static_cast<char*>(block) + gap;
}
void operator delete(void* memory, std::align_val_t align) noexcept {
  if (memory == nullptr) return;
  void* const block = static_cast<char*>(memory) - static_cast<std::size_t>(align);
  live_bytes -= static_cast<long>(*static_cast<std::size_t*>(block));
  std::free(block);
}
void operator delete(void* memory, std::size_t, std::align_val_t align) noexcept { ::operator delete(memory, align); }

namespace tessera::test {
namespace TESSERA_TEST_FILE {

// ---- what does not compile ------------------------------------------------------------------------------------------

template <class A, class B>
concept Composes = requires(const A& a, const B& b) {
  a | b;
};
using S = Score<KeyNorm>;
using P = Protect<Sinks, RecentTokens>;
template <class... Stages>
using Chained = Chain<Stages...>;

static_assert(KvPolicy<decltype(score(KeyNorm{}) | protect(sinks(4), recent(64)) | keep(0.5) | evict())>);
static_assert(KvPolicy<decltype(protect(sinks(4)) | score(KeyNorm{}) | keep(0.5) | evict())>);
static_assert(KvPolicy<decltype(window({4, 64}))> && KvPolicy<decltype(full())>);
static_assert(KvPolicy<decltype(window({4, 64}) | score(KeyNorm{}) | keep(0.5) | evict())>);
static_assert(KvPolicy<decltype(score(KeyNorm{}) | (keep(0.5) | evict()))>);
static_assert(!Composes<S, Evict>, "nothing was selected");
static_assert(!Composes<P, Keep>, "nothing was scored");
static_assert(!Composes<S, KeepProtected>, "nothing was protected");
static_assert(!Composes<Evict, Keep>, "an eviction uses up the scores");
static_assert(!Composes<Evict, Evict>, "an eviction uses up the selection");
static_assert(!Composes<Chained<S, Keep>, P>, "protection after the selection would be ignored");
static_assert(!Composes<Chained<S, Keep>, S>, "scores after the selection would be ignored");
static_assert(!Composes<S, int> && !Composes<int, S>);
static_assert(!KvPolicy<Chained<Keep, Evict>>, "nothing was scored");
static_assert(!KvPolicy<Chained<S, Keep>>, "ends before it evicts");
static_assert(!KvPolicy<Evict> && !KvPolicy<S> && !KvPolicy<int>);
template <class Policy>
concept Compresses = requires(AnyKvCache& cache, Context& ctx, const Policy& policy) {
  cache.compress(ctx, policy);
};
static_assert(Compresses<decltype(full())> && !Compresses<Chained<Keep, Evict>> && !Compresses<S>);
static_assert(decltype(window({4, 64}))::preserves_positions);

// ---- what policies do -----------------------------------------------------------------------------------------------

std::vector<Index> range(Index begin, Index end) {
  std::vector<Index> all(static_cast<std::size_t>(end - begin));
  std::iota(all.begin(), all.end(), begin);
  return all;
}

template <class C>
class PolicyLaws : public testing::Test {
 protected:
  Context ctx;
  KvCache<C> filled(Index heads, Index n, Index d = 32) {
    KvCache<C> cache(heads, d);
    cache.append(ctx, Tokens(heads, n, d, 1).view(), Tokens(heads, n, d, 2).view());
    return cache;
  }
};
TYPED_TEST_SUITE(PolicyLaws, Codecs);

TYPED_TEST(PolicyLaws, WindowKeepsExactlySinksAndRecent) {
  auto cache = this->filled(2, 300);
  const auto report = cache.compress(this->ctx, window({.sinks = 4, .recent = 64}));
  auto expected = range(0, 4);
  for (const Index p : range(236, 300)) expected.push_back(p);
  for (Index h = 0; h < 2; ++h) EXPECT_EQ(positions(cache, h), expected);
  EXPECT_EQ(report.tokens_before, 600);
  EXPECT_EQ(report.tokens_after, 136);
  const Tokens more(2, 10, 32, 3);
  cache.append(this->ctx, more.view(), more.view());
  cache.compress(this->ctx, window({.sinks = 4, .recent = 64}));
  EXPECT_EQ(cache.position(0, 3), 3);
  EXPECT_EQ(cache.position(0, 4), 246);
  EXPECT_EQ(cache.position(1, 67), 309);
}

TYPED_TEST(PolicyLaws, EvictionReturnsMemory) {
  const long before = live_bytes;
  {
    auto cache = this->filled(2, 1024, 64);
    EXPECT_EQ(live_bytes - before, static_cast<long>(cache.bytes())) << "bytes() is what is held";
    const auto report = cache.compress(this->ctx, score(KeyNorm{}) | keep(0.25) | evict());
    this->ctx.workspace.release();
    EXPECT_EQ(live_bytes - before, static_cast<long>(cache.bytes()));
    EXPECT_EQ(report.bytes_after, cache.bytes());
    EXPECT_EQ(report.tokens_after, 512);
    EXPECT_LT(report.bytes_after, report.bytes_before * 45 / 100);
    const auto merged = cache.compress(this->ctx, score(KeyNorm{}) | keep(0.5) | merge(MergeSets{.threshold = -1}));
    this->ctx.workspace.release();
    EXPECT_EQ(live_bytes - before, static_cast<long>(cache.bytes()));
    constexpr bool windowed = std::same_as<TypeParam, Kivi<4>> || std::same_as<TypeParam, Kivi<2>>;
    if (!windowed) {  // what merged fills an exact window again, as tokens that come do
      EXPECT_LT(merged.bytes_after, merged.bytes_before);
    }
    EXPECT_TRUE(cache.counted(0));
    cache.clear();
    EXPECT_EQ(live_bytes, before);
  }
  EXPECT_EQ(live_bytes, before);
}

TYPED_TEST(PolicyLaws, BudgetsAreExactAndFractionsMultiply) {
  for (const Index n : {1, 2, 3, 7, 100, 333}) {
    for (const double f : {0.0, 0.1, 0.5, 0.9, 1.0}) {
      auto cache = this->filled(2, n);
      cache.compress(this->ctx, score(KeyNorm{}) | keep(f) | evict());
      const Index budget = std::max<Index>(1, std::llround(f * static_cast<double>(n)));
      EXPECT_EQ(cache.size(0), budget) << n << " * " << f;
      auto twice = this->filled(2, n);
      twice.compress(this->ctx, score(KeyNorm{}) | keep(f) | keep(0.5) | evict());
      EXPECT_EQ(twice.size(1), std::max<Index>(1, std::llround(f * 0.5 * static_cast<double>(n)))) << n << " * " << f;
    }
    auto cache = this->filled(1, n);
    cache.compress(this->ctx, score(KeyNorm{}) | protect(sinks(4), recent(20)) | keep(0.1) | evict());
    EXPECT_EQ(cache.size(0), std::max<Index>(std::min<Index>(n, 24), std::llround(0.1 * static_cast<double>(n))));
    auto most = this->filled(1, n);
    most.compress(this->ctx, score(KeyNorm{}) | keep_at_most(5) | evict());
    EXPECT_EQ(most.size(0), std::min<Index>(n, 5));
  }
}

TYPED_TEST(PolicyLaws, NoChainEmptiesATinyContext) {
  for (const Index n : {1, 2, 3}) {
    const auto keeps_some = [&](const auto& policy) {
      auto cache = this->filled(2, n);
      for (int again = 0; again < 4; ++again) {
        cache.compress(this->ctx, policy);
        EXPECT_GE(cache.size(0), 1);
        EXPECT_GE(cache.size(1), 1);
      }
    };
    keeps_some(full());
    keeps_some(window({.sinks = 0, .recent = 0}));
    keeps_some(window({.sinks = 4, .recent = 64}));
    keeps_some(score(KeyNorm{}) | keep(0.0) | evict());
    keeps_some(score(KeyNorm{}) | keep(0.01) | keep(0.01) | evict());
    keeps_some(score(KeyNorm{}) | protect(sinks(0)) | keep_at_most(0) | evict());
  }
  KvCache<TypeParam> none(2, 8);  // nothing cached: nothing to do
  const auto report = none.compress(this->ctx, score(KeyNorm{}) | keep(0.5) | evict());
  EXPECT_EQ(report.tokens_after, 0);
}

TYPED_TEST(PolicyLaws, ReportsWhatItCost) {
  auto cache = this->filled(2, 400);
  const Tokens Q(6, 3, 32, 4);
  const KvProbe probe{.queries = Q.view(), .top_k = 16, .scale = {}};
  auto report = cache.compress(this->ctx, full(), probe);
  EXPECT_EQ(*report.output_error, 0);
  EXPECT_EQ(*report.top_k_recall, 1);
  EXPECT_EQ(report.bytes_after, report.bytes_before);
  double last_recall = 1;
  for (const double f : {0.9, 0.5, 0.5}) {
    report = cache.compress(this->ctx, score(KeyNorm{}) | keep(f) | evict(), probe);
    EXPECT_GT(*report.output_error, 0);
    EXPECT_LT(*report.top_k_recall, last_recall);
    EXPECT_GT(*report.top_k_recall, 0.05);
    last_recall = 0.95;
  }
  EXPECT_FALSE(cache.compress(this->ctx, full()).output_error.has_value());
  auto exact = KvCache<F32>(2, 32);
  exact.append(this->ctx, Tokens(2, 400, 32, 1).view(), Tokens(2, 400, 32, 2).view());
  const auto coded = compare(this->ctx, exact, this->filled(2, 400), probe);
  constexpr bool coarse = is_low_bits<TypeParam> && !std::same_as<TypeParam, Kivi<4>>;
  constexpr bool whole = std::same_as<TypeParam, F32>;
  EXPECT_LT(*coded.output_error, coarse ? 0.7 : 0.15);
  EXPECT_GT(*coded.top_k_recall, coarse ? 0.5 : 0.85);
  EXPECT_LT(coded.bytes_after, coded.bytes_before + (whole ? 1 : 0));
}

TEST(Policy, KeyNormKeepsTheShortestKeys) {
  Context ctx;
  const Index n = 200, d = 33;
  Tokens K(1, n, d, 5);
  for (Index t = 0; t < n; ++t)
    for (Index c = 0; c < d; ++c) K.view()(0, t, c) *= 1 + static_cast<float>(t * 37 % n) / 10;
  K.view()(0, 0, 7) = std::numeric_limits<float>::quiet_NaN();  // of the shortest
  std::vector<float> norm;
  for (Index t = 0; t < n; ++t) {
    double sum = 0;
    for (Index c = 0; c < d; ++c) sum += std::pow(static_cast<double>(K.view()(0, t, c)), 2);
    norm.push_back(std::isnan(sum) ? std::numeric_limits<float>::infinity() : static_cast<float>(std::sqrt(sum)));
  }
  std::vector<float> got(static_cast<std::size_t>(n));
  KvTokens tokens;
  tokens.keys = View<const float, 2>(K.buffer.data(), n, d);
  KeyNorm{}(ctx, tokens, got);
  for (std::size_t t = 1; t < got.size(); ++t) EXPECT_NEAR(got[t], -norm[t], 1e-5f * norm[t]) << t;
  EXPECT_EQ(got[0], -std::numeric_limits<float>::infinity());
  KvCache<> cache(1, d);
  cache.append(ctx, K.view(), K.view());
  cache.compress(ctx, score(KeyNorm{}) | protect(recent(1)) | keep(0.25) | evict());
  auto order = range(0, n - 1);
  std::sort(order.begin(), order.end(),
            [&](Index a, Index b) { return norm[static_cast<std::size_t>(a)] < norm[static_cast<std::size_t>(b)]; });
  order.resize(49);
  order.push_back(n - 1);
  std::sort(order.begin(), order.end());
  EXPECT_EQ(positions(cache, 0), order);
}

struct Everything {  // a scorer that reads all there is
  static constexpr Needs needs = Needs::keys | Needs::values | Needs::positions | Needs::queries;
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {
    ASSERT_EQ(tokens.keys.rows(), static_cast<Index>(score.size()));
    ASSERT_EQ(tokens.values.rows(), static_cast<Index>(score.size()));
    ASSERT_EQ(tokens.positions.size(), score.size());
    ASSERT_EQ(tokens.queries.extent(0), 3);
    ASSERT_EQ(tokens.queries.extent(1), 2);
    for (std::size_t t = 0; t < score.size(); ++t) {
      ASSERT_EQ(tokens.keys(static_cast<Index>(t), Index{0}), static_cast<float>(tokens.positions[t]));
      ASSERT_EQ(tokens.values(static_cast<Index>(t), Index{0}), -static_cast<float>(tokens.positions[t]));
      score[t] = tokens.positions[t] % 2 == 0 ? std::nanf("") : tokens.queries(Index{0}, Index{0}, Index{0});
    }
  }
};

TEST(Policy, ScorersGetWhatTheyNeed) {
  Context ctx;
  const Index n = 300;
  Tokens K(2, n, 4, 6), V(2, n, 4, 7);
  for (Index h = 0; h < 2; ++h)
    for (Index t = 0; t < n; ++t) {
      K.view()(h, t, 0) = static_cast<float>(t);
      V.view()(h, t, 0) = -static_cast<float>(t);
    }
  KvCache<> cache(2, 4);
  cache.append(ctx, K.view(), V.view());
  const auto policy = score(Everything{}) | keep(0.5) | evict();
  EXPECT_THROW(cache.compress(ctx, policy), unsupported_error);
  EXPECT_EQ(cache.tokens(), 2 * n);
  const Tokens Q(6, 2, 4, 8);
  cache.compress(ctx, policy, {.queries = Q.view()});
  for (Index h = 0; h < 2; ++h)  // NaN counts as -inf: the odd ones stay
    for (Index j = 0; j < cache.size(h); ++j) EXPECT_EQ(cache.position(h, j), 2 * j + 1);
  EXPECT_THROW(cache.compress(ctx, full(), {.queries = Tokens(5, 2, 4, 9).view()}), shape_error);
}

TEST(Policy, RefusesSenselessNumbers) {
  EXPECT_THROW(keep(1.5), unsupported_error);
  EXPECT_THROW(keep(-0.1), unsupported_error);
  EXPECT_THROW(keep(std::nan("")), unsupported_error);
  EXPECT_THROW(keep_at_most(-1), unsupported_error);
  EXPECT_THROW(sinks(-1), unsupported_error);
  EXPECT_THROW(recent(-1), unsupported_error);
}

}  // namespace
}  // namespace tessera::test
