#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <limits>
#include <numeric>
#include <set>
#include <string>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using Numbers = std::vector<double>;

/// What a scorer says of every token of a kv head.
struct Show {
  std::vector<float>* to;
  static constexpr Facts needs = Facts::scores, too_late_after = Facts::none, gives = Facts::effect, ends = Facts::none;
  static constexpr bool preserves_positions = true;
  void operator()(const StageContext& context) const {
    for (const HeadDraft& draft : context.heads) to->insert(to->end(), draft.score.begin(), draft.score.end());
  }
};
template <class S>
std::vector<float> scores(Context& ctx, KvCacheBase& cache, const S& scorer, const KvProbe& probe = {}) {
  std::vector<float> all;
  cache.compress(ctx, score(scorer) | Show{&all}, probe);
  return all;
}

/// One kv head of 16 channels whose prompt has been attended to, all queries at once or one by one.
struct Prompt {
  explicit Prompt(Index n, Index group = 2, float lure = 0)
      : K(1, n, 16, 1), V(1, n, 16, 2), Q(group, n, 16, 3), out(group, n, 16, 4), cache(1, 16) {
    for (Index g = 0; g < group; ++g)
      for (Index i = 0; i < n; ++i) Q.view()(g, i, 0) = 1;
    for (Index t = 0; t < n; ++t) K.view()(0, t, 0) = t % 10 == 3 ? 4 * lure : 0;
  }
  template <class... Rules>
  KvCache<>& serve(Context& ctx, Index at_once, Rules... rules) {
    cache = KvCache<>(1, 16);
    (cache.track(rules), ...);
    for (Index at = 0; at < K.shape[1]; at += at_once) step(ctx, at, std::min(at_once, K.shape[1] - at));
    return cache;
  }
  void step(Context& ctx, Index at, Index t) {
    cache.append(ctx, K.part(at, t), V.part(at, t));
    cache.attend(ctx, Q.part(at, t), out.view().slice(1, at, t));
  }
  /// Softmax weights of query i of head g over all tokens up to `last`.
  Numbers weights(Index g, Index i, Index last) const {
    Numbers p;
    double total = 0;
    for (Index j = 0; j < K.shape[1]; ++j) {
      double dot = 0;
      for (Index c = 0; c < 16; ++c)
        dot += static_cast<double>(Q.view()(g, i, c)) * static_cast<double>(K.view()(0, j, c));
      p.push_back(j <= last ? std::exp(dot / 4) : 0);
      total += p.back();
    }
    for (double& x : p) x /= total;
    return p;
  }
  Tokens K, V, Q, out;
  KvCache<> cache;
};

void expect_near(const std::vector<float>& got, const Numbers& expected, double bound) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t j = 0; j < got.size(); ++j) EXPECT_NEAR(got[j], expected[j], bound * (1 + expected[j])) << j;
}
std::set<std::size_t> largest(const std::vector<float>& x, std::size_t k) {
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return x[a] != x[b] ? x[a] > x[b] : a > b; });
  return {order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k)};
}

