/// Selections by what values do, by heads and layers that stream, and all of them on tiny contexts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tessera/kv/scorers/finch.hpp>
#include <tessera/kv/scorers/kv_zip.hpp>
#include <tessera/kv/scorers/leverage.hpp>
#include <tessera/kv/scorers/non_causal_attention.hpp>
#include <tessera/kv/scorers/q_filter.hpp>
#include <tessera/kv/stages/blend.hpp>
#include <tessera/kv/stages/critical.hpp>
#include <tessera/kv/stages/streaming.hpp>

#include "kv/press.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using namespace press;  // NOLINT(google-build-using-namespace)

template <class A, class B>
concept Composes = requires(const A& a, const B& b) {
  a | b;
};
using Scored = decltype(score(KeyNorm{}));
static_assert(KvPolicy<decltype(score(KeyNorm{}) | keep(0.5) | critical({}) | evict())>);
static_assert(!Composes<Scored, Critical>, "no budget was selected");
static_assert(!KvPolicy<decltype(critical({}) | evict())>, "nothing was scored");
static_assert(!Composes<Evict, Critical> && !Composes<Evict, KeepAbove>, "an eviction uses up the scores");
static_assert(!Composes<decltype(keep(0.5)), Blend<KeyNorm>>, "scores after the selection");
static_assert(KvPolicy<decltype(duo_attention({}, {}))> && !KvPolicy<KeepRetrievalHeads>, "ends before it evicts");
static_assert(KvPolicy<decltype(sim_layer_kv(0.5, {}))>);

TEST(Critical, SecondHalfIsByScoresTimesTheNormOfWhatValuesAdd) {
  Held held;
  const Index model = 24;
  const Tokens W(1, model, heads * d, 9);
  const MatrixView<const float> Wo = W.view()[0];
  const KvProbe probe{.queries = held.Q.part(n - 8, 8), .report = false};
  const auto plain = held.scores(score(ProbeAttention{}), probe);
  std::vector<std::vector<double>> wanted;
  for (Index h = 0; h < kv_heads; ++h) {
    std::vector<double> raw(plain[static_cast<std::size_t>(h)].begin(), plain[static_cast<std::size_t>(h)].end());
    std::vector<double> both = raw;
    for (Index t = 0; t < n; ++t) {
      double norm = 0;
      for (Index g = 0; g < 2; ++g)
        for (Index r = 0; r < model; ++r) {
          double sum = 0;
          for (Index c = 0; c < d; ++c)
            sum += static_cast<double>(Wo(r, (2 * h + g) * d + c)) * static_cast<double>(held.V.view()(h, t, c));
          norm += std::abs(sum) / 2;
        }
      both[static_cast<std::size_t>(t)] = (raw[static_cast<std::size_t>(t)] + 1e-4) * norm;
    }
    for (const Index t : best(raw, 10)) both[static_cast<std::size_t>(t)] = 1e9;
    wanted.push_back(both);
  }
  const auto chain = score(ProbeAttention{}) | keep_at_most(20);
  const auto chosen = held.left(chain | critical(Wo) | evict(), probe);
  for (std::size_t h = 0; h < 2; ++h) EXPECT_EQ(chosen[h], best(wanted[h], 20)) << h;
  EXPECT_NE(chosen, held.left(chain | evict(), probe));
  EXPECT_EQ(held.left(chain | critical(Wo, 1) | evict(), probe), held.left(chain | evict(), probe));
  const auto ragged = score(ProbeAttention{}) | protect(recent(3)) | keep_adaptive(0.2);
  const auto before = held.left(ragged | evict(), probe), after = held.left(ragged | critical(Wo) | evict(), probe);
  for (std::size_t h = 0; h < 2; ++h) {
    EXPECT_EQ(after[h].size(), before[h].size()) << "CriticalAdaKV: budgets are AdaKV's";
    EXPECT_EQ(after[h][after[h].size() - 3], n - 3);
  }
  EXPECT_NE(after, before);
  // Protected tokens stay, and leave what is left of the share to the highest scores.
  const auto protect_late = score(ProbeAttention{}) | protect(recent(15)) | keep_at_most(20);
  EXPECT_EQ(held.left(protect_late | critical(Wo, 1) | evict(), probe), held.left(protect_late | evict(), probe));
  const auto mixed = held.left(protect_late | critical(Wo, 0.85) | evict(), probe);
  for (std::size_t h = 0; h < 2; ++h) {
    std::vector<double> early(plain[h].begin(), plain[h].end() - 15);
    for (const Index t : best(early, 2)) EXPECT_NE(std::find(mixed[h].begin(), mixed[h].end(), t), mixed[h].end());
    EXPECT_EQ(mixed[h].size(), 20u);
    EXPECT_EQ(mixed[h][5], n - 15);
  }
  EXPECT_EQ(held.left(score(ProbeAttention{}) | keep(1) | critical(Wo) | evict(), probe)[0].size(), 90u);
  EXPECT_THROW(held.left(chain | critical(Wo.slice(1, 0, 3 * d)) | evict(), probe), shape_error);
  EXPECT_THROW(critical(Wo, 1.5), unsupported_error);
  EXPECT_THROW(critical(Wo, 0.5, std::nanf("")), unsupported_error);
}

