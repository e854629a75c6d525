/// Retrieval over a cache whose right answers are known by construction.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kv/cache_base.hpp>
#include <utility>
#include <vector>

namespace lm {

using tessera::Context;
using tessera::Index;
using tessera::View;

/// A layer of planted heads. Every symbol has a random direction a kv head. A token holds key symbol and value symbol;
/// heads that retrieve meet a query's symbol among the keys and return the value's direction, the others look at the
/// latest tokens whatever is asked. An answer is the value symbol whose directions the retrieving heads return most.
class RetrievalTask {
 public:
  static constexpr Index head_dim = 64, kv_heads = 4, group = 2, retrieving = 2;
  static constexpr Index heads = kv_heads * group, answer_dim = retrieving * group * head_dim;

  struct Token {
    Index key, value;
  };
  /// From `start` over `hops` values, each the next key, to `answer`; asked with -1, that is what the context has.
  struct Question {
    Index start, hops, answer;
  };

  std::string name;
  std::vector<Token> context;
  std::vector<std::vector<Question>> turns;

  /// Every key once, each asked for its value.
  static RetrievalTask lookup(Index n, std::uint64_t seed) {
    RetrievalTask task("key-value", 2 * n, seed);
    for (Index j = 0; j < n; ++j) task.context.push_back({j, n + j});
    task.shuffle();
    task.ask([&](Index q) { return Question{task.pick(q, n), 1, -1}; });
    return task;
  }
  /// Strings of five symbols one after another; from the first to the last.
  static RetrievalTask prefix_suffix(Index n, std::uint64_t seed) {
    RetrievalTask task("prefix-suffix", n / 4 * 5, seed);
    for (Index s = 0; s < n / 4; ++s)
      for (Index i = 0; i < 4; ++i) task.context.push_back({5 * s + i, 5 * s + i + 1});
    task.ask([&](Index q) { return Question{5 * task.pick(q, n / 4), 4, -1}; });
    return task;
  }
  /// Variables set to others set to others, anywhere; what the last one holds.
  static RetrievalTask variables(Index n, std::uint64_t seed) {
    RetrievalTask task("variables", n / 3 * 4, seed);
    for (Index s = 0; s < n / 3; ++s)
      for (Index i = 0; i < 3; ++i) task.context.push_back({4 * s + i, 4 * s + i + 1});
    task.shuffle();
    task.ask([&](Index q) { return Question{4 * task.pick(q, n / 3), 3, -1}; });
    return task;
  }
  /// Few symbols asked for among many tokens of sixteen kinds.
  static RetrievalTask needles(Index n, std::uint64_t seed) {
    constexpr Index kinds = 16, count = 24;
    RetrievalTask task("needles", 2 * kinds + 2 * count, seed);
    for (Index j = 0; j < n - count; ++j) task.context.push_back({j % kinds, kinds + j % kinds});
    for (Index i = 0; i < count; ++i) task.context.push_back({2 * kinds + i, 2 * kinds + count + i});
    task.shuffle();
    task.ask([&](Index q) { return Question{2 * kinds + q % count, 1, -1}; });
    return task;
  }
  /// Sixteen kinds of tokens with a label each, in many examples an eighth of which have another's; a kind's label.
  static RetrievalTask many_shot(Index n, std::uint64_t seed) {
    constexpr Index kinds = 16;
    RetrievalTask task("many-shot", 2 * kinds, seed);
    for (Index j = 0; j < n; ++j) {
      const Index kind = j % kinds, shot = j / kinds, other = shot % 8 == 7 ? 1 + shot / 8 % (kinds - 1) : 0;
      task.context.push_back({kind, kinds + (kind + other) % kinds});
    }
    task.shuffle();
    task.ask([&](Index q) {
      const Index kind = task.pick(q, kinds);
      return Question{kind, 1, kinds + kind};
    });
    return task;
  }

  /// (kv_heads, n, d) and (heads, n, d) of tokens [0, n) of the context.
  struct Projections {
    explicit Projections(Index n)
        : queries(heads * n * head_dim), keys(kv_heads * n * head_dim), values(kv_heads * n * head_dim), tokens(n) {}
    View<const float, 3> Q() const { return {queries.data(), {heads, tokens, head_dim}}; }
    View<const float, 3> K() const { return {keys.data(), {kv_heads, tokens, head_dim}}; }
    View<const float, 3> V() const { return {values.data(), {kv_heads, tokens, head_dim}}; }
    tessera::Buffer<float> queries, keys, values;
    Index tokens;
  };
  /// The context, from position `first` on.
  Projections prompt(Index first = 0) const {
    const auto n = static_cast<Index>(context.size());
    Projections all(n);
    for (Index j = 0; j < n; ++j) {
      const Token& token = context[static_cast<std::size_t>(j)];
      write(all, j, first + j, token.key, token.key, token.value);
    }
    return all;
  }
  /// Of all heads' results to what an answer is read from, those of the heads that retrieve.
  static tessera::Buffer<float> output() {
    tessera::Buffer<float> projection(answer_dim * heads * head_dim);
    for (Index i = 0; i < projection.size(); ++i)
      projection[i] = i / (heads * head_dim) == i % (heads * head_dim) ? 1 : 0;
    return projection;
  }
  /// What asking for `symbol` at position `at` projects to; nobody looks for its token later.
  Projections question(Index symbol, Index at) const {
    Projections one(1);
    write(one, 0, at, symbol, -1, -1);
    return one;
  }
  /// The queries of a turn's first hops: (heads, questions, d).
  Projections questions(std::size_t turn) const {
    Projections all(static_cast<Index>(turns[turn].size()));
    const auto n = static_cast<Index>(context.size());
    for (Index q = 0; q < all.tokens; ++q) write(all, q, n + q, turns[turn][static_cast<std::size_t>(q)].start, -1, -1);
    return all;
  }

