/// Selections by what values do, by directions and channels of queries, by heads and layers that stream, by repetition.
#include <gtest/gtest.h>

#include <Eigen/SVD>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <tessera/kv/codecs/think.hpp>
#include <tessera/kv/scorers/finch.hpp>
#include <tessera/kv/scorers/kv_zip.hpp>
#include <tessera/kv/scorers/leverage.hpp>
#include <tessera/kv/scorers/non_causal_attention.hpp>
#include <tessera/kv/scorers/q_filter.hpp>
#include <tessera/kv/stages/blend.hpp>
#include <tessera/kv/stages/critical.hpp>
#include <tessera/kv/stages/streaming.hpp>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

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

constexpr Index n = 90, d = 16, kv_heads = 2, heads = 4;

/// Two kv heads of a prompt, and what scorers say of their tokens.
struct Held {
  explicit Held(Index count = n) : K(kv_heads, count, d, 1), V(kv_heads, count, d, 2), Q(heads, count, d, 3) {
    cache.append(ctx, K.view(), V.view());
  }
  struct Show {
    std::vector<std::vector<float>>* to;
    static constexpr Facts needs = Facts::scores, too_late_after = Facts::none, gives = Facts::effect,
                           ends = Facts::none;
    static constexpr bool preserves_positions = true;
    void operator()(const StageContext& context) const {
      for (const HeadDraft& draft : context.heads) to->push_back(draft.score);
    }
  };
  template <class Stage>
  std::vector<std::vector<float>> scores(const Stage& stage, const KvProbe& probe = {}) {
    std::vector<std::vector<float>> all;
    cache.compress(ctx, stage | Show{&all}, probe);
    return all;
  }
  template <class Policy>
  std::vector<std::vector<Index>> left(const Policy& policy, const KvProbe& probe = {}) {
    KvCache<> copy = cache;
    copy.compress(ctx, policy, probe);
    return {positions(copy, 0), positions(copy, 1)};
  }
  double key(Index h, Index t, Index c) const { return static_cast<double>(K.view()(h, t, c)); }
  double query(Index h, Index i, Index c) const { return static_cast<double>(Q.view()(h, i, c)); }
  double dot(Index h, Index i, Index t) const {
    double sum = 0;
    for (Index c = 0; c < d; ++c) sum += query(h, i, c) * key(h / 2, t, c);
    return sum;
  }
  /// exp(scale · q·k) over the sum of it for tokens [begin, end).
  double weight(Index h, Index i, Index t, Index begin, Index end, double scale = 0.25) const {
    double total = 0;
    for (Index j = begin; j < end; ++j) total += std::exp(scale * dot(h, i, j));
    return std::exp(scale * dot(h, i, t)) / total;
  }
  Context ctx;
  Tokens K, V, Q;
  KvCache<> cache{kv_heads, d};
};
std::vector<Index> best(const std::vector<double>& x, std::size_t k) {
  std::vector<Index> order(x.size());
  std::iota(order.begin(), order.end(), Index{0});
  const auto of = [&](Index i) { return x[static_cast<std::size_t>(i)]; };
  std::sort(order.begin(), order.end(), [&](Index a, Index b) { return of(a) != of(b) ? of(a) > of(b) : a > b; });
  order.resize(k);
  std::sort(order.begin(), order.end());
  return order;
}

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
  EXPECT_EQ(held.left(score(ProbeAttention{}) | keep(1) | critical(Wo) | evict(), probe)[0].size(), 90u);
  EXPECT_THROW(held.left(chain | critical(Wo.slice(1, 0, 3 * d)) | evict(), probe), shape_error);
  EXPECT_THROW(critical(Wo, 1.5), unsupported_error);
  EXPECT_THROW(critical(Wo, 0.5, std::nanf("")), unsupported_error);
}

TEST(QFilter, IsTheFirstSingularVectorOfQueries) {
  Held held;
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < n; ++i)
      for (Index c = 0; c < d; ++c) held.Q.view()(h, i, c) += h % 2 == 0 ? 2.0f : (c < 5 ? -3.0f : 0.5f);
  const auto filters = q_filters(held.Q.view(), kv_heads);
  Eigen::VectorXd mean(d);
  for (Index k = 0; k < kv_heads; ++k) {
    mean.setZero();
    for (Index h = 2 * k; h < 2 * k + 2; ++h) {
      Eigen::MatrixXd rows(n, d);
      for (Index i = 0; i < n; ++i)
        for (Index c = 0; c < d; ++c) rows(i, c) = held.query(h, i, c);
      const Eigen::JacobiSVD<Eigen::MatrixXd> svd(rows, Eigen::ComputeThinV);
      const Eigen::VectorXd v = svd.matrixV().col(0);
      mean += ((rows * v).sum() < 0 ? -v : v) / 2;
    }
    for (Index c = 0; c < d; ++c) EXPECT_NEAR(filters[static_cast<std::size_t>(k * d + c)], mean[c], 1e-6);
  }
  const auto scores = held.scores(score(QFilter{filters}));
  for (Index t = 0; t < n; ++t) {
    double sum = 0;
    for (Index c = 0; c < d; ++c) sum += mean[c] * held.key(1, t, c);
    EXPECT_NEAR(scores[1][static_cast<std::size_t>(t)], sum, 1e-5);
  }
  EXPECT_THROW(held.scores(score(QFilter{})), shape_error);
  EXPECT_THROW(q_filters(held.Q.view(), 3), shape_error);
  EXPECT_THROW(q_filters(held.Q.part(0, 0), 2), shape_error);
}