TEST(AttentionScorers, AreWhatTheirPapersSay) {
  Context ctx;
  const Index n = 90, w = 8;
  Prompt prompt(n);
  auto& cache = prompt.serve(ctx, n, AttentionSums{}, window_sums(16, 4));
  Numbers sum(90), mean(90), last(90), window(90), recent(90);
  for (Index g = 0; g < 2; ++g)
    for (Index i = 0; i < n; ++i) {
      const auto p = prompt.weights(g, i, i);
      for (std::size_t j = 0; j < 90; ++j) {
        sum[j] += p[j];
        mean[j] += p[j] / static_cast<double>(2 * (90 - j));
        if (i == n - 1) last[j] += p[j];
        if (i >= n - w) window[j] += p[j];
        if (i >= 76) recent[j] += p[j];  // runs of 4 positions: 76 to 79, ..., 88 to 89
      }
    }
  const KvProbe all{.queries = prompt.Q.view()}, late{.queries = prompt.Q.part(n - w, w)};
  expect_near(scores(ctx, cache, AccumulatedAttention{}), sum, 1e-5);
  expect_near(scores(ctx, cache, NormalizedAttention{}), mean, 1e-5);
  expect_near(scores(ctx, cache, WindowAttention{}), recent, 1e-5);
  expect_near(scores(ctx, cache, ProbeAttention{}, all), sum, 1e-5);
  expect_near(scores(ctx, cache, ProbeSaliency{}, all), mean, 1e-5);
  EXPECT_EQ(largest(scores(ctx, cache, Critic{1, 0, 0}, all), 30),
            largest(scores(ctx, cache, ProbeAttention{}, all), 30));
  auto snap = scores(ctx, cache, SnapKv{.pool = 5}, late);
  for (std::size_t j = 0; j < 90; ++j) {
    double most = 0;
    for (std::size_t k = j < 2 ? 0 : j - 2; k < std::min<std::size_t>(82, j + 3); ++k) most = std::max(most, window[k]);
    if (j < 82)
      EXPECT_NEAR(snap[j], most, 1e-5);
    else
      EXPECT_EQ(snap[j], std::numeric_limits<float>::infinity());
  }
  const auto rounded = scores(ctx, cache, SnapKv{.pool = 5, .precision = AttentionPrecision::bfloat16}, late);
  for (std::size_t j = 0; j < 82; ++j) EXPECT_NEAR(rounded[j], snap[j], 0.05f * snap[j]);
  prompt.serve(ctx, 1, window_sums(1, 1), window_sums(1, 1));
  expect_near(scores(ctx, prompt.cache, WindowAttention{}), last, 1e-5);  // TOVA
  EXPECT_THROW(scores(ctx, prompt.cache, GlobalLocal{}), unsupported_error);
  EXPECT_THROW(scores(ctx, prompt.cache, Keyformer{}), unsupported_error);
  EXPECT_THROW(scores(ctx, prompt.cache, LazyEviction{}), unsupported_error);
  EXPECT_THROW(scores(ctx, prompt.cache, ProbeSaliency{{1, 2}}, all), shape_error);
  EXPECT_THROW(window_sums(10, 4), unsupported_error);
  try {
    scores(ctx, prompt.cache, AccumulatedAttention{});
    FAIL();
  } catch (const unsupported_error& error) {
    EXPECT_NE(std::string(error.what()).find("AttentionSums"), std::string::npos) << error.what();
  }
}

TEST(AttentionScorers, CriticMixesItsTerms) {
  Context ctx;
  const Index n = 40;
  Prompt prompt(n);
  auto& cache = prompt.serve(ctx, n);
  Numbers entropy(40), gradient(40);
  for (Index g = 0; g < 2; ++g)
    for (Index i = 0; i < n; ++i) {
      const auto p = prompt.weights(g, i, i);
      for (Index j = 0; j <= i; ++j) {
        const double weight = p[static_cast<std::size_t>(j)];
        double square = 0;
        for (Index c = 0; c < 16; ++c)
          square += std::pow(static_cast<double>(prompt.V.view()(0, j, c) - prompt.out.view()(g, i, c)), 2);
        entropy[static_cast<std::size_t>(j)] -= weight * std::log(weight);
        gradient[static_cast<std::size_t>(j)] += weight * std::sqrt(square);
      }
    }
  const KvProbe all{.queries = prompt.Q.view()};
  for (Numbers* const term : {&entropy, &gradient}) {
    const double total = std::accumulate(term->begin(), term->end(), 0.0);
    for (double& x : *term) x /= total;
  }
  expect_near(scores(ctx, cache, Critic{0, 1, 0}, all), entropy, 1e-5);
  expect_near(scores(ctx, cache, Critic{0, 0, 1}, all), gradient, 1e-5);
  Numbers sums(40);
  for (Index g = 0; g < 2; ++g)
    for (Index i = 0; i < n; ++i) {
      const auto p = prompt.weights(g, i, i);
      for (std::size_t j = 0; j <= static_cast<std::size_t>(i); ++j) sums[j] += p[j];
    }
  expect_near(scores(ctx, cache, Critic{1, 0, 0}, all), sums, 1e-5);
  double before = 0;  // errors grow as fewer are kept, and order and positions stay
  for (const double f : {1.0, 0.75, 0.5, 0.25}) {
    KvCache<> copy = cache;
    const auto report = copy.compress(ctx, score(Critic{1, 0.5f, 0.5f}) | keep(f) | evict(), all);
    EXPECT_GE(*report.output_error, before);
    EXPECT_EQ(*report.output_error == 0, f == 1.0);
    before = *report.output_error;
    const auto left = positions(copy, 0);
    EXPECT_TRUE(std::is_sorted(left.begin(), left.end()));
  }
}

