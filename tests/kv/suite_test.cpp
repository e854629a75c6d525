// Every chain of stages × how it is applied × codec × storage.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <map>
#include <span>
#include <string>
#include <tessera/kv/mergers/sets.hpp>
#include <vector>

#include "kv/suite.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using namespace suite;  // NOLINT(google-build-using-namespace)

/// How a policy is applied.
struct Wrapper {
  const char* name;
  KvReport (*apply)(Context&, AnyKvCache&, const AnyPolicy&, const KvProbe&);
};
KvReport now(Context& ctx, AnyKvCache& cache, const AnyPolicy& policy, const KvProbe& probe) {
  return cache.compress(ctx, policy, probe);
}
KvReport after_the_prompt(Context& ctx, AnyKvCache& cache, const AnyPolicy& policy, const KvProbe& probe) {
  auto once = at_prefill(policy);
  AnyKvCache none = cache;
  none.clear();
  EXPECT_FALSE(once.step(ctx, none, probe).has_value());
  const auto report = once.step(ctx, cache, probe);
  EXPECT_TRUE(report.has_value() == (cache.tokens() > 0));
  EXPECT_FALSE(cache.tokens() > 0 && once.step(ctx, cache, probe).has_value());
  return report.value_or(KvReport{cache.bytes(), cache.bytes(), 0, 0, {}, {}});
}
KvReport every_third(Context& ctx, AnyKvCache& cache, const AnyPolicy& policy, const KvProbe& probe) {
  auto often = every(3, policy);
  for (int step = 0; step < 2; ++step) EXPECT_FALSE(often.step(ctx, cache, probe).has_value());
  return often.step(ctx, cache, probe).value();
}
KvReport by_layers(Context& ctx, AnyKvCache& cache, const AnyPolicy& policy, const KvProbe& probe) {
  std::vector<AnyKvCache> model{cache, cache};
  const auto reports = compress_layers(
      ctx, std::span(model), [&](Index layer) { return layer == 1 ? policy : any(full()); },
      [&](Index) { return probe; });
  EXPECT_EQ(model[0].tokens(), cache.tokens());
  cache = std::move(model[1]);
  return reports[1];
}
const Wrapper wrappers[] = {{"now", &now},
                            {"after the prompt", &after_the_prompt},
                            {"every third step", &every_third},
                            {"by layers", &by_layers}};

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  });
}
/// Tokens, positions, counts and what is tracked, to the bit.
void expect_same(const KvCacheBase& a, const KvCacheBase& b) {
  ASSERT_EQ(a.next_position(), b.next_position());
  for (Index h = 0; h < kv_heads; ++h) {
    ASSERT_EQ(positions(a, h), positions(b, h));
    for (const bool of_keys : {true, false}) ASSERT_TRUE(same_bits(decoded(a, h, of_keys), decoded(b, h, of_keys)));
    for (Index j = 0; j < a.size(h); ++j) ASSERT_EQ(a.count_bias(h, j), b.count_bias(h, j));
    ASSERT_TRUE(same_bits(a.tracked<AttentionSums>(h).channel(0), b.tracked<AttentionSums>(h).channel(0)));
    ASSERT_TRUE(same_bits(a.tracked<Recurrence>(h).channel(1), b.tracked<Recurrence>(h).channel(1)));
    ASSERT_TRUE(same_bits(a.tracked<GumbelSums>(h).channel(0), b.tracked<GumbelSums>(h).channel(0)));
    ASSERT_EQ(a.tracked<WindowSums>(h).size(), a.size(h));
  }
}
double distance(const float* a, const float* b) {
  double sum = 0;
  for (Index c = 0; c < d; ++c) sum += std::pow(static_cast<double>(a[c] - b[c]), 2);
  return sum;
}

/// One codec in one storage, and what it makes of prompts.
class Laws {
 public:
  explicit Laws(const Store& store) : store_(store) {
    for (Context& ctx : contexts_) whole_.push_back(filled(ctx, n));
  }

  /// Appending, attention and what is tracked, for any number of threads.
  void expect_the_same_prompt() {
    for (std::size_t i = 1; i < whole_.size(); ++i) {
      expect_same(whole_[i].base(), whole_[0].base());
      ASSERT_TRUE(same_bits(attended(contexts_[i], whole_[i]), attended(contexts_[0], whole_[0])));
    }
  }

