/// Stages, spans, scorers and rules put together past the functions that check their numbers, and numbers that are
/// none.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <tessera/kv/budgets/scale_kv.hpp>
#include <tessera/kv/codecs/staircase.hpp>
#include <tessera/kv/layers.hpp>
#include <tessera/kv/mergers/nearest.hpp>
#include <tessera/kv/scorers/non_causal_attention.hpp>
#include <tessera/kv/sparse_window.hpp>
#include <tessera/kv/stages/critical.hpp>
#include <tessera/kv/stages/streaming.hpp>
#include <vector>

#include "kv/any_policy.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

constexpr Index least = std::numeric_limits<Index>::min(), most = std::numeric_limits<Index>::max();
constexpr double no_number = std::numeric_limits<double>::quiet_NaN();

class Aggregates : public testing::Test {
 protected:
  static constexpr Index n = 60, d = 16;
  Aggregates() { cache.append(ctx, K.view(), K.view()); }
  /// Tokens left of the first head.
  std::vector<Index> left(const AnyPolicy& policy, const KvProbe& probe = {}) {
    KvCache<> copy = cache;
    copy.compress(ctx, policy, probe);
    return positions(copy, 0);
  }
  /// Before the window, which comes first, has evicted anything.
  template <class Error = unsupported_error, class Policy>
  void refuses(const Policy& policy, const KvProbe& probe = {}) {
    EXPECT_THROW(cache.compress(ctx, any(window({2, 20}) | policy), probe), Error);
    EXPECT_EQ(cache.tokens(), 2 * n);
  }
  Context ctx;
  Tokens K{2, n, d, 1}, Q{4, 8, d, 2};
  KvCache<> cache{2, d};
};

TEST_F(Aggregates, SpansOfLessThanNothingMarkNothing) {
  const std::vector<Index> latest{n - 1};
  for (const Index none : {Index{-1}, least}) {
    EXPECT_EQ(left(any(protect(Sinks{none}, RecentTokens{none}) | keep_protected() | evict())), latest);
    KvCache<> shortest = cache;
    shortest.compress(ctx, any(score(KeyNorm{}) | protect(TopScores{none}) | keep_protected() | evict()));
    EXPECT_EQ(shortest.size(0), 1);
  }
  EXPECT_EQ(left(any(protect(Between{5, 2}, Between{most, least}) | keep_protected() | evict())), latest);
  EXPECT_EQ(left(any(protect(Sinks{most}, RecentTokens{most}) | keep_protected() | evict())).size(), 60u);
  EXPECT_EQ(left(any(score(KeyNorm{}) | protect(TopScores{most}) | keep_protected() | evict())).size(), 60u);
  std::vector<Index> tokens(5);
  std::iota(tokens.begin(), tokens.end(), Index{0});
  for (const Index some : {least, Index{-1}, Index{0}, Index{5}, most}) {
    auto order = tokens;
    kv::detail::prefer(order, some, {});
    EXPECT_EQ(order, tokens);
  }
}

TEST_F(Aggregates, StagesAreRefusedBeforeAnythingIsEvicted) {
  const auto scored = score(KeyNorm{});
  for (const double f : {-1.0, 1.5, 1e300, no_number}) {
    refuses(scored | Keep{{}, f} | evict());
    refuses(scored | KeepAdaptive{{}, f, 0.2} | evict());
    refuses(scored | KeepAdaptive{{}, 0.5, f} | evict());
    refuses(scored | KeepInChunks{{}, f, 8} | evict());
    const std::vector<float> Wo(4 * d * 4 * d);
    refuses(scored | keep(0.5) | Critical{{}, MatrixView<const float>(Wo.data(), 4 * d, 4 * d), f} | evict());
    refuses(scored | keep(0.5) | merge(EmsMerge{.merging = f}));
  }
  for (const Index none : {Index{0}, Index{-1}, least}) {
    refuses(scored | ByChunks{none} | keep(0.5) | evict());
    refuses(scored | KeepInChunks{{}, 0.5, none} | evict());
    refuses(score(Chunked<KeyDiff>{{}, none}) | keep(0.5) | evict());
    refuses(score(SnapKv{.pool = none}) | keep(0.5) | evict(), {.queries = Q.view()});
    refuses(score(NonCausalAttention{.chunk = none}) | keep(0.5) | evict(), {.queries = Q.view()});
  }
  for (const Index wrong : {Index{-1}, least, most}) {
    refuses(scored | keep(0.5) | Evict{{}, wrong});
    refuses(scored | keep(0.5) | merge(MergeSets{}, {.room = wrong}));
    refuses(scored | keep(0.5) | merge(MergeNearest{}, {.room = wrong}));
  }
  for (const Index wrong : {Index{-1}, least}) {
    refuses(scored | KeepAtMost{{}, wrong} | evict());
    refuses(KeepUnlessLazy{{}, 0.5, {wrong, 4}} | evict(), {.queries = Q.view()});
    EXPECT_EQ(left(any(KeepRetrievalHeads{{}, {false, true}, {wrong, wrong}} | evict())), std::vector<Index>{n - 1});
  }
  refuses(scored | KeepAbove{{}, std::nanf("")} | evict());
  refuses<shape_error>(scored | keep(0.5) | evict() | Rerotate{nullptr});
}