TEST(AttentionScorers, SaliencyHasNoBiasToEarlyTokensAndFewProbesFindIt) {
  Context ctx;
  const Index n = 400;
  Prompt flat(50);
  std::fill(flat.K.buffer.begin(), flat.K.buffer.end(), 0.0f);  // uniform causal attention
  flat.serve(ctx, 50, AttentionSums{});
  const auto sum = scores(ctx, flat.cache, AccumulatedAttention{}),
             mean = scores(ctx, flat.cache, NormalizedAttention{});
  for (std::size_t j = 1; j < 50; ++j) EXPECT_LT(sum[j], sum[j - 1]);
  // Not all equal, for early tokens are also seen by queries that see few others; but near.
  EXPECT_GT(sum[0] / sum[49], 200);
  EXPECT_LT(mean[0] / mean[49], 5);
  Prompt prompt(n, 2, 1);
  for (Index t = 0; t < n; ++t) prompt.K.view()(0, t, 0) = static_cast<float>(t * 37 % 100) * 0.2f;
  prompt.serve(ctx, n, AttentionSums{});
  const auto probes = saliency_probes(n);
  EXPECT_EQ(probes.size(), 40u);
  EXPECT_TRUE(std::is_sorted(probes.begin(), probes.end()) && probes.back() == n - 1);
  EXPECT_EQ(probes, saliency_probes(n));
  Tokens picked(2, 40, 16, 5);
  for (Index g = 0; g < 2; ++g)
    for (Index i = 0; i < 40; ++i)
      for (Index c = 0; c < 16; ++c)
        picked.view()(g, i, c) = prompt.Q.view()(g, probes[static_cast<std::size_t>(i)], c);
  const auto found = largest(scores(ctx, prompt.cache, ProbeSaliency{probes}, {.queries = picked.view()}), 160);
  const auto wanted = largest(scores(ctx, prompt.cache, NormalizedAttention{}), 160);
  std::vector<std::size_t> both;
  std::set_intersection(found.begin(), found.end(), wanted.begin(), wanted.end(), std::back_inserter(both));
  std::printf("[ measured ] %zu of 160 salient tokens found by 10%% of the queries\n", both.size());
  EXPECT_GE(both.size(), 144u);
  EXPECT_THROW(saliency_probes(10, 0.9, 0.2), unsupported_error);
  EXPECT_EQ(saliency_probes(1), std::vector<Index>{0});
}

TEST(AttentionScorers, ExpectedAttentionIsThatOfNormalQueries) {
  Context ctx;
  const Index n = 70, n_q = 30;
  Prompt prompt(n);
  auto& cache = prompt.serve(ctx, n);
  const auto queries = prompt.Q.part(5, n_q);
  for (const bool rope : {false, true}) {
    Numbers expected(70);
    double cosine[8], sine[8];
    for (int c = 0; c < 8; ++c) {
      cosine[c] = rope ? 0 : 1;
      sine[c] = 0;
      for (Index p = n; rope && p < n + 6; ++p) {
        const double angle = static_cast<double>(p) * std::pow(100.0, -c / 8.0);
        cosine[c] += std::cos(angle) / 6;
        sine[c] += std::sin(angle) / 6;
      }
    }
    for (Index g = 0; g < 2; ++g) {
      double mean[16] = {}, covariance[16][16] = {};
      Numbers turned(static_cast<std::size_t>(n_q) * 16);
      for (std::size_t i = 0; i < 30; ++i)
        for (std::size_t c = 0; c < 8; ++c) {
          const auto at = static_cast<Index>(2 * c);
          const auto x = static_cast<double>(queries(g, static_cast<Index>(i), at)),
                     y = static_cast<double>(queries(g, static_cast<Index>(i), at + 1));
          turned[i * 16 + 2 * c] = cosine[c] * x - sine[c] * y;
          turned[i * 16 + 2 * c + 1] = sine[c] * x + cosine[c] * y;
        }
      for (std::size_t i = 0; i < 30; ++i)
        for (std::size_t c = 0; c < 16; ++c) mean[c] += turned[i * 16 + c] / 30;
      for (std::size_t i = 0; i < 30; ++i)
        for (std::size_t a = 0; a < 16; ++a)
          for (std::size_t b = 0; b < 16; ++b)
            covariance[a][b] += (turned[i * 16 + a] - mean[a]) * (turned[i * 16 + b] - mean[b]) / 30;
      Numbers p;
      double total = 0;
      for (Index j = 0; j < n; ++j) {
        const float* const key = &prompt.K.view()(0, j, Index{0});
        double s = 0;
        for (std::size_t a = 0; a < 16; ++a) {
          s += static_cast<double>(key[a]) * mean[a] / 4;
          for (std::size_t b = 0; b < 16; ++b)
            s += static_cast<double>(key[a]) * covariance[a][b] * static_cast<double>(key[b]) / 32;
        }
        p.push_back(std::exp(s));
        total += p.back();
      }
      for (std::size_t j = 0; j < 70; ++j) {
        double norm = 0;
        for (Index c = 0; c < 16; ++c)
          norm += std::pow(static_cast<double>(prompt.V.view()(0, static_cast<Index>(j), c)), 2);
        expected[j] += p[j] / total / 2 * std::sqrt(norm);
      }
    }
    const ExpectedAttention scorer{.rope_base = rope ? 100.0 : 0.0, .future = 6};
    expect_near(scores(ctx, cache, scorer, {.queries = queries}), expected, 1e-5);
  }
}

