// Long lives of caches that are forks of each other, at random; what each holds is known.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "kv/memory.hpp"
#include "kv/stores.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

const Store& store(const std::string& name) {
  for (const Store& one : all_stores())
    if (one.name() == name) return one;
  throw std::invalid_argument(name);
}

class Soak {
 public:
  /// `within`: of a number below 2000 that fills a row, after coding.
  Soak(const Store& store, float within) : store_(store), within_(within) { all_.push_back(fresh()); }

  /// Random appends, truncations, evictions, policies, forks, releases.
  void run(Index calls, std::size_t most_bytes) {
    for (Index call = 0; call < calls; ++call) {
      Known& one = all_[static_cast<std::size_t>(below(all_.size()))];
      const Index what = below(1000), held = static_cast<Index>(one.tokens.size());
      if (what < 850 && held < 1500)
        append(one, what < 840 ? 1 : 1 + below(300));
      else if (what < 920 || (what < 930 && held >= 1500))
        truncate(one, std::max<Index>(0, one.cache.next_position() - below(what < 910 ? 4 : 400)));
      else if (what < 950)
        attend(one);
      else if (what < 960)
        retain(one);
      else if (what < 970)
        compress(one);
      else if (what < 984)
        fork(one);
      else if (what < 998)
        release(static_cast<std::size_t>(below(all_.size())));
      else
        clear(one);
      if (call % 500 == 0) expect_known(most_bytes);
      if (testing::Test::HasFatalFailure()) return;
    }
  }

 private:
  static constexpr Index d = 32;
  struct Known {
    AnyKvCache cache;
    std::vector<float> tokens;  // what each was filled with
    std::vector<Index> positions;
    bool merged = false;  // then rows are means of them
  };

  Index below(std::size_t n) { return static_cast<Index>(draws_.below(drawn_++, n)); }
  Known fresh() const {
    Known one{store_.make(1, d), {}, {}};
    one.cache.track(AttentionSums{});
    one.cache.track(Recurrence{});
    return one;
  }
  void append(Known& one, Index t) {
    for (Index i = 0; i < t; ++i) {
      std::fill_n(&rows_[i * d], d, next_);
      one.tokens.push_back(next_);
      one.positions.push_back(one.cache.next_position() + i);
      next_ = next_ >= 1999 ? 0 : next_ + 1;
    }
    const View<const float, 3> tokens(rows_.data(), {1, t, d});
    one.cache.append(ctx_, tokens, tokens);
  }
  static void truncate(Known& one, Index end) {
    one.cache.truncate(end);
    while (!one.positions.empty() && one.positions.back() >= end) {
      one.positions.pop_back();
      one.tokens.pop_back();
    }
  }
  void attend(Known& one) {
    if (one.cache.next_position() == 0) return;
    float query[d] = {}, out[d];
    query[0] = 1e-3f;
    one.cache.attend(ctx_, View<const float, 3>(query, {1, 1, d}), View<float, 3>(out, {1, 1, d}));
    for (const float x : out) ASSERT_TRUE(std::isfinite(x));
  }
  /// Tokens kept[0] < kept[1] < … are left.
  static void leave(Known& one, const std::vector<Index>& kept) {
    for (std::size_t j = 0; j < kept.size(); ++j) {
      one.tokens[j] = one.tokens[static_cast<std::size_t>(kept[j])];
      one.positions[j] = one.positions[static_cast<std::size_t>(kept[j])];
    }
    one.tokens.resize(kept.size());
    one.positions.resize(kept.size());
  }
  void retain(Known& one) {
    std::vector<Index> kept;
    const auto of = static_cast<std::size_t>(2 + below(5)), rest = static_cast<std::size_t>(below(of));
    for (std::size_t j = 0; j < one.tokens.size(); ++j)
      if (j % of != rest) kept.push_back(static_cast<Index>(j));
    leave(one, kept);
    one.cache.base().retain(0, kept);
  }
  void compress(Known& one) {
    const auto held = static_cast<Index>(one.tokens.size());
    const double f = 0.5 + 0.125 * static_cast<double>(below(4));
    const auto evicted = [&](const auto& policy) { one.cache.compress(ctx_, policy); };
    switch (below(6)) {
      case 0:
        evicted(score(AccumulatedAttention{}) | protect(recent(8)) | keep(f) | evict(64));
        break;
      case 1:
        evicted(score(LazyEviction{}) | keep_adaptive(f) | evict());
        break;
      case 2:
        evicted(window({.sinks = 4, .recent = 200}));
        break;
      case 3:
        evicted(score(Random{drawn_}) | keep_in_chunks(f, 32) | evict());
        break;
      case 4:
        evicted(score(KeyNorm{}) | keep(f) | merge(MergeSets{}));
        one.merged = true;
        break;
      default:
        evicted(score(KeyNorm{}) | protect(sinks(2)) | keep(f) | evict() | rerotate(table_));
        return closed(one);
    }
    ASSERT_GE(one.cache.size(0), std::min<Index>(held, 1));
    std::vector<Index> kept;
    for (std::size_t j = 0; j < one.positions.size(); ++j)
      if (const auto at = static_cast<Index>(kept.size());
          at < one.cache.size(0) && one.cache.position(0, at) == one.positions[j])
        kept.push_back(static_cast<Index>(j));
    ASSERT_EQ(static_cast<Index>(kept.size()), one.cache.size(0));
    leave(one, kept);
  }
  /// Which tokens were left is read from their values, which rise but for where they start again.
  void closed(Known& one) {
    const Index m = one.cache.size(0);
    const auto V = decoded(one.cache.base(), 0, false);
    std::vector<Index> kept;
    for (std::size_t j = 0; j < one.tokens.size() && !one.merged; ++j)
      if (const auto at = static_cast<Index>(kept.size());
          at < m && std::abs(V[static_cast<std::size_t>(at * d)] - one.tokens[j]) <= 2 * within_)
        kept.push_back(static_cast<Index>(j));
    for (Index j = 0; one.merged && j < m; ++j) kept.push_back(j);
    ASSERT_EQ(static_cast<Index>(kept.size()), m);
    leave(one, kept);
    ASSERT_EQ(one.cache.next_position(), m);
    for (Index j = 0; j < m; ++j) one.positions[static_cast<std::size_t>(j)] = j;
    one.merged = true;  // keys were turned; coded once more
  }
  void fork(Known& one) {
    if (all_.size() >= 12) return;
    Known child{one.cache.fork(), one.tokens, one.positions, one.merged};
    all_.push_back(std::move(child));
  }
  void release(std::size_t gone) {
    std::swap(all_[gone], all_.back());
    all_.pop_back();
    if (all_.empty()) all_.push_back(fresh());
  }
  static void clear(Known& one) {
    one.cache.clear();
    one.tokens.clear();
    one.positions.clear();
    one.merged = false;
  }
  void expect_known(std::size_t most_bytes) {
    std::size_t bytes = 0;
    for (const Known& known : all_) bytes += known.cache.bytes();
    ASSERT_LE(bytes, most_bytes);
    const Known& known = all_[static_cast<std::size_t>(below(all_.size()))];
    ASSERT_EQ(positions(known.cache.base(), 0), known.positions);
    ASSERT_EQ(known.cache.base().tracked<AttentionSums>(0).size(), known.cache.size(0));
    for (const bool keys : {true, false}) {
      const auto got = decoded(known.cache.base(), 0, keys);
      for (std::size_t j = 0; j < got.size(); ++j) {
        ASSERT_TRUE(std::isfinite(got[j]));
        if (!known.merged && (!keys || within_ == 0)) {
          ASSERT_NEAR(got[j], known.tokens[j / static_cast<std::size_t>(d)], within_);
        }
      }
    }
  }

