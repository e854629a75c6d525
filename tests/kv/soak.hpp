/// Long lives of caches that are forks of each other, at random; what each holds is known.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <tessera/kv/batch.hpp>
#include <tessera/kv/cachegen_caches.hpp>
#include <utility>
#include <vector>

#include "kv/stores.hpp"

namespace tessera::test {

class Soak {
 public:
  /// `within`: of a number below 2000 that fills a row, after coding; `longest`: no more tokens are appended then.
  Soak(const Store& store, float within, Index kv_heads = 1, Index longest = 1500, Index d = 32)
      : store_(store), within_(within), kv_heads_(kv_heads), longest_(longest), d_(d), table_(d, 512) {
    all_.push_back(fresh());
  }

  /// Random appends, truncations, evictions, policies, forks, releases, moves among caches, streams.
  void run(Index calls, std::size_t most_bytes) {
    for (Index call = 0; call < calls; ++call) {
      Known& one = all_[static_cast<std::size_t>(below(all_.size()))];
      const Index what = below(1000), held = one.cache.tokens() / kv_heads_;
      if (what < 820 && held < longest_)
        append(one, what < 815 ? 1 : 1 + below(static_cast<std::size_t>(longest_ / 5)));
      else if (what < 820)
        shorten(one, longest_ / 4);
      else if (what < 826)
        move_among();
      else if (what < 832)
        one.cache.reserve(held + below(static_cast<std::size_t>(longest_)));
      else if (what < 838)
        demote(one);
      else if (what < 840)
        by_stream(one);
      else if (what < 920)
        shorten(one, what < 910 ? 3 : longest_ / 4);
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
  static constexpr Index most_d = 32, most_heads = 3;
  struct Held {                 // by a kv head
    std::vector<float> tokens;  // what each was filled with
    std::vector<Index> positions;
  };
  struct Known {
    AnyKvCache cache;
    std::shared_ptr<std::vector<Held>> shared;  // by what are forks of each other
    bool merged = false;                        // then rows are means of them

    const std::vector<Held>& known() const { return *shared; }
    std::vector<Held>& heads() {
      if (shared.use_count() > 1) shared = std::make_shared<std::vector<Held>>(*shared);
      return *shared;
    }
  };

  Index below(std::size_t n) {  // n < 2^16, so that 32 bits are even enough
    if (drawn_ % 4 == 0) block_ = draws_.block(drawn_ / 4);
    return static_cast<Index>(std::uint64_t{block_[drawn_++ % 4]} * n >> 32);
  }
  Known fresh() const {
    Known one{store_.make(kv_heads_, d_), std::make_shared<std::vector<Held>>(static_cast<std::size_t>(kv_heads_))};
    one.cache.track(AttentionSums{});
    one.cache.track(Recurrence{});
    return one;
  }
  void append(Known& one, Index t) {
    auto& heads = one.heads();
    const Index at = one.cache.next_position();
    for (Index i = 0; i < t; ++i) {
      for (Index h = 0; h < kv_heads_; ++h) std::fill_n(&rows_[(h * t + i) * d_], d_, next_);
      for (Held& head : heads) {
        head.tokens.push_back(next_);
        head.positions.push_back(at + i);
      }
      next_ = next_ >= 1999 ? 0 : next_ + 1;
    }
    const View<const float, 3> tokens(rows_.data(), {kv_heads_, t, d_});
    one.cache.append(ctx_, tokens, tokens);
  }
  /// Up to `most` positions from the end are forgotten.
  void shorten(Known& one, Index most) {
    const Index gone = below(static_cast<std::size_t>(most + 1));
    const Index end = std::max<Index>(0, one.cache.next_position() - gone);
    one.cache.truncate(end);
    for (Held& head : one.heads())
      while (!head.positions.empty() && head.positions.back() >= end) {
        head.positions.pop_back();
        head.tokens.pop_back();
      }
  }
  /// Which caches there are is chosen anew, or some finish and others take their places.
  void move_among() {
    std::vector<AnyKvCache> caches;
    for (Known& known : all_) caches.push_back(std::move(known.cache));
    std::vector<Known> next;
    std::vector<Index> which;
    if (below(2) == 0) {
      for (Index i = 0, n = 1 + below(12); i < n; ++i) which.push_back(below(all_.size()));
      gather(caches, which);
      for (std::size_t i = 0; i < which.size(); ++i) {
        const Known& was = all_[static_cast<std::size_t>(which[i])];
        next.push_back({std::move(caches[i]), was.shared, was.merged});
      }
    } else {
      if (all_.size() > 1) which.push_back(below(all_.size()));
      std::vector<std::size_t> at(all_.size());
      for (std::size_t i = 0; i < at.size(); ++i) at[i] = i;
      for (const auto& [from, to] : reorder(caches, which))
        at[static_cast<std::size_t>(to)] = static_cast<std::size_t>(from);
      for (std::size_t i = 0; i < caches.size(); ++i)
        next.push_back({std::move(caches[i]), all_[at[i]].shared, all_[at[i]].merged});
    }
    all_ = std::move(next);
  }
  void demote(Known& one) {
    if (one.cache.codec() != "zip") return;
    one.cache.compress(ctx_, score(NormalizedAttention{}) | keep(0.5) | kv::demote());
  }
  /// A cache is written and read into another one.
  void by_stream(Known& one) {
    for (const Held& head : one.known())
      if (static_cast<Index>(head.tokens.size()) != one.cache.next_position() || one.merged || head.tokens.empty())
        return;
    const KvCacheBase* const from = &one.cache.base();
    const Bytes stream = cachegen_save(ctx_, std::span(&from, 1), {.level = 0});
    AnyKvCache again = store_.make(kv_heads_, d_);
    KvCacheBase* const to = &again.base();
    ASSERT_EQ(cachegen_load(ctx_, std::span(stream).first(stream.size()), std::span(&to, 1)), stream.size());
    ASSERT_EQ(again.tokens(), one.cache.tokens());
    ASSERT_EQ(again.next_position(), one.cache.next_position());
  }
  void attend(Known& one) {
    if (one.cache.next_position() == 0) return;
    float query[most_heads * most_d] = {}, out[most_heads * most_d] = {};
    query[0] = 1e-3f;
    one.cache.attend(ctx_, View<const float, 3>(query, {kv_heads_, 1, d_}), View<float, 3>(out, {kv_heads_, 1, d_}));
    for (const float x : out) ASSERT_TRUE(std::isfinite(x));
  }
  /// Tokens kept[0] < kept[1] < … are left.
  static void leave(Held& one, const std::vector<Index>& kept) {
    for (std::size_t j = 0; j < kept.size(); ++j) {
      one.tokens[j] = one.tokens[static_cast<std::size_t>(kept[j])];
      one.positions[j] = one.positions[static_cast<std::size_t>(kept[j])];
    }
    one.tokens.resize(kept.size());
    one.positions.resize(kept.size());
  }
  void retain(Known& one) {
    const Index h = below(static_cast<std::size_t>(kv_heads_));
    Held& head = one.heads()[static_cast<std::size_t>(h)];
    std::vector<Index> kept;
    const auto of = static_cast<std::size_t>(2 + below(5)), rest = static_cast<std::size_t>(below(of));
    for (std::size_t j = 0; j < head.tokens.size(); ++j)
      if (j % of != rest) kept.push_back(static_cast<Index>(j));
    leave(head, kept);
    one.cache.base().retain(h, kept);
  }
  void compress(Known& one) {
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
    for (Index h = 0; h < kv_heads_; ++h) {
      Held& head = one.heads()[static_cast<std::size_t>(h)];
      ASSERT_GE(one.cache.size(h), std::min<Index>(static_cast<Index>(head.tokens.size()), 1));
      std::vector<Index> kept;
      for (std::size_t j = 0; j < head.positions.size(); ++j)
        if (const auto at = static_cast<Index>(kept.size());
            at < one.cache.size(h) && one.cache.position(h, at) == head.positions[j])
          kept.push_back(static_cast<Index>(j));
      ASSERT_EQ(static_cast<Index>(kept.size()), one.cache.size(h));
      leave(head, kept);
    }
  }
  /// Which tokens were left is read from their values, which rise but for where they start again.
  void closed(Known& one) {
    const Index end = one.cache.next_position();
    Index longest = 0;
    for (Index h = 0; h < kv_heads_; ++h) {
      Held& head = one.heads()[static_cast<std::size_t>(h)];
      const Index m = one.cache.size(h);
      const auto V = decoded(one.cache.base(), h, false);
      std::vector<Index> kept;
      for (std::size_t j = 0; j < head.tokens.size() && !one.merged; ++j)
        if (const auto at = static_cast<Index>(kept.size());
            at < m && std::abs(V[static_cast<std::size_t>(at * d_)] - head.tokens[j]) <= 2 * within_)
          kept.push_back(static_cast<Index>(j));
      for (Index j = 0; one.merged && j < m; ++j) kept.push_back(j);
      ASSERT_EQ(static_cast<Index>(kept.size()), m);
      leave(head, kept);
      for (Index j = 0; j < m; ++j) head.positions[static_cast<std::size_t>(j)] = end - m + j;
      longest = std::max(longest, m);
    }
    ASSERT_EQ(end, longest);
    one.merged = true;  // keys were turned; coded once more
  }
  void fork(Known& one) {
    if (all_.size() >= 12) return;
    Known child{one.cache.fork(), one.shared, one.merged};
    all_.push_back(std::move(child));
  }
  void release(std::size_t gone) {
    std::swap(all_[gone], all_.back());
    all_.pop_back();
    if (all_.empty()) all_.push_back(fresh());
  }
  static void clear(Known& one) {
    one.cache.clear();
    for (Held& head : one.heads()) head = {};
    one.merged = false;
  }
  void expect_known(std::size_t most_bytes) {
    std::size_t bytes = 0;
    for (const Known& known : all_) bytes += known.cache.bytes();
    ASSERT_LE(bytes, most_bytes);
    const Known& known = all_[static_cast<std::size_t>(below(all_.size()))];
    for (Index h = 0; h < kv_heads_; ++h) {
      const Held& head = known.known()[static_cast<std::size_t>(h)];
      ASSERT_EQ(positions(known.cache.base(), h), head.positions);
      ASSERT_EQ(known.cache.base().tracked<AttentionSums>(h).size(), known.cache.size(h));
      for (const bool keys : {true, false}) {
        const auto got = decoded(known.cache.base(), h, keys);
        for (std::size_t j = 0; j < got.size(); ++j) {
          ASSERT_TRUE(std::isfinite(got[j]));
          if (!known.merged && (!keys || within_ == 0)) {
            ASSERT_NEAR(got[j], head.tokens[j / static_cast<std::size_t>(d_)], within_);
          }
        }
      }
    }
  }

  const Store& store_;
  float within_;
  Index kv_heads_, longest_, d_;
  Context ctx_;
  const nn::RopeTable<float> table_;
  Philox draws_{77};
  std::uint64_t drawn_ = 0;
  std::array<std::uint32_t, 4> block_{};
  std::vector<Known> all_;
  float next_ = 0;
  Buffer<float> rows_{300 * most_heads * most_d};
};

}  // namespace tessera::test