/// Counts what a rule is given.
struct Counted {
  static constexpr std::string_view name = "Counted";
  Index* weights;
  static constexpr Index channels() { return 1; }
  void observe(const TrackedTile& tile, TrackedHead&) const noexcept {
    *weights += tile.weights.rows * tile.weights.count;
  }
};

TEST(AttentionScorers, LazyEvictionKeepsWhatComesBack) {
  Context ctx;
  const Index budget = 100, lag = 20, steps = 240;  // the target is looked at every 40 steps, others all the same
  enum { lazy, heavy, current };
  for (const int which : {lazy, heavy, current}) {
    Prompt prompt(steps, 1);
    std::fill(prompt.K.buffer.begin(), prompt.K.buffer.end(), 0.0f);
    std::fill(prompt.Q.buffer.begin(), prompt.Q.buffer.end(), 0.0f);
    prompt.K.view()(0, 5, 0) = 4;
    prompt.cache.track(Recurrence{.threshold = 0.03f});
    prompt.cache.track(AttentionSums{});
    prompt.cache.track(window_sums(1, 1));
    Index most = 0, weights = 0;
    prompt.cache.track(Counted{&weights});
    for (Index t = 0; t < steps; ++t) {
      const double others = static_cast<double>(prompt.cache.size(0));
      prompt.Q.view()(0, t, 0) = t > 5 && t % 40 == 0 ? static_cast<float>(std::log(0.05 / 0.95 * others)) : -4.0f;
      weights = 0;
      prompt.step(ctx, t, 1);
      most = std::max(most, prompt.cache.size(0));
      EXPECT_EQ(weights, prompt.K.shape[0] * prompt.cache.size(0)) << "a step is O(cache), and so is what it leaves:";
      EXPECT_EQ(prompt.cache.tracked<Recurrence>(0).size(), prompt.cache.size(0));
      if ((t + 1) % lag != 0) continue;
      if (which == lazy)
        prompt.cache.compress(ctx, score(LazyEviction{}) | protect(recent(lag)) | keep_at_most(budget) | evict());
      else if (which == heavy)
        prompt.cache.compress(ctx,
                              score(AccumulatedAttention{}) | protect(recent(lag)) | keep_at_most(budget) | evict());
      else
        prompt.cache.compress(ctx, score(WindowAttention{}) | protect(recent(lag)) | keep_at_most(budget) | evict());
    }
    EXPECT_EQ(most, budget + lag);
    const auto kept = positions(prompt.cache, 0);
    EXPECT_EQ(std::binary_search(kept.begin(), kept.end(), 5), which == lazy) << which;
    if (which == lazy) {
      const TrackedHead& head = prompt.cache.tracked<Recurrence>(0);
      const auto at = std::find(kept.begin(), kept.end(), 5) - kept.begin();
      EXPECT_EQ(Recurrence::last(head)[static_cast<std::size_t>(at)], 200);
      EXPECT_EQ(Recurrence::longest(head)[static_cast<std::size_t>(at)], 40);
    }
  }
}