TEST_F(Aggregates, StagesThatAreCalledByThemselvesRefuseToo) {
  std::vector<HeadDraft> drafts(2);
  for (HeadDraft& draft : drafts) {
    draft.reset(n);
    draft.score.assign(n, 1.0f);
    draft.score[7] = std::nanf("");
  }
  const KvProbe probe;
  const StageContext context{ctx, cache, drafts, probe};
  EXPECT_THROW((ByChunks{0}(context)), unsupported_error);
  EXPECT_THROW((KeepInChunks{{}, 0.5, 0}(context)), unsupported_error);
  EXPECT_THROW((KeepAdaptive{{}, 0.5, no_number}(context)), unsupported_error);
  KvTokens tokens;
  tokens.keys = tokens.values = K.view()[0];
  tokens.cache = &cache;
  tokens.queries = Q.view();
  std::vector<float> scores(static_cast<std::size_t>(n));
  EXPECT_THROW((Chunked<KeyDiff>{{}, 0}(ctx, tokens, scores)), unsupported_error);
  EXPECT_THROW((SnapKv{.pool = -9}(ctx, tokens, scores)), unsupported_error);
  EXPECT_THROW((NonCausalAttention{.chunk = 0}(ctx, tokens, scores)), unsupported_error);
  // What other stages leave of a draft is held to what makes sense.
  for (const double f : {-2.0, 3.0, 1e300, no_number})
    for (const Index all : {least, Index{-3}, Index{4}, most}) {
      for (HeadDraft& draft : drafts) {
        draft.fraction = f;
        draft.most = all;
        EXPECT_EQ(draft.budget(), f > 0 && all > 0 ? std::min(all, n) : 0);
      }
      KeepInChunks{{}, 1, 8}(context);
      KeepAdaptive{{}, 1, 0.5}(context);
      for (const HeadDraft& draft : drafts) EXPECT_FALSE(draft.kept.empty());
    }
  drafts[0].fraction = 1;
  drafts[0].most = most;
  drafts[0].kept.clear();
  kv::detail::select_tokens(drafts[0], n - 1);  // NaN goes first
  EXPECT_EQ(std::count(drafts[0].kept.begin(), drafts[0].kept.end(), 7), 0);
}

TEST_F(Aggregates, HugeNumbersAreNoLoops) {
  const KvProbe probe{.queries = Q.view()};
  EXPECT_EQ(left(any(score(SnapKv{.pool = most}) | keep(0.5) | evict()), probe).size(), 30u);
  EXPECT_EQ(left(any(score(NonCausalAttention{.chunk = most}) | keep(0.5) | evict()), probe).size(), 30u);
  const Tokens many(4, 2 * n, d, 3);  // more queries than tokens
  EXPECT_EQ(left(any(score(NonCausalAttention{.chunk = most}) | keep(0.5) | evict()), {.queries = many.view()}).size(),
            30u);
  EXPECT_EQ(left(any(score(KeyNorm{}) | ByChunks{most} | KeepInChunks{{}, 0.5, most} | evict())).size(), 30u);
  EXPECT_EQ(left(any(score(Chunked<KeyDiff>{{}, most}) | KeepAtMost{{}, most} | evict())).size(), 60u);
  for (const Index far : {least, most}) EXPECT_TRUE(std::isfinite(GumbelSums({.begin = far}).tau(5)));
  EXPECT_THROW(cache.track(WindowSums{.window = most, .parts = most}), unsupported_error);
  EXPECT_THROW(cache.track(WindowSums{.window = 0, .parts = 0}), unsupported_error);
  EXPECT_THROW(best_schedule({.steps = most}), unsupported_error);
  EXPECT_THROW(best_schedule({.steps = 100}, most), unsupported_error);
  EXPECT_EQ(best_schedule({.prompt = most, .steps = 3, .fast_tokens = most, .slow_tokens = most}).seconds, 0);
  EXPECT_THROW(pyramid_budgets(most, 0), unsupported_error);
}