  void expect_budget_and_positions(const Chained& chain, const Wrapper& wrapper) {
    SCOPED_TRACE(store_.name() + ", " + chain.name + ", " + wrapper.name);
    const AnyPolicy policy = chain.keeping(fraction);
    std::vector<AnyKvCache> left;
    KvReport report;
    for (std::size_t i = 0; i < whole_.size(); ++i) {
      AnyKvCache& cache = left.emplace_back(whole_[i]);
      if (refuses(chain)) {
        ASSERT_THROW(wrapper.apply(contexts_[i], cache, policy, probe()), unsupported_error);
        expect_same(cache.base(), whole_[i].base());
        return;
      }
      report = wrapper.apply(contexts_[i], cache, policy, probe());
      if (i == 0) continue;
      expect_same(cache.base(), left[0].base());
      ASSERT_EQ(cache.bytes(), left[0].bytes());
    }
    ASSERT_TRUE(same_bits(attended(contexts_[2], left[2]), attended(contexts_[0], left[0])));
    for (const float x : attended(contexts_[0], left[0])) ASSERT_TRUE(std::isfinite(x));
    ASSERT_EQ(report.tokens_before, kv_heads * n);
    ASSERT_EQ(report.tokens_after, left[0].tokens());
    ASSERT_EQ(report.bytes_before, whole_[0].bytes());
    ASSERT_EQ(report.bytes_after, left[0].bytes());
    expect_budget(chain, left[0].base());
    expect_places(chain, left[0].base());
    expect_memory(chain, left[0].base());
  }

  /// Nothing moves: the result is that of the whole cache in the same codec.
  void expect_full_attention(const Chained& chain, const Wrapper& wrapper) {
    if (refuses(chain)) return;
    SCOPED_TRACE(store_.name() + ", " + chain.name + ", " + wrapper.name);
    AnyKvCache cache = whole_[0];
    const auto report = wrapper.apply(contexts_[0], cache, chain.keeping(1), probe(true));
    ASSERT_EQ(report.output_error, 0.0);
    ASSERT_EQ(report.top_k_recall, 1.0);
    ASSERT_EQ(cache.bytes(), whole_[0].bytes());
    expect_same(cache.base(), whole_[0].base());
    ASSERT_TRUE(same_bits(attended(contexts_[1], cache), attended(contexts_[0], whole_[0])));
  }

  void expect_some_of_tiny_contexts(const Chained& chain, const Wrapper& wrapper) {
    if (refuses(chain)) return;
    for (Index few = 0; few <= 3; ++few) {
      if (tiny_.size() <= static_cast<std::size_t>(few)) tiny_.push_back(filled(contexts_[0], few));
      for (const double f : {0.0, 0.5}) {
        SCOPED_TRACE(store_.name() + ", " + chain.name + ", " + wrapper.name + ", of " + std::to_string(few));
        AnyKvCache cache = tiny_[static_cast<std::size_t>(few)];
        for (int again = 0; again < 2; ++again)
          ASSERT_NO_THROW(wrapper.apply(contexts_[0], cache, chain.keeping(f), probe()));
        for (Index h = 0; h < kv_heads; ++h) {
          ASSERT_GE(cache.size(h), std::min<Index>(few, 1));
          ASSERT_LE(cache.size(h), few);
        }
        cache.append(contexts_[0], keys().part(few, 1), values().part(few, 1));
        for (const float x : attended(contexts_[0], cache)) ASSERT_TRUE(std::isfinite(x));
      }
    }
  }

 private:
  static constexpr double fraction = 0.3;

  AnyKvCache filled(Context& ctx, Index count) const {
    AnyKvCache cache = store_.make(kv_heads, d);
    cache.track(AttentionSums{});
    cache.track(Recurrence{});
    cache.track(window_sums(8, 4));
    cache.track(GumbelSums{});
    cache.track(AttentionPeaks{});
    cache.append(ctx, keys().part(0, count), values().part(0, count));
    Tokens out(heads, count, d, 0);
    cache.attend(ctx, queries().part(0, count), out.view());
    return cache;
  }
  bool refuses(const Chained& chain) const { return chain.demotes && whole_[0].codec() != "zip"; }

  void expect_budget(const Chained& chain, const KvCacheBase& cache) const {
    const Index even = share(fraction);
    Index chunks = 0;
    for (Index t = 0; t < n; t += chain_chunk)
      chunks += std::max<Index>(1, share(fraction, std::min(chain_chunk, n - t)));
    for (Index h = 0; h < kv_heads; ++h) {
      if (chain.budget == Budget::even) {
        ASSERT_EQ(cache.size(h), even);
      }
      if (chain.budget == Budget::last_head) {
        ASSERT_EQ(cache.size(h), h + 1 < kv_heads ? n : even);
      }
      if (chain.budget == Budget::near) {
        ASSERT_LT(std::abs(cache.size(h) - even), 26) << "four deviations of n draws";
      }
      if (chain.budget == Budget::chunks) {
        ASSERT_EQ(cache.size(h), chunks);
      }
      if (chain.budget == Budget::all) {
        ASSERT_EQ(cache.size(h), n);
      }
      if (chain.budget == Budget::ragged) {  // the floor
        ASSERT_GE(cache.size(h), even / 5);
      }
      double stands_for = 0;
      for (Index j = 0; j < cache.size(h); ++j) stands_for += std::exp(static_cast<double>(cache.count_bias(h, j)));
      if (chain.budget == Budget::some) {
        ASSERT_LT(cache.size(h), n);
        ASSERT_NEAR(stands_for, n, 1e-3) << "nothing was evicted";
      }
      ASSERT_GE(stands_for, static_cast<double>(cache.size(h)) - 1e-3);
      ASSERT_LE(stands_for, n + 1e-3);
    }
    if (chain.budget == Budget::ragged) {
      ASSERT_EQ(cache.tokens(), kv_heads * even);
    }
  }