TEST(AttentionScorers, KeyformerIsNoisyH2O) {
  Context ctx, two = Context::with_threads(2);
  const Index n = 120;
  Prompt prompt(n, 2, 6);
  const GumbelSums::Options options{.seed = 7, .begin = 40, .length = 80};
  const auto sums = [&](Context& with, Index at_once, const GumbelSums::Options& of) {
    return scores(with, prompt.serve(with, at_once, GumbelSums(of), AttentionSums{}), Keyformer{});
  };
  const auto still = sums(ctx, n, {.noise = 0, .tau_end = 1});
  const auto heavy = scores(ctx, prompt.cache, AccumulatedAttention{});
  expect_near(still, Numbers(heavy.begin(), heavy.end()), 1e-5);
  const auto few = sums(ctx, 1, options), many = sums(ctx, 40, options);
  EXPECT_EQ(sums(two, 1, options), few);
  EXPECT_EQ(sums(two, 40, options), many);
  expect_near(few, Numbers(many.begin(), many.end()), 2e-5);
  auto other = options;
  other.seed = 8;
  EXPECT_NE(sums(ctx, 1, other), few);
  // The check's "tau to infinity" leaves no attention at all: every token gets an equal share of each query.
  const auto cold = sums(ctx, n, {.noise = 0, .tau_begin = 1e9f, .tau_end = 1e9f});
  for (std::size_t j = 1; j < cold.size(); ++j)
    EXPECT_NEAR(cold[j - 1] - cold[j], 2.0 / static_cast<double>(j), 1e-5) << j;
  EXPECT_EQ(GumbelSums(options).tau(0), 1);
  EXPECT_EQ(GumbelSums(options).tau(80), 1.5f);
  EXPECT_EQ(GumbelSums(options).tau(1000), 2);

  double mean = 0;
  prompt.serve(ctx, 1, GumbelSums(options));  // heavy tokens are a tenth: half of the cache holds nearly all the weight
  prompt.cache.compress(ctx, score(Keyformer{}) | protect(recent(18)) | keep_at_most(60) | evict());
  EXPECT_EQ(prompt.cache.size(0), 60);
  for (Index i = 0; i < n; ++i) {
    const auto p = prompt.weights(0, i, n);
    for (Index j = 0; j < 60; ++j) mean += p[static_cast<std::size_t>(prompt.cache.position(0, j))] / n;
  }
  std::printf("[ measured ] %.3f of the weight is kept by half of the cache\n", mean);
  EXPECT_GT(mean, 0.9);
}

TEST(AttentionScorers, KeyformersTemperatureGoesOnWhereTokensCloseUp) {
  Context ctx;
  const Index n = 60, d = 16;
  const Tokens K(1, n + 1, d, 31), V(1, n + 1, d, 32), Q(2, 1, d, 33);
  std::vector<Index> kept, places;
  for (Index t = 0; t < n; t += 2) {
    places.push_back(t / 2);
    kept.push_back(t);
  }
  KvCache<> still(1, d);
  still.append(ctx, K.part(0, n), V.part(0, n));
  still.retain(0, kept);
  KvCache<> moved = still;
  const auto keys = decoded(still, 0, true), values = decoded(still, 0, false);
  moved.rewrite(0, {keys.data(), n / 2, d}, {values.data(), n / 2, d}, places);
  moved.move_end(n / 2);
  const auto sums = [&](KvCache<> cache, Index begin) {
    Buffer<float> out(2 * d);
    cache.track(GumbelSums({.noise = 0, .begin = begin, .length = 100}));
    cache.append(ctx, K.part(n, 1), V.part(n, 1));
    cache.attend(ctx, Q.view(), View<float, 3>(out.data(), {2, 1, d}));
    const auto all = cache.tracked<GumbelSums>(0).channel(0);
    return std::vector<float>(all.begin(), all.end());
  };
  EXPECT_EQ(sums(moved, 0), sums(still, 0));
  EXPECT_NE(sums(moved, n / 2), sums(still, 0));
}