TEST(KvZip, PeaksAreThoseOfTheRepetitionAlone) {
  Held held;
  held.cache.track(AttentionPeaks{});
  const Tokens again(kv_heads, 30, d, 11);  // keys and values of what is said once more
  Tokens out(heads, 30, d, 0);
  held.cache.append(held.ctx, again.view(), again.view());
  held.cache.attend(held.ctx, held.Q.part(0, 30), out.view());
  held.cache.truncate(n);
  const auto peaks = held.scores(score(KvZip{}));
  for (Index k = 0; k < kv_heads; ++k) {
    std::vector<double> most(static_cast<std::size_t>(n));
    for (Index h = 2 * k; h < 2 * k + 2; ++h)
      for (Index i = 0; i < 30; ++i) {
        std::vector<double> p;
        double total = 0;
        for (Index j = 0; j < n; ++j) total += p.emplace_back(std::exp(held.dot(h, i, j) / 4));
        for (Index j = 0; j <= i; ++j) {
          double dot = 0;
          for (Index c = 0; c < d; ++c) dot += held.query(h, i, c) * static_cast<double>(again.view()(k, j, c));
          total += std::exp(dot / 4);
        }
        for (std::size_t t = 0; t < p.size(); ++t) most[t] = std::max(most[t], p[t] / total);
      }
    for (std::size_t t = 0; t < most.size(); ++t) EXPECT_NEAR(peaks[static_cast<std::size_t>(k)][t], most[t], 1e-5);
  }
  held.cache.untrack<AttentionPeaks>();
  EXPECT_THROW(held.scores(score(KvZip{})), unsupported_error);
}

TEST(NonCausalAttention, IsThePlainLoopOverChunksAndCompactorBlendsIt) {
  Held held;
  const KvProbe all{.queries = held.Q.view(), .report = false};
  const NonCausalAttention scorer{.chunk = 32, .scale = 0};
  const auto got = held.scores(score(scorer), all);
  for (Index k = 0; k < kv_heads; ++k) {
    std::vector<double> sum(static_cast<std::size_t>(n + 2));
    for (Index t = 0; t < n; ++t) {
      const Index begin = t / 32 * 32, end = std::min(n, begin + 32);
      double norm = 0;
      for (Index c = 0; c < d; ++c) norm += std::pow(static_cast<double>(held.V.view()(k, t, c)), 2);
      for (Index h = 2 * k; h < 2 * k + 2; ++h)
        for (Index i = begin; i < end; ++i)
          sum[static_cast<std::size_t>(t + 1)] += held.weight(h, i, t, begin, end) * std::sqrt(norm) / 2;
    }
    for (std::size_t t = 0; t < 90; ++t)
      EXPECT_NEAR(got[static_cast<std::size_t>(k)][t], (sum[t] + sum[t + 1] + sum[t + 2]) / 3, 1e-4) << t;
  }
  const auto late = held.scores(score(scorer), {.queries = held.Q.part(n - 8, 8), .report = false});
  EXPECT_EQ(late[0][10], 0) << "no query of its chunk";
  EXPECT_GT(late[0][80], 0);
  const auto z = [](std::vector<std::vector<float>> x) {
    double mean = 0, square = 0;
    for (const auto& head : x)
      for (const float one : head) mean += static_cast<double>(one) / (kv_heads * n);
    for (const auto& head : x)
      for (const float one : head) square += std::pow(static_cast<double>(one) - mean, 2) / (kv_heads * n - 1);
    for (auto& head : x)
      for (float& one : head) one = static_cast<float>((static_cast<double>(one) - mean) / std::sqrt(square));
    return x;
  };
  const auto leverage = z(held.scores(score(Leverage{}))), attention = z(got);
  const auto both = held.scores(blend(weighted(0.35f, Leverage{}), weighted(1, scorer)), all);
  for (std::size_t t = 0; t < 90; ++t) EXPECT_NEAR(both[1][t], 0.35f * leverage[1][t] + attention[1][t], 1e-4);
  EXPECT_THROW(held.scores(blend(weighted(1, scorer))), unsupported_error) << "no queries";
  EXPECT_THROW(held.scores(score(NonCausalAttention{.chunk = 0}), all), unsupported_error);
  EXPECT_THROW(weighted(std::nanf(""), Leverage{}), unsupported_error);
}

