#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <new>
#include <numeric>
#include <string>
#include <tessera/kv/mergers/nearest.hpp>
#include <tessera/kv/scorers/leverage.hpp>
#include <thread>

#include "kv/memory.hpp"
#include "kv/stores.hpp"

// Every aligned allocation of this program, which all buffers are, is counted: what a cache says it holds is compared
// with what it really took. Sizes stand in front of the block. When `allocations_left` is 0 there is no memory.
namespace {
std::atomic<long> live_bytes{0}, allocations_left{-1};
}
void* operator new(std::size_t size, std::align_val_t align) {
  const auto gap = static_cast<std::size_t>(align);
  if (allocations_left == 0) throw std::bad_alloc();
  if (allocations_left > 0) --allocations_left;
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

class PolicyLaws : public testing::TestWithParam<Store> {
 protected:
  Context ctx;
  AnyKvCache filled(Index heads, Index n, Index d = 32) {
    AnyKvCache cache = GetParam().make(heads, d);
    cache.append(ctx, Tokens(heads, n, d, 1).view(), Tokens(heads, n, d, 2).view());
    return cache;
  }
};
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

TEST_P(PolicyLaws, EvictionReturnsMemory) {
  AnyKvCache cache = GetParam().make(2, 64);
  default_context().workspace.release();
  const long before = live_bytes;  // maps of channels are the model's
  const auto expect_held = [&] {
    ctx.workspace.release();
    default_context().workspace.release();
    if (GetParam().contiguous) {
      EXPECT_EQ(live_bytes - before, static_cast<long>(cache.bytes())) << "bytes() is what is held";
    }
  };
  {
    const Tokens K(2, 1024, 64, 1), V(2, 1024, 64, 2);
    cache.append(ctx, K.view(), V.view());
  }
  expect_held();
  const auto report = cache.compress(ctx, score(KeyNorm{}) | keep(0.25) | evict());
  expect_held();
  EXPECT_EQ(report.bytes_after, cache.bytes());
  EXPECT_EQ(report.tokens_after, 512);
  EXPECT_LT(report.bytes_after, report.bytes_before * (GetParam().contiguous ? 45 : 85) / 100);
  const auto merged = cache.compress(ctx, score(KeyNorm{}) | keep(0.5) | merge(MergeSets{.threshold = -1}));
  expect_held();
  if (!GetParam().window) {
    EXPECT_LE(merged.bytes_after, merged.bytes_before + (GetParam().contiguous ? 0 : 4 * page()));
  }
  EXPECT_TRUE(cache.base().counted(0));
  cache.clear();
  expect_held();
  EXPECT_EQ(cache.bytes(), 0u);
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

/// Of a cache that tracks AttentionSums.
void expect_sound(const KvCacheBase& cache) {
  for (Index h = 0; h < cache.kv_heads(); ++h) {
    const auto held = positions(cache, h);
    ASSERT_TRUE(std::is_sorted(held.begin(), held.end(), std::less_equal<>()));
    ASSERT_TRUE(held.empty() || (held.front() >= 0 && held.back() < cache.next_position()));
    ASSERT_EQ(cache.tracked<AttentionSums>(h).size(), cache.size(h));
    for (const bool keys : {true, false})
      for (const float x : decoded(cache, h, keys)) ASSERT_TRUE(std::isfinite(x));
    for (Index j = 0; j < cache.size(h); ++j) ASSERT_TRUE(std::isfinite(cache.count_bias(h, j)));
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

TEST_P(PolicyLaws, WithoutMemoryHeadsStayWhole) {
  const Index n = 130;
  const Tokens K(2, n, 32, 9), V(2, n, 32, 10);
  std::vector<Index> places(40);
  std::iota(places.begin(), places.end(), Index{7});
  const std::vector<float> counts(40, 2);
  for (int what = 0; what < 3; ++what) {
    bool failed = true;
    for (long after = 0; failed && after < 10000; after += 1 + after / 8) {
      AnyKvCache cache = GetParam().make(2, 32);
      cache.track(AttentionSums{});
      cache.append(ctx, K.part(0, 100), V.part(0, 100));
      default_context().workspace.release();
      allocations_left = after;
      try {
        if (what == 0) cache.append(ctx, K.part(0, n), V.part(0, n));
        if (what == 1) cache.base().retain(1, places);
        if (what == 2)
          cache.base().rewrite(1, K.view()[0].slice(0, 0, 40), V.view()[0].slice(0, 0, 40), places, counts);
        failed = false;
      } catch (const std::bad_alloc&) {
      }
      allocations_left = -1;
      ASSERT_EQ(cache.size(0), what == 0 && !failed ? 100 + n : 100);
      ASSERT_TRUE(cache.size(1) == (what == 0 ? cache.size(0) : 40) || (what != 0 && failed)) << cache.size(1);
      expect_sound(cache.base());
      const Index held = cache.size(1);
      cache.append(ctx, K.part(0, 70), V.part(0, 70));
      ASSERT_EQ(cache.size(1), held + 70);
      expect_sound(cache.base());
    }
    EXPECT_FALSE(failed);
  }
}

TEST_P(PolicyLaws, DecodingWithoutMemoryIsRightOrNotANumber) {  // attention decodes where nothing may throw
  const auto cache = filled(1, 300);
  const auto right = decoded(cache.base(), 0, true);
  std::vector<float> got(right.size());
  const auto unpack = KvCacheBase::unpack_kernel(ctx);
  std::thread([&] {  // with a workspace of its own, empty
    default_context();
    allocations_left = 0;
    for (Index t = 0; t < 300; t += 50) cache.base().copy_rows(KvPart::keys, 0, t, 50, got.data() + t * 32, unpack);
    allocations_left = -1;
  })
      .join();
  for (std::size_t i = 0; i < got.size(); ++i)
    if (!std::isnan(got[i])) {
      ASSERT_NEAR(got[i], right[i], 1e-5) << i;
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

/// f() throws Error, and says `what`.
template <class Error, class F>
void expect_refused(const F& f, const std::string& what) {
  try {
    f();
    ADD_FAILURE() << what << " is not refused";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
  }
}

TEST(Policy, RefusesSenselessNumbers) {
  EXPECT_THROW(keep(1.5), unsupported_error);
  EXPECT_THROW(keep(-0.1), unsupported_error);
  EXPECT_THROW(keep(std::nan("")), unsupported_error);
  EXPECT_THROW(keep_at_most(-1), unsupported_error);
  EXPECT_THROW(sinks(-1), unsupported_error);
  EXPECT_THROW(recent(-1), unsupported_error);
  expect_refused<shape_error>([] { KvCache<>(1, 64).reserve(Index{1} << 60); }, "reserve(1152921504606846976)");
  expect_refused<shape_error>([] { KvCache<>(1, 64).reserve(-1); }, "reserve(-1)");
  const float none = std::nanf("");
  expect_refused<unsupported_error>([&] { KvCache<>(1, 64).track(Recurrence{.threshold = none}); }, "nan");
  expect_refused<unsupported_error>([&] { KvCache<>(1, 64).track(Recurrence{.threshold = -1}); }, "-1");
  expect_refused<unsupported_error>([] { GumbelSums({.length = -5}); }, "-5");
}

TEST(Policy, IsRefusedBeforeAnythingIsEvicted) {
  Context ctx;
  KvCache<> cache(1, 4);
  const Tokens K(1, 100, 4, 10), Q(2, 3, 4, 11);
  cache.append(ctx, K.view(), K.view());
  const auto refuses = [&](const auto& scorer, const std::string& what) {
    const auto late = window({2, 60}) | score(scorer) | keep(0.5) | evict();
    expect_refused<unsupported_error>([&] { cache.compress(ctx, late, {.queries = Q.view()}); }, what);
    EXPECT_EQ(cache.tokens(), 100);
  };
  constexpr Index huge = std::numeric_limits<Index>::max();
  refuses(ExpectedAttention{.rope_base = 1e4, .future = huge}, std::to_string(huge));
  refuses(ExpectedAttention{.rope_base = 1e4, .future = -1}, "-1");
  refuses(ExpectedAttention{.rope_base = std::nan("")}, "nan");
  refuses(ExpectedAttention{.rope_base = 0.5}, "0.5");
  refuses(ExpectedAttention{.epsilon = std::nanf("")}, "nan");
  refuses(SnapKv{.pool = -7}, "-7");
  refuses(Critic{.attention = std::nanf("")}, "nan");
  refuses(Leverage{.sketch = -3}, "-3");
  refuses(Leverage{.ridge = -0.25}, "-0.25");
  refuses(chunked(Leverage{.sketch = -3}, 16), "-3");
  refuses(CurDkv{.rank = -3}, "-3");
  refuses(LagKv{.lag = 0}, "partitions of 0");
  expect_refused<shape_error>(
      [&] {
        cache.compress(ctx, window({2, 60}) | score(ProbeSaliency{{1, 2}}) | keep(0.5) | evict(),
                       {.queries = Q.view()});
      },
      "2 positions for 3 queries");
  EXPECT_EQ(cache.tokens(), 100);
  refuses(AccumulatedAttention{}, "AttentionSums");
  const auto merges = [&](const auto& merger, const std::string& what) {
    const auto late = window({2, 60}) | score(KeyNorm{}) | keep(0.5) | merge(merger);
    expect_refused<unsupported_error>([&] { cache.compress(ctx, late); }, what);
    EXPECT_EQ(cache.tokens(), 100);
  };
  merges(MergeNearest{.threshold = std::nanf("")}, "nan");
  merges(MergeSets{.threshold = std::nanf("")}, "nan");
  merges(EmsMerge{.merging = 1.5}, "1.5");
  const auto bits = window({2, 60}) | score(KeyNorm{}) | keep(0.5) | demote();
  expect_refused<unsupported_error>([&] { cache.compress(ctx, bits); }, "f32");
  expect_refused<unsupported_error>(
      [&] {
        cache.compress(ctx, window({2, 60}), {.queries = Q.view(), .top_k = -4, .report = false});
      },
      "-4");
  expect_refused<unsupported_error>(
      [&] {
        cache.compress(ctx, window({2, 60}), {.queries = Q.view(), .scale = std::nan("")});
      },
      "nan");
  expect_refused<unsupported_error>([&] { compare(ctx, cache, cache, {.queries = Q.view(), .top_k = -4}); }, "-4");
  EXPECT_EQ(cache.tokens(), 100);
  // As many positions as there are at most: no loop over them.
  const auto far = score(ExpectedAttention{.rope_base = 1e4, .future = std::numeric_limits<std::int32_t>::max()}) |
                   keep(0.5) | evict();
  cache.compress(ctx, far, {.queries = Q.view()});
  EXPECT_EQ(cache.tokens(), 50);
}

}  // namespace
}  // namespace tessera::test