TEST(Streaming, HeadsAndLayersThatLookNearHoldWhatIsNear) {
  Held held;
  for (Index t = 4; t < n - 16; ++t)  // head 0 looks at the ends, head 1 everywhere
    for (Index c = 0; c < d; ++c) held.K.view()(0, t, c) = c == 0 ? -8.0f : 0.0f;
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < n; ++i) held.Q.view()(h, i, 0) = h < 2 ? 4.0f : held.Q.view()(h, i, 0);
  held.cache.clear();
  held.cache.append(held.ctx, held.K.view(), held.V.view());
  const KvProbe probe{.queries = held.Q.part(n - 4, 4), .report = false};
  const Window sizes{.sinks = 4, .recent = 16};
  const auto mass = streaming_mass(held.ctx, held.cache, probe, sizes);
  double wanted = 0;
  for (Index h = 2; h < 4; ++h)
    for (Index i = n - 4; i < n; ++i)
      for (Index t = 0; t <= i; ++t)
        if (t < 4 || t >= n - 16) wanted += held.weight(h, i, t, 0, i + 1) / 8;
  EXPECT_GT(mass[0], 0.99);
  EXPECT_NEAR(mass[1], wanted, 1e-5);
  const auto retrieval = retrieval_heads(mass, 0.5);
  EXPECT_EQ(retrieval, (std::vector<bool>{false, true}));
  EXPECT_EQ(retrieval_heads(mass, 1), std::vector<bool>(2, true));
  const auto duo = held.left(duo_attention(retrieval, sizes));
  const auto windowed = held.left(window(sizes)), all = held.left(full());
  EXPECT_EQ(duo[0], windowed[0]);
  EXPECT_EQ(duo[1], all[1]);
  EXPECT_EQ(held.left(sim_layer_kv(mass[1] / 2 + 0.4, sizes), probe), windowed) << "lazy";
  EXPECT_EQ(held.left(sim_layer_kv(0.999, sizes), probe), all);
  EXPECT_EQ(held.left(sim_layer_kv(0.1, {.sinks = 50, .recent = 50}), probe), all);
  EXPECT_THROW(held.left(sim_layer_kv(0.5, sizes)), unsupported_error);
  EXPECT_THROW(held.left(duo_attention({true}, sizes)), shape_error);
  EXPECT_THROW(duo_attention({true, true}, {.sinks = -1}), unsupported_error);
  EXPECT_THROW(sim_layer_kv(std::nan(""), sizes), unsupported_error);
  EXPECT_THROW(retrieval_heads(mass, 1.5), unsupported_error);
  EXPECT_THROW(streaming_mass(held.ctx, held.cache, {}, sizes), unsupported_error);
  for (const Window wrong : {Window{.sinks = -5, .recent = 3}, Window{.sinks = 3, .recent = -50}})
    EXPECT_THROW(streaming_mass(held.ctx, held.cache, probe, wrong), unsupported_error);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(retrieval_heads(std::vector<double>{nan, 0.5, nan, 0.25, 0.75}, 0.4),
            (std::vector<bool>{false, true, false, true, false}));
}