TEST(Finch, WeighsQueriesByWhatTheySee) {
  Held held;
  const auto got = held.scores(score(Finch{}), {.queries = held.Q.part(n - 8, 8), .report = false});
  for (Index t = 0; t < n; ++t) {
    double sum = 0;
    for (Index h = 2; h < 4; ++h)
      for (Index i = n - 8; i < n; ++i) sum += held.weight(h, i, t, 0, i + 1) * static_cast<double>(i + 1);
    if (t < n - 8)
      EXPECT_NEAR(got[1][static_cast<std::size_t>(t)], sum, 1e-4 * sum);
    else
      EXPECT_EQ(got[1][static_cast<std::size_t>(t)], std::numeric_limits<float>::infinity());
  }
  const nn::RopeTable<float> table(d, n);
  KvCache<> cache = held.cache;
  cache.compress(held.ctx, score(Finch{}) | keep_in_chunks(0.25, 30) | evict() | rerotate(table),
                 {.queries = held.Q.part(n - 8, 8), .report = false});
  EXPECT_EQ(cache.size(0), 3 * 8);
  EXPECT_EQ(cache.next_position(), 3 * 8);
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

TEST(Think, DropsTheKeyChannelsThatQueriesHardlyUse) {
  Held held;
  for (Index t = 0; t < n; ++t)
    for (Index c = 0; c < d; c += 2) held.K.view()(1, t, c) *= 0.01f;
  const auto channels = think_channels(held.Q.part(n - 8, 8), held.K.view(), d / 2);
  EXPECT_EQ(channels[1], (std::vector<Index>{1, 3, 5, 7, 9, 11, 13, 15}));
  const auto attended = [&](const auto& cache) {
    Tokens out(heads, 8, d, 0);
    cache.attend(held.ctx, held.Q.part(n - 8, 8), out.view());
    return out.buffer;
  };
  const auto thin = [&](Index kept, Index recent) {
    Think<F32> codec;
    codec.channels = think_channels(held.Q.part(n - 8, 8), held.K.view(), kept);
    codec.window = recent;
    codec.group = 1;
    KvCache<Think<F32>> cache(kv_heads, d, codec);
    cache.append(held.ctx, held.K.view(), held.V.view());
    return cache;
  };
  held.cache.clear();
  held.cache.append(held.ctx, held.K.view(), held.V.view());
  const auto exact = attended(held.cache), all = attended(thin(d, 0));
  for (Index i = 0; i < exact.size(); ++i) EXPECT_NEAR(all[i], exact[i], 1e-6) << "of all channels: full attention";
  const auto half = thin(d / 2, 8);
  EXPECT_EQ(half.bytes(), 4u * kv_heads * ((n - 8) * (d / 2) + 9 * d + n * d)) << "a window of 8, and room for one";
  Tokens zeroed = held.K;
  for (Index h = 0; h < kv_heads; ++h)
    for (Index t = 0; t < n - 8; ++t)
      for (Index c = 0; c < d; ++c) {
        const auto& own = channels[static_cast<std::size_t>(h)];
        if (!std::binary_search(own.begin(), own.end(), c)) zeroed.view()(h, t, c) = 0;
      }
  KvCache<> plain(kv_heads, d);
  plain.append(held.ctx, zeroed.view(), held.V.view());
  const auto got = attended(half), wanted = attended(plain);
  for (Index i = 0; i < exact.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-5) << "as if the others were 0";
  EXPECT_THROW(think_channels(held.Q.view(), held.K.view(), 0), unsupported_error);
  EXPECT_THROW(think_channels(held.Q.view(), held.K.view().slice(2, 0, 8), 4), shape_error);
  Think<F16> twice;
  twice.channels = {{1, 1}};
  EXPECT_THROW((KvCache<Think<F16>>(1, d, twice)), unsupported_error);
  twice.channels = {{}};
  EXPECT_THROW((KvCache<Think<F16>>(1, d, twice)), unsupported_error);
  twice.channels = {{d}};
  EXPECT_THROW((KvCache<Think<F16>>(1, d, twice)), shape_error);
  twice.channels = {{1}, {2}, {3}};
  EXPECT_THROW((KvCache<Think<F16>>(2, d, twice)), shape_error);
  EXPECT_THROW((KvCache<Rotated<Think<F16>>>(2, d, {.codec = twice})), shape_error);
  EXPECT_NO_THROW((KvCache<Think<F16>>(3, d, twice)));
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
