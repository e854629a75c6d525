#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kv/policy_laws.hpp"

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

INSTANTIATE_TEST_SUITE_P(Stores, PolicyLaws, testing::ValuesIn(all_stores().begin(), all_stores().end()),
                         [](const auto& one) { return one.param.name(); });

TEST_P(PolicyLaws, WindowKeepsExactlySinksAndRecent) {
  auto cache = filled(2, 300);
  const auto report = cache.compress(ctx, window({.sinks = 4, .recent = 64}));
  auto expected = range(0, 4);
  for (const Index p : range(236, 300)) expected.push_back(p);
  for (Index h = 0; h < 2; ++h) EXPECT_EQ(positions(cache.base(), h), expected);
  EXPECT_EQ(report.tokens_before, 600);
  EXPECT_EQ(report.tokens_after, 136);
  const Tokens more(2, 10, 32, 3);
  cache.append(ctx, more.view(), more.view());
  cache.compress(ctx, window({.sinks = 4, .recent = 64}));
  EXPECT_EQ(cache.position(0, 3), 3);
  EXPECT_EQ(cache.position(0, 4), 246);
  EXPECT_EQ(cache.position(1, 67), 309);
}

TEST_P(PolicyLaws, BudgetsAreExactAndFractionsMultiply) {
  for (const Index n : {2, 7, 333}) {
    for (const double f : {0.0, 0.1, 0.9}) {
      auto cache = filled(2, n);
      cache.compress(ctx, score(KeyNorm{}) | keep(f) | evict());
      const Index budget = std::max<Index>(1, std::llround(f * static_cast<double>(n)));
      EXPECT_EQ(cache.size(0), budget) << n << " * " << f;
      auto twice = filled(2, n);
      twice.compress(ctx, score(KeyNorm{}) | keep(f) | keep(0.5) | evict());
      EXPECT_EQ(twice.size(1), std::max<Index>(1, std::llround(f * 0.5 * static_cast<double>(n)))) << n << " * " << f;
    }
    auto cache = filled(1, n);
    cache.compress(ctx, score(KeyNorm{}) | protect(sinks(4), recent(20)) | keep(0.1) | evict());
    EXPECT_EQ(cache.size(0), std::max<Index>(std::min<Index>(n, 24), std::llround(0.1 * static_cast<double>(n))));
    auto most = filled(1, n);
    most.compress(ctx, score(KeyNorm{}) | keep_at_most(5) | evict());
    EXPECT_EQ(most.size(0), std::min<Index>(n, 5));
  }
}

TEST_P(PolicyLaws, ReportsWhatItCost) {
  auto cache = filled(2, 400);
  const Tokens Q(6, 3, 32, 4);
  const KvProbe probe{.queries = Q.view(), .top_k = 16, .scale = {}};
  auto report = cache.compress(ctx, full(), probe);
  EXPECT_EQ(*report.output_error, 0);
  EXPECT_EQ(*report.top_k_recall, 1);
  EXPECT_EQ(report.bytes_after, report.bytes_before);
  double last_recall = 1;
  for (const double f : {0.9, 0.5, 0.5}) {
    report = cache.compress(ctx, score(KeyNorm{}) | keep(f) | evict(), probe);
    EXPECT_GT(*report.output_error, 0);
    EXPECT_LT(*report.top_k_recall, last_recall);
    EXPECT_GT(*report.top_k_recall, 0.05);
    last_recall = 0.95;
  }
  EXPECT_FALSE(cache.compress(ctx, full()).output_error.has_value());
  EXPECT_FALSE(cache.compress(ctx, full(), {.queries = Q.view(), .report = false}).output_error.has_value());
  const Tokens odd(3, 1, 32, 4);
  EXPECT_THROW(cache.compress(ctx, full(), {.queries = odd.view(), .report = false}), shape_error);
  KvCache<F32> exact(2, 32);
  exact.append(ctx, Tokens(2, 400, 32, 1).view(), Tokens(2, 400, 32, 2).view());
  const auto coded = compare(ctx, exact, filled(2, 400).base(), probe);
  const double most = GetParam().error;
  EXPECT_LE(*coded.output_error, most);
  EXPECT_GT(*coded.top_k_recall, most > 0.15 ? 0.5 : 0.85);
  if (most > 0) {
    EXPECT_LT(coded.bytes_after, coded.bytes_before);
  }
}