TEST_F(Aggregates, CodecsTakeOrRefuseAnyNumber) {
  for (const std::string name : {"int4", "int2", "zip", "staircase", "rotated int3", "gear int4"})
    for (const std::string what : {"group", "recent", "value_group", "segment", "chunk", "rank"})
      for (const Index number : {least, Index{-1}, Index{0}, Index{7}, most}) {
        const std::string codec = name + ' ' + what + '=' + std::to_string(number);
        try {
          AnyKvCache some = make_kv_cache(codec, 2, d);
          some.append(ctx, K.view(), K.view());
          some.compress(ctx, any(score(KeyNorm{}) | keep(0.5) | evict()));
          EXPECT_EQ(some.tokens(), n) << codec;
        } catch (const unsupported_error& error) {
          EXPECT_NE(std::string(error.what()).find(number == 7 ? "7" : std::to_string(number)), std::string::npos)
              << codec << ": " << error.what();
        }
      }
}

TEST_F(Aggregates, RowStoresCheckWhatTheyDivideBy) {
  using Groups = ChannelGroups<4, Contiguous>;
  for (const Index wrong : {least, Index{-1}, Index{0}}) {
    EXPECT_THROW(Groups(d, wrong), unsupported_error);
    EXPECT_THROW((Recent<Groups, Contiguous>(Groups(d, 4), d, wrong, 8)), unsupported_error);
    EXPECT_THROW((kv::Step<Groups, Groups, Contiguous>(Groups(d, 4), Groups(d, 4), d, wrong, 8)), unsupported_error);
  }
  EXPECT_THROW((Recent<Groups, Contiguous>(Groups(d, 4), d, 4, -1)), unsupported_error);
}

TEST_F(Aggregates, NanIsLastWhereNumbersAreSorted) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  const Index m = 40;
  std::vector<float> weights(static_cast<std::size_t>(m), nan);
  for (std::size_t j = 0; j < 30; j += 3) weights[j] = 0.01f * static_cast<float>(j + 1);
  for (std::size_t j = 30; j < 40; ++j) weights[j] = 0.05f;
  const View<const float, 2> one(weights.data(), {1, m});
  EXPECT_NEAR(attention_selectivity_index(one, 30, 3), 0.5 * (0.28 + 0.25 + 0.22), 1e-6);
  EXPECT_TRUE(std::isnan(attention_selectivity_index(one, 30, 11)));  // of ten numbers
  EXPECT_EQ(attention_selectivity_index(one, 30, 0), 0);

  std::vector<Index> order(100);
  std::vector<float> scores(order.size());
  for (std::size_t j = 0; j < scores.size(); ++j) scores[j] = j % 3 == 0 ? nan : static_cast<float>(j * 37 % 100);
  std::iota(order.begin(), order.end(), Index{0});
  kv::detail::prefer(order, 66, scores);
  for (std::size_t i = 0; i < order.size(); ++i)
    EXPECT_EQ(std::isnan(scores[static_cast<std::size_t>(order[i])]), i >= 66) << i;
  kv::detail::prefer(order, 80, scores);  // of equals the later
  std::sort(order.begin() + 66, order.begin() + 80);
  EXPECT_EQ(order[66], 60);

  // LagKV: what is not finite stays with its token, in its partition and in the one that it is measured by.
  Tokens L = K;
  L.view()(0, 5, 3) = nan;
  L.view()(0, 6, 3) = std::numeric_limits<float>::infinity();
  L.view()(0, 20, 0) = nan;
  L.view()(0, 21, 1) = std::numeric_limits<float>::infinity();
  L.view()(0, 22, 2) = 1e30f;
  KvTokens tokens;
  tokens.keys = L.view()[0];
  tokens.values = K.view()[0];
  std::vector<float> lag(static_cast<std::size_t>(n));
  LagKv{.sinks = 4, .lag = 15}(ctx, tokens, lag);
  for (std::size_t t = 0; t < lag.size(); ++t)
    EXPECT_EQ(std::isnan(lag[t]), t == 5 || t == 6 || t == 20 || t == 21) << t;
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