  /// Each token is what was appended at its position, or, where tokens closed up, what some later one than the one
  /// before was, its key turned by as much as it moved.
  void expect_places(const Chained& chain, const KvCacheBase& cache) {
    constexpr double near = 0.6 * d;  // other tokens are 2 d away
    Index end = 0;
    for (Index h = 0; h < kv_heads; ++h) end = std::max(end, cache.size(h));
    ASSERT_EQ(cache.next_position(), chain.closes_up ? end : n);
    for (Index h = 0; h < kv_heads; ++h) {
      const Index m = cache.size(h);
      const auto K = decoded(cache, h, true), V = decoded(cache, h, false);
      for (Index j = 0, was = -1; j < m; ++j) {
        const Index at = cache.position(h, j);
        if (chain.closes_up) {
          ASSERT_EQ(at, end - m + j);
          for (++was; !chain.merges && was < n && distance(&V[size(j * d)], &values().view()(h, was, 0)) > near;) ++was;
        } else {
          ASSERT_GT(at, was);
          was = at;
        }
        ASSERT_LT(was, n);
        if (chain.merges) continue;
        ASSERT_LT(distance(&V[size(j * d)], &values().view()(h, was, 0)), near) << j;
        Buffer<float> key(d);
        std::copy_n(&keys().view()(h, was, 0), d, key.data());
        const std::array<Index, 1> by{std::abs(was - at)};
        const MatrixView<float> row(key.data(), 1, d);
        if (was > at) nn::rope_backward(contexts_[0], chain_table(), row, by);
        if (was < at) nn::rope(contexts_[0], chain_table(), row, by);
        ASSERT_LT(distance(&K[size(j * d)], key.data()), d) << j;  // coded up to three times
      }
    }
  }

  /// What as many tokens take, their positions and counts; grids of low bits may be twice as many.
  void expect_memory(const Chained& chain, const KvCacheBase& cache) {
    const std::size_t before = whole_[0].bytes();
    if (chain.budget == Budget::all || chain.budget == Budget::some) {
      if (chain.demotes && store_.contiguous) {
        ASSERT_LT(cache.bytes(), before);
      }
      return;
    }
    Index most = 0;
    for (Index h = 0; h < kv_heads; ++h) most = std::max(most, cache.size(h));
    auto& few = bytes_of_[most];
    if (few == 0) few = filled(contexts_[0], most).bytes();
    if (std::string(store_.storage) == "Virtual") return;  // pages that are not full: with more tokens, below
    ASSERT_LE(cache.bytes(), std::max(few * 5 / 4 + kv_heads * 8 * static_cast<std::size_t>(most), before / 2));
    ASSERT_LT(cache.bytes(), before);
  }
  static std::size_t size(Index i) { return static_cast<std::size_t>(i); }

  const Store& store_;
  std::array<Context, 3> contexts_{Context::with_threads(1), Context::with_threads(2), Context::with_threads(5)};
  std::vector<AnyKvCache> whole_, tiny_;
  std::map<Index, std::size_t> bytes_of_;
};

class KvSuite : public testing::TestWithParam<Store> {};

/// Combinations such that any two of chain, wrapper, codec and storage meet, or all of them.
void expect_laws(const Store& store, bool all) {
  const auto stores = all_stores();
  std::size_t s = 0;
  while (stores[s].name() != store.name()) ++s;
  const std::size_t codec = s / of_a_codec, storage = s % of_a_codec;
  Laws laws(store);
  laws.expect_the_same_prompt();
  for (std::size_t c = 0; c < all_chains().size(); ++c)
    for (std::size_t w = 0; w < std::size(wrappers); ++w) {
      if (!all && ((c + codec) % of_a_codec != storage || (c + codec / 3) % std::size(wrappers) != w)) continue;
      laws.expect_budget_and_positions(all_chains()[c], wrappers[w]);
      laws.expect_full_attention(all_chains()[c], wrappers[w]);
      laws.expect_some_of_tiny_contexts(all_chains()[c], wrappers[w]);
      if (testing::Test::HasFatalFailure()) return;
    }
}

TEST_P(KvSuite, AnyTwoMeet) { expect_laws(GetParam(), false); }
TEST_P(KvSuite, SlowAllMeetAll) { expect_laws(GetParam(), true); }

INSTANTIATE_TEST_SUITE_P(Stores, KvSuite, testing::ValuesIn(all_stores().begin(), all_stores().end()), name_of);

}  // namespace
}  // namespace tessera::test