  /// Whether a question is answered right; each hop is one token more in the cache.
  bool right(Context& ctx, tessera::kv::KvCacheBase& cache, const Question& asked, Index& steps) const {
    Index symbol = asked.start;
    for (Index hop = 0; hop < asked.hops; ++hop, ++steps) {
      const Projections one = question(symbol, cache.next_position());
      tessera::Buffer<float> out(heads * head_dim);
      cache.append(ctx, one.K(), one.V());
      cache.attend(ctx, one.Q(), View<float, 3>(out.data(), {heads, 1, head_dim}));
      symbol = nearest(out);
    }
    return symbol == asked.answer;
  }
  /// The share of a turn's questions answered right, one after the other.
  double answer(Context& ctx, tessera::kv::KvCacheBase& cache, std::size_t turn, Index& steps) const {
    Index count = 0;
    for (const Question& asked : turns[turn]) count += right(ctx, cache, asked, steps) ? 1 : 0;
    return static_cast<double>(count) / static_cast<double>(turns[turn].size());
  }

 private:
  RetrievalTask(std::string name_, Index symbols, std::uint64_t seed)
      : name(std::move(name_)), symbols_(symbols), draws_(seed, 0x17), codes_(kv_heads * symbols * head_dim) {
    const tessera::Philox noise(seed, 0x18);
    for (Index i = 0; i < kv_heads * symbols; ++i) {
      double size = 0;
      for (Index c = 0; c < head_dim; ++c) {
        const double x = noise.normal(static_cast<std::uint64_t>(i * head_dim + c));
        codes_[i * head_dim + c] = static_cast<float>(x);
        size += x * x;
      }
      for (Index c = 0; c < head_dim; ++c) codes_[i * head_dim + c] /= static_cast<float>(std::sqrt(size));
    }
  }

  void shuffle() {
    for (std::size_t j = context.size(); j-- > 1;)
      std::swap(context[j], context[static_cast<std::size_t>(draws_.below(j, j + 1))]);
  }
  Index pick(Index q, Index count) const {
    return static_cast<Index>(
        draws_.below(static_cast<std::uint64_t>(q) + (std::uint64_t{1} << 32), static_cast<std::uint64_t>(count)));
  }
  template <class F>
  void ask(const F& make) {
    constexpr Index turns_asked = 3, questions_asked = 8;
    std::vector<Index> value_of(static_cast<std::size_t>(symbols_), -1);
    for (const Token& token : context) value_of[static_cast<std::size_t>(token.key)] = token.value;
    for (Index t = 0; t < turns_asked; ++t) {
      turns.emplace_back();
      for (Index q = 0; q < questions_asked; ++q) {
        Question one = make(t * questions_asked + q);
        Index found = one.start;
        for (Index hop = 0; hop < one.hops; ++hop) found = value_of[static_cast<std::size_t>(found)];
        if (one.answer < 0) one.answer = found;
        turns.back().push_back(one);
      }
    }
  }

  const float* code(Index kv_head, Index symbol) const {
    return codes_.data() + (kv_head * symbols_ + symbol) * head_dim;
  }
  /// A match scores 20 above the mean of others; local heads' scores rise by 1 in 4 tokens.
  void write(Projections& to, Index j, Index position, Index asked, Index key, Index value) const {
    const float strength = std::sqrt(20.0f * std::sqrt(static_cast<float>(head_dim)));
    for (Index h = 0; h < kv_heads; ++h) {
      float* const k = to.keys.data() + (h * to.tokens + j) * head_dim;
      float* const v = to.values.data() + (h * to.tokens + j) * head_dim;
      const bool local = h >= retrieving;
      for (Index c = 0; c < head_dim; ++c) {
        k[c] = local || key < 0 ? 0 : strength * code(h, key)[c];
        v[c] = value < 0 ? 0 : code(h, value)[c];
      }
      if (local) k[0] = static_cast<float>(position) * 0.25f;
      for (Index g = 0; g < group; ++g) {
        float* const q = to.queries.data() + ((h * group + g) * to.tokens + j) * head_dim;
        for (Index c = 0; c < head_dim; ++c) q[c] = local || asked < 0 ? 0 : strength * code(h, asked)[c];
        if (local) q[0] = std::sqrt(static_cast<float>(head_dim));
      }
    }
  }
  Index nearest(const tessera::Buffer<float>& out) const {
    Index best = 0;
    float most = -1;
    for (Index s = 0; s < symbols_; ++s) {
      float sum = 0;
      for (Index h = 0; h < retrieving * group; ++h)
        for (Index c = 0; c < head_dim; ++c) sum += out[h * head_dim + c] * code(h / group, s)[c];
      if (sum > most) {
        most = sum;
        best = s;
      }
    }
    return best;
  }

  Index symbols_;
  tessera::Philox draws_;
  tessera::Buffer<float> codes_;  // (kv_heads, symbols, d)
};

}  // namespace lm