  const Store& store_;
  float within_;
  Context ctx_;
  const nn::RopeTable<float> table_{d, 512};
  Philox draws_{77};
  std::uint64_t drawn_ = 0;
  std::vector<Known> all_;
  float next_ = 0;
  Buffer<float> rows_{300 * d};
};

constexpr std::size_t most = std::size_t{16} << 20;

TEST(Soak, ThousandsOfCallsHoldWhatIsKnown) {
  Soak(store("F32Virtual"), 0).run(6000, most);
  Soak(store("F32Paged"), 0).run(4000, most);
  Soak(store("Int8Virtual"), 0.01f).run(4000, most);
  Soak(store("Kivi2Paged"), 1).run(4000, most);
  Soak(store("Kivi4"), 1).run(4000, most);
}

void leaks_nothing(const Store& store, float within, Index calls) {
  Context ctx;
  Soak(store, within).run(calls / 20, most);
  const Index files = open_files(), mapped = mappings();
  const double before = resident_mib(ctx);
  Soak(store, within).run(calls, most);
  EXPECT_EQ(open_files(), files);
  EXPECT_LT(mappings(), mapped + 20);
  if (measures_residence) {
    EXPECT_LT(resident_mib(ctx), before + 8);
  }
}
TEST(SoakSlow, AMillionCallsLeakNothing) { leaks_nothing(store("F32Virtual"), 0, 1000000); }
TEST(SoakSlow, AMillionCallsOnCodesLeakNothing) { leaks_nothing(store("Int8Virtual"), 0.01f, 1000000); }
TEST(SoakSlow, ManyCallsOnBlocksLeakNothing) { leaks_nothing(store("Kivi2Paged"), 1, 200000); }
TEST(SoakSlow, ManyCallsOnLowBitsLeakNothing) { leaks_nothing(store("Kivi4Virtual"), 1, 200000); }

}  // namespace
}  // namespace tessera::test