TEST(AttentionScorers, GlobalLocalFindsNeedlesOfBothKinds) {
  Context ctx;
  const Index n = 256;
  int found = 0;
  for (Index trial = 0; trial < 10; ++trial) {
    Prompt prompt(n, 1);
    const Index needle = 11 + trial * 23, old = (needle + 150) % 200;
    for (Index c = 1; c < 16; ++c) {
      prompt.K.view()(0, needle, c) = c == 1 ? 8.0f : 0.0f;
      prompt.K.view()(0, old, c) = c == 2 ? 8.0f : 0.0f;
    }
    for (Index i = 0; i < n; ++i) {
      prompt.Q.view()(0, i, 1) = i >= n - 4 ? 4.0f : 0.0f;  // asked for at the end
      prompt.Q.view()(0, i, 2) = i < n - 20 ? 4.0f : 0.0f;  // always but at the end
    }
    prompt.serve(ctx, n, AttentionSums{}, window_sums(16, 4));
    prompt.cache.compress(ctx, score(GlobalLocal{}) | keep_at_most(5) | evict());
    ASSERT_EQ(prompt.cache.size(0), 5);
    const auto kept = positions(prompt.cache, 0);
    found += std::binary_search(kept.begin(), kept.end(), needle) && std::binary_search(kept.begin(), kept.end(), old);
  }
  EXPECT_EQ(found, 10);
}

TEST(AttentionScorers, SparseWindowBeatsStridesAndRecency) {
  Context ctx;
  const Index n = 200;
  Prompt prompt(n, 2, 3);  // every tenth token is heavy
  auto& cache = prompt.serve(ctx, n, window_sums(16, 4));
  const KvProbe probe{.queries = prompt.Q.part(n - 10, 10)};
  KvCache<> dense = cache, sparse = cache, local = cache, strided = cache;
  EXPECT_EQ(*dense.compress(ctx, sparse_window(n), probe).output_error, 0);
  const double error = *sparse.compress(ctx, sparse_window(40), probe).output_error;
  const double of_local = *local.compress(ctx, window({.sinks = 0, .recent = 40}), probe).output_error;
  std::vector<Index> kept;
  for (Index t = 0; t < n; t += 5) kept.push_back(t);
  strided.retain(0, kept);
  const double of_stride = *compare(ctx, cache, strided, probe).output_error;
  std::printf("[ measured ] errors at 80%% sparsity: %.3f, local %.3f, strided %.3f\n", error, of_local, of_stride);
  EXPECT_LT(error, of_local);
  EXPECT_LT(error, of_stride);
  EXPECT_EQ(sparse.size(0), 40);
  EXPECT_EQ(sparse.bytes(), 40u * (2 * 16 + 1 + 4) * 4) << "keys, values, a position and four numbers tracked";

  KvCache<Int8> coded(1, 16);  // the paper's: a number is within half a step of its row, 1/254 of the largest
  coded.track(window_sums(16, 4));
  coded.append(ctx, prompt.K.view(), prompt.V.view());
  coded.attend(ctx, prompt.Q.view(), prompt.out.view());
  const double of_codes = *compare(ctx, cache, coded, probe).output_error;
  coded.compress(ctx, sparse_window(40));
  EXPECT_EQ(positions(coded, 0), positions(sparse, 0));
  EXPECT_EQ(coded.bytes(), 40u * (2 * (16 + 4) + (1 + 4) * 4));
  const double together = *compare(ctx, cache, coded, probe).output_error;
  std::printf("[ measured ] int8 %.4f, of 40 tokens %.3f\n", of_codes, together);
  EXPECT_LT(of_codes, 0.035);  // a heavy key holds a 12: its step is 0.09
  EXPECT_LT(together, error + 0.01);
}

TEST(AttentionScorers, ScheduleIsTheCheapestOfAll) {
  for (const double flops : {0.0, 100.0, 3000.0, 1e9})
    for (const Index slow : {20, 45, 1000}) {
      const CacheCosts costs{.prompt = 40,
                             .steps = 60,
                             .fast_tokens = 50,
                             .slow_tokens = slow,
                             .caching_ratio = 0.2,
                             .token_bytes = 1000,
                             .bytes_per_second = 1e6,
                             .token_flops = flops,
                             .flops_per_second = 1e6};
      double best = std::numeric_limits<double>::infinity();
      for (Index from = 0; from <= 60; ++from)
        for (int i = 0; i <= 8; ++i) {
          double seconds = 0;
          for (Index t = 0; t < 60; ++t) seconds += costs.step(t, t < from ? 0 : i / 8.0);
          best = std::min(best, seconds);
        }
      const auto found = best_schedule(costs, 8);
      EXPECT_NEAR(found.seconds, best, 1e-12 * (1 + best)) << flops << ' ' << slow;
      EXPECT_TRUE(found.dropped == 0 || flops != 1e9 || slow != 1000);
      EXPECT_TRUE(found.dropped == 1 || flops != 0);
      EXPECT_TRUE(found.dropped > 0 || slow != 20) << "slow memory is full";
    }
  EXPECT_EQ(best_schedule({}).seconds, 0);
  EXPECT_THROW(best_schedule({.steps = -1}), unsupported_error);
  EXPECT_THROW(best_schedule({.prompt = -2}), unsupported_error);
  EXPECT_THROW(best_schedule({.caching_ratio = std::nan("")}), unsupported_error);
  EXPECT_THROW(best_schedule({.bytes_per_second = 0}), unsupported_error);
}