TEST_P(PolicyLaws, ALifeOfEverythingAtOnce) {
  const Index d = 16;
  const nn::RopeTable<float> table(d, 1024);
  const Tokens K(2, 64, d, 6), Q(4, 64, d, 7);
  Tokens out(4, 64, d, 0);
  AnyKvCache cache = GetParam().make(2, d);
  cache.track(AttentionSums{});
  cache.track(Recurrence{});
  cache.track(window_sums(8, 4));
  const Philox draws(8);
  for (std::uint64_t step = 0; step < 60; ++step) {
    AnyKvCache fork = cache.fork();
    const auto what = draws.below(2 * step, 12);
    const auto some = static_cast<Index>(1 + draws.below(2 * step + 1, 40));
    if (what < 5) fork.append(ctx, K.part(0, some), K.part(64 - some, some));
    if (what < 3) fork.append(ctx, K.part(0, 1), K.part(1, 1));
    if (what == 5) fork.compress(ctx, score(AccumulatedAttention{}) | keep(0.7) | merge(MergeSets{.threshold = 0.2f}));
    if (what == 6) fork.compress(ctx, score(LazyEviction{}) | protect(recent(8)) | keep_adaptive(0.8) | evict());
    if (what == 7) fork.compress(ctx, score(WindowAttention{}) | keep(0.9) | evict() | rerotate(table));
    if (what == 8) fork.compress(ctx, score(KeyNorm{}) | keep(0.8) | merge(MergeSets{}) | rerotate(table));
    if (what == 9) fork.truncate(fork.next_position() - some);
    if (what == 10) fork.base().retain(1, {});
    const Index n = std::min<Index>(some % 2 == 0 ? 1 : 11, fork.next_position());
    fork.attend(ctx, Q.part(0, n), out.view().slice(1, 0, n));
    for (Index h = 0; h < 4; ++h)
      for (Index i = 0; i < n; ++i) ASSERT_TRUE(std::isfinite(out.view()(h, i, 0))) << step;
    expect_sound(fork.base());
    expect_sound(cache.base());
    if (what != 11) cache = std::move(fork);
  }
}

TEST(Policy, TimeGoesOnWherePositionsDoNot) {
  Context ctx;
  const Index d = 16;
  const nn::RopeTable<float> table(d, 256);
  const Tokens K(1, 200, d, 11);
  Tokens out(1, 200, d, 0);
  KvCache<> cache(1, d);
  cache.track(Recurrence{.threshold = 0});
  cache.track(window_sums(8, 4));
  const auto serve = [&](Index t) {
    cache.append(ctx, K.part(0, t), K.part(0, t));
    cache.attend(ctx, K.part(0, t), out.view().slice(1, 0, t));
  };
  const auto in_window = [&] {
    std::vector<float> sums(static_cast<std::size_t>(cache.size(0)));
    WindowSums::total(cache.tracked<WindowSums>(0), sums);
    return std::accumulate(sums.begin(), sums.end(), 0.0);
  };
  serve(100);
  EXPECT_NEAR(in_window(), 8, 1e-4);
  cache.compress(ctx, window({2, 30}) | rerotate(table));
  EXPECT_EQ(cache.next_position(), 32);
  EXPECT_EQ(cache.clock(), 100);
  for (Index step = 0; step < 12; ++step) {
    serve(1);
    EXPECT_LT(in_window(), 8 + 1e-4) << step;
    for (const float last : Recurrence::last(cache.tracked<Recurrence>(0))) EXPECT_EQ(last, 100 + step);
    for (const float longest : Recurrence::longest(cache.tracked<Recurrence>(0))) EXPECT_LE(longest, 1);
  }
  EXPECT_GT(in_window(), 7 - 1e-4);
  cache.truncate(38);
  serve(1);
  EXPECT_LT(in_window(), 8 + 1e-4) << "those of queries that are forgotten are not among them";
  cache.clear();
  EXPECT_EQ(cache.clock(), 0);
}

TEST(Policy, ChunksOfInfinitiesAreComparable) {
  Context ctx;
  KvCache<> cache(1, 4);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::vector<HeadDraft> drafts(1);
  drafts[0].reset(4);
  drafts[0].score = {infinity, -infinity, 1, -infinity};
  const KvProbe probe;
  by_chunks(2)(StageContext{ctx, cache, drafts, probe});
  EXPECT_EQ(drafts[0].score, (std::vector<float>{infinity, infinity, -infinity, -infinity}));
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