TEST(Blocks, APromptInBlocksIsTheLoopOfKeyDiff) {
  Held held;
  const Index budget = 20, block = 16;
  KvCache<> cache(kv_heads, d);
  for (Index t = 0; t < n; t += block) {
    const Index some = std::min(block, n - t);
    cache.append(held.ctx, held.K.part(t, some), held.V.part(t, some));
    cache.compress(held.ctx, score(KeyDiff{}) | keep_at_most(budget) | evict(block));
    EXPECT_LE(cache.size(0), budget);
  }
  std::vector<Index> kept;
  for (Index t = 0; t < n; t += block) {
    for (Index i = t; i < std::min(n, t + block); ++i) kept.push_back(i);
    Tokens some(1, static_cast<Index>(kept.size()), d, 0);
    for (std::size_t i = 0; i < kept.size(); ++i)
      for (Index c = 0; c < d; ++c) some.view()(0, static_cast<Index>(i), c) = held.K.view()(0, kept[i], c);
    KvTokens tokens;
    tokens.keys = some.view()[0];
    std::vector<float> score(kept.size());
    KeyDiff{}(held.ctx, tokens, score);
    const auto places = best({score.begin(), score.end()}, std::min<std::size_t>(kept.size(), 20));
    std::vector<Index> next;
    for (const Index i : places) next.push_back(kept[static_cast<std::size_t>(i)]);
    kept = next;
  }
  EXPECT_EQ(positions(cache, 0), kept);
}

TEST(Press, TinyContextsAreNeverEmptiedAndThreadsAgree) {
  const Tokens W(1, 8, heads * d, 9);
  const MatrixView<const float> Wo = W.view()[0];
  const nn::RopeTable<float> table(d, n);
  for (const Index count : {0, 1, 2, 3, 90}) {
    Held held(count);
    Context two = Context::with_threads(2);
    held.cache.track(AttentionPeaks{});
    const Tokens asked(heads, 2, d, 7);
    const KvProbe probe{.queries = asked.view()};
    const auto filters = q_filters(asked.view(), kv_heads);
    const auto check = [&](const char* name, const auto& policy) {
      SCOPED_TRACE(std::string(name) + " of " + std::to_string(count));
      KvCache<> one = held.cache, other = held.cache;
      for (int again = 0; again < 2; ++again) {
        ASSERT_NO_THROW(one.compress(held.ctx, policy, probe));
        other.compress(two, policy, probe);
      }
      for (Index h = 0; h < kv_heads; ++h) {
        EXPECT_GE(one.size(h), std::min<Index>(count, 1));
        EXPECT_EQ(positions(one, h), positions(other, h));
      }
    };
    for (const double f : {0.0, 0.3, 1.0}) {
      check("critical", score(ProbeAttention{}) | keep(f) | critical(Wo) | evict());
      check("critical, adaptive", score(KvZip{}) | keep_adaptive(f) | critical(Wo) | evict());
      check("filter", score(QFilter{filters}) | keep(f) | evict());
      check("repeated", score(KvZip{}) | keep_adaptive(f, 0) | evict());
      check("compactor", blend(weighted(0.35f, Leverage{.sketch = 4}), weighted(1, NonCausalAttention{})) |
                             protect(sinks(1)) | keep(f) | evict());
      check("finch", score(Finch{}) | keep_in_chunks(f, 8) | evict() | rerotate(table));
      check("above", score(KeyNorm{}) | keep_above(static_cast<float>(f)) | evict());
      check("lazy", sim_layer_kv(f, {.sinks = 1, .recent = 2}));
      check("duo", duo_attention({false, true}, {.sinks = 0, .recent = 0}));
    }
  }
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