TEST(ScaleKv, TellsDraftersFromRefinersAndBudgetsAddUp) {
  const Index layers = 4, scales = 3, m = 60;
  std::vector<double> index;
  for (Index l = 0; l < layers; ++l)
    for (Index s = 0; s < scales; ++s) {
      const Index current = 40 - 10 * s;
      const bool drafter = (l + s) % 2 == 0;
      std::vector<float> weights;
      for (Index i = 0; i < 5; ++i)  // spread over the history, or on a few of it and near
        for (Index j = 0; j < m; ++j) {
          const float uniform = 1.0f / static_cast<float>(m), local = 0.5f / static_cast<float>(m - current);
          weights.push_back(drafter           ? uniform
                            : j >= current    ? local
                            : j % 10 == i % 2 ? 5.0f / static_cast<float>(current)
                                              : 0.0f);
        }
      index.push_back(attention_selectivity_index(View<const float, 2>(weights.data(), {5, m}), current, 4));
    }
  const View<const double, 2> of(index.data(), {layers, scales});
  const auto drafters = scale_kv_drafters(of, 6);
  for (Index i = 0; i < 12; ++i) EXPECT_EQ(drafters[static_cast<std::size_t>(i)], (i / 3 + i % 3) % 2 == 0) << i;
  for (const Index tokens : {1, 7, 100})
    for (const Index decrease : {0, 1, 3, 1000}) {
      const auto budget = scale_kv_budgets(drafters, scales, {tokens, (tokens + 1) / 2, decrease});
      EXPECT_EQ(std::accumulate(budget.begin(), budget.end(), Index{0}), tokens * 12);
      for (std::size_t i = 0; i < 12; ++i) {
        EXPECT_GE(budget[i], drafters[i] ? tokens : 1);
        EXPECT_LE(drafters[i] ? 0 : budget[i], (tokens + 1) / 2);
      }
    }
  EXPECT_EQ(scale_kv_budgets(std::vector<bool>(6), 3, {9, 2, 1}), std::vector<Index>(6, 9));
  EXPECT_THROW(scale_kv_budgets(drafters, scales, {5, 6, 0}), unsupported_error);
  EXPECT_THROW(attention_selectivity_index(View<const float, 2>(nullptr, {0, 2}), 3, 1), shape_error);
}

TEST(ScaleKv, BudgetsByLayerBeatUniformOnesAndWindows) {
  Context ctx;
  const Index layers = 4, n = 400, d = 32, current = n - 40, queries = 8, share = n / 10;
  std::vector<KvCache<>> caches;
  std::vector<Tokens> Q;
  std::vector<double> index;
  for (Index l = 0; l < layers; ++l) {  // even layers look at 68 tokens, odd ones at 5, two of them on the current map
    const auto seed = static_cast<std::uint64_t>(40 + 4 * l);
    Tokens K(1, n, d, seed), V(1, n, d, seed + 1), asked(1, queries, d, seed + 2);
    const Tokens direction(1, 1, d, seed + 3);
    const float length = std::sqrt(kv::detail::dot(direction.view().data(), direction.view().data(), d));
    for (Index t = 0; t < n; ++t) {
      const bool marked = l % 2 == 0 ? t % 6 == 1 : t % 97 == 5 || t == n - 3;
      for (Index c = 0; c < d; ++c)
        K.view()(0, t, c) = 0.3f * K.view()(0, t, c) + (marked ? 3 * direction.view()(0, 0, c) / length : 0.0f);
    }
    for (Index i = 0; i < queries; ++i)
      for (Index c = 0; c < d; ++c)
        asked.view()(0, i, c) = 0.1f * asked.view()(0, i, c) + 16 * direction.view()(0, 0, c) / length;
    std::vector<float> weights;
    for (Index i = 0; i < queries; ++i) {
      double sum = 0;
      for (Index t = 0; t < n; ++t) {
        weights.push_back(std::exp(kv::detail::dot(&asked.view()(0, i, 0), &K.view()(0, t, 0), d) / std::sqrt(32.0f)));
        sum += static_cast<double>(weights.back());
      }
      for (auto w = weights.end() - n; w != weights.end(); ++w) *w /= static_cast<float>(sum);
    }
    index.push_back(attention_selectivity_index(View<const float, 2>(weights.data(), {queries, n}), current, 8));
    caches.emplace_back(1, d);
    caches.back().append(ctx, K.view(), V.view());
    Q.push_back(std::move(asked));
  }
  const auto drafters = scale_kv_drafters(View<const double, 2>(index.data(), {layers, 1}), 2);
  EXPECT_EQ(drafters, (std::vector<bool>{true, false, true, false}));
  const auto error = [&](const auto& policy_of) {  // mean over layers
    double mean = 0;
    for (Index l = 0; l < layers; ++l) {
      KvCache<> cache = caches[static_cast<std::size_t>(l)];
      const KvProbe probe{.queries = Q[static_cast<std::size_t>(l)].view()};
      mean += *cache.compress(ctx, policy_of(static_cast<std::size_t>(l)), probe).output_error / layers;
    }
    return mean;
  };
  const auto keeping = [](Index tokens) { return score(ProbeAttention{}) | keep_at_most(tokens) | evict(); };
  const auto budgets = scale_kv_budgets(drafters, 1, {share, 8, 0});
  const double scaled = error([&](std::size_t l) { return keeping(budgets[l]); });
  const double uniform = error([&](std::size_t) { return keeping(share); });
  const double windowed = error([&](std::size_t) { return window({.sinks = 4, .recent = share - 4}); });
  std::printf("[ measured ] a tenth of the tokens: error %.3f, uniform %.3f, window %.3f\n", scaled, uniform, windowed);
  EXPECT_LT(scaled, 0.5 * uniform);
  EXPECT_LT(uniform, windowed);
  const auto whole = scale_kv_budgets(drafters, 1, {n, n, 0});
  EXPECT_EQ(error([&](std::size_t l) { return keeping(whole[l]); }), 0);
}

template <class F>
void with_every_scorer(const F& f) {
  f(AccumulatedAttention{});
  f(NormalizedAttention{});
  f(WindowAttention{});
  f(GlobalLocal{});
  f(LazyEviction{});
  f(Keyformer{});
  f(ProbeAttention{});
  f(ProbeSaliency{});
  f(SnapKv{});
  f(ExpectedAttention{});
  f(Critic{1, 1, 1});
}

TEST(AttentionScorers, BudgetsAreExactWhateverTheContext) {
  Context ctx, two = Context::with_threads(2);
  const GumbelSums gumbel;
  with_every_scorer([&](const auto& scorer) {
    for (const Index n : {1, 2, 3, 60}) {
      std::vector<std::vector<Index>> kept;
      for (Context* const with : {&ctx, &two}) {
        Prompt prompt(n);
        prompt.serve(*with, std::max<Index>(1, n / 3), AttentionSums{}, window_sums(8, 2), Recurrence{}, gumbel);
        const KvProbe probe{.queries = prompt.Q.part(n / 2, n - n / 2)};
        EXPECT_EQ(*prompt.cache.compress(*with, score(scorer) | keep(1) | evict(), probe).output_error, 0);
        prompt.cache.compress(*with, score(scorer) | keep(0.25) | evict(), probe);
        EXPECT_EQ(prompt.cache.size(0), std::max<Index>(1, std::llround(0.25 * static_cast<double>(n))));
        kept.push_back(positions(prompt.cache, 0));
      }
      EXPECT_EQ(kept[0], kept[1]) << "for any number of threads";
    }
    KvCache<> none(1, 16);
    none.track(AttentionSums{});
    none.track(WindowSums{});
    none.track(Recurrence{});
    none.track(gumbel);
    Tokens Q(2, 1, 16, 1);
    none.compress(ctx, score(scorer) | keep(0.5) | evict(), {.queries = Q.view()});
    EXPECT_EQ(none.tokens(), 0);
  });
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
