/// What a cache keeps of the attention it serves: some numbers a token.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/attention/score_hook.hpp>
#include <tessera/core/context.hpp>
#include <tessera/kernels/attention/weights.hpp>
#include <tessera/kv/storage.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// One kv head's numbers: channels of a number a token.
class TrackedHead {
 public:
  explicit TrackedHead(Index channels) : channels_(static_cast<std::size_t>(channels)) {}
  Index channels() const { return static_cast<Index>(channels_.size()); }
  float* channel(Index c) { return channels_[static_cast<std::size_t>(c)].data(); }
  std::span<const float> channel(Index c) const {
    const auto& one = channels_[static_cast<std::size_t>(c)];
    return {one.data(), static_cast<std::size_t>(one.size())};
  }
  Index size() const { return channels_[0].size(); }
  std::size_t bytes() const {
    std::size_t total = 0;
    for (const auto& one : channels_) total += one.bytes();
    return total;
  }
  /// Zeros for tokens appended.
  void append(Index count) {
    for (auto& one : channels_) {
      one.resize(one.size() + count);
      std::fill_n(one.data() + one.size() - count, count, 0.0f);
    }
  }
  void retain(std::span<const Index> kept, Index spare) {
    for (auto& one : channels_) retain_rows(one, 1, kept, spare);
  }
  void truncate(Index n) {
    for (auto& one : channels_) truncate_rows(one, 1, std::min(n, one.size()));
  }
  /// Token j has the numbers of token from[j], or zeros if that is -1.
  void gather(std::span<const Index> from) {
    for (auto& one : channels_) {
      Contiguous::Array<float> next;
      next.resize(static_cast<Index>(from.size()));
      for (Index j = 0; j < next.size(); ++j) {
        const Index at = from[static_cast<std::size_t>(j)];
        next[j] = at < 0 ? 0.0f : one[at];
      }
      one = std::move(next);
    }
  }

 private:
  std::vector<Contiguous::Array<float>> channels_;
};

/// Weights of queries at times `first` to first + n - 1: positions, which go on as they were after a move_end().
struct TrackedTile {
  const WeightTile<float>& weights;
  Index first, n;
  Index position(Index r) const { return first + weights.query(r); }
};

/// `name`; `channels()`, at least one, each token's 0 at first; `observe(tile, head)` adds the weights of a tile to the
/// numbers of its tokens [tile.weights.begin, + count) and reads nothing else, for threads share the tokens.
/// Optional: `born(head, j, time)` for a token appended; `turn(head, last, time)` before queries up to `time` come,
/// `last` the latest before them, -1 at first, later where tokens were truncated; `change(scores, tokens)` what is
/// observed instead of the weights: the softmax of scores changed in place.
template <class R>
concept AttentionRule = std::copyable<R> && requires(const R& rule, const TrackedTile& tile, TrackedHead& head) {
  { R::name } -> std::convertible_to<std::string_view>;
  { rule.channels() } -> std::same_as<Index>;
  { rule.observe(tile, head) }
  noexcept;
};

/// A rule and what it knows of all kv heads.
class KvTracker {
 public:
  virtual ~KvTracker() = default;
  virtual std::unique_ptr<KvTracker> clone() const = 0;
  virtual void born(Index kv_head, Index j, Index position) = 0;
  virtual void turn(Index first, Index n) = 0;
  virtual void observe(const WeightTile<float>& tile) noexcept = 0;
  virtual bool changes() const = 0;
  virtual void change(const ScoreTile<float>& tile, const TokenPositions& tokens) const noexcept = 0;
  std::vector<TrackedHead> heads;
};

template <AttentionRule R>
class TrackerOf final : public KvTracker {
 public:
  TrackerOf(R of, Index kv_heads) : rule(std::move(of)) {
    heads.assign(static_cast<std::size_t>(kv_heads), TrackedHead(rule.channels()));
  }
  std::unique_ptr<KvTracker> clone() const override { return std::make_unique<TrackerOf>(*this); }
  void born([[maybe_unused]] Index h, [[maybe_unused]] Index j, [[maybe_unused]] Index position) override {
    if constexpr (requires(TrackedHead & head) { rule.born(head, j, position); })
      rule.born(heads[static_cast<std::size_t>(h)], j, position);
  }
  void turn(Index first, Index n) override {
    if constexpr (requires(TrackedHead & head) { rule.turn(head, n, n); })
      for (auto& head : heads) rule.turn(head, last_, first + n - 1);
    first_ = first;
    n_ = n;
    last_ = first + n - 1;
  }
  void observe(const WeightTile<float>& tile) noexcept override {
    rule.observe(TrackedTile{tile, first_, n_}, heads[static_cast<std::size_t>(tile.kv_head)]);
  }
  bool changes() const override { return changing; }
  void change([[maybe_unused]] const ScoreTile<float>& tile,
              [[maybe_unused]] const TokenPositions& tokens) const noexcept override {
    if constexpr (changing) rule.change(tile, tokens);
  }
  R rule;

 private:
  static constexpr bool changing = requires(const R& of, const ScoreTile<float>& tile, const TokenPositions& tokens) {
    of.change(tile, tokens);
  };
  Index first_ = 0, n_ = 0, last_ = -1;
};

/// All trackers of a cache; copies are deep.
class KvTrackers {
 public:
  KvTrackers() = default;
  KvTrackers(const KvTrackers& other) : shift_(other.shift_) {
    for (const auto& one : other.all_) all_.push_back(one->clone());
  }
  KvTrackers(KvTrackers&&) noexcept = default;
  KvTrackers& operator=(KvTrackers other) noexcept {
    all_.swap(other.all_);
    shift_ = other.shift_;
    return *this;
  }
  ~KvTrackers() = default;

  bool empty() const { return all_.empty(); }
  /// Time at position 0.
  Index shift() const { return shift_; }
  void set_shift(Index shift) { shift_ = shift; }
  template <class R>
  TrackerOf<R>* find() const {
    for (const auto& one : all_)
      if (auto* const found = dynamic_cast<TrackerOf<R>*>(one.get())) return found;
    return nullptr;
  }
  template <class R>
  void remove() {
    std::erase_if(all_, [](const auto& one) { return dynamic_cast<TrackerOf<R>*>(one.get()) != nullptr; });
  }
  template <class R>
  KvTracker& add(R rule, Index kv_heads) {
    remove<R>();
    all_.push_back(std::make_unique<TrackerOf<R>>(std::move(rule), kv_heads));
    return *all_.back();
  }
  void append(Index kv_head, Index count, Index position) {
    for (auto& one : all_) {
      auto& head = one->heads[static_cast<std::size_t>(kv_head)];
      head.append(count);
      for (Index i = 0; i < count; ++i) one->born(kv_head, head.size() - count + i, shift_ + position + i);
    }
  }
  void retain(Index kv_head, std::span<const Index> kept, Index spare) {
    for (auto& one : all_) one->heads[static_cast<std::size_t>(kv_head)].retain(kept, spare);
  }
  void gather(Index kv_head, std::span<const Index> from) {
    for (auto& one : all_) one->heads[static_cast<std::size_t>(kv_head)].gather(from);
  }
  void truncate(Index kv_head, Index n) {
    for (auto& one : all_) one->heads[static_cast<std::size_t>(kv_head)].truncate(n);
  }
  std::size_t bytes() const {
    std::size_t total = 0;
    for (const auto& one : all_)
      for (const auto& head : one->heads) total += head.bytes();
    return total;
  }

  /// `attend(args)`, and every tracker sees its weights. Few queries' scores are kept while it runs, those of many
  /// (more than 8 rows) computed a second time.
  template <class Attend>
  void run(Context& ctx, AttentionArgs<float> args, const TokenPositions& tokens, const Attend& attend) const;

 private:
  std::vector<std::unique_ptr<KvTracker>> all_;
  Index shift_ = 0;
};

namespace detail {

/// Scores as attention computes them: (kv_heads, rows, stride).
struct ScoreKeeper {
  float* scores;
  Index rows, stride;
  float* of(Index kv_head) const { return scores + kv_head * rows * stride; }
  static void keep(const void* self, const ScoreTile<float>& tile) noexcept {
    const auto& keeper = *static_cast<const ScoreKeeper*>(self);
    for (Index r = 0; r < tile.rows; ++r) {
      float* const to = keeper.of(tile.kv_head) + (tile.row + r) * keeper.stride + tile.begin;
      const float* const from = tile.scores + r * tile.row_stride;
      if (tile.token_stride == 1)
        std::copy_n(from, tile.count, to);
      else
        for (Index j = 0; j < tile.count; ++j) to[j] = from[j * tile.token_stride];
    }
  }
  /// f(worker, tile) of every tile kept.
  template <class F>
  void for_each_tile(Context& ctx, const AttentionArgs<float>& args, const F& f) const {
    constexpr Index tile = AttentionArgs<float>::tile_tokens, grain = 32 * tile;
    const Index chunks = (stride + grain - 1) / grain;
    for_each_chunk(ctx, args.kv_heads * chunks, 1, [&](Context&, Index begin, Index end) {
      for (Index piece = begin; piece < end; ++piece) {
        const Index h = piece / chunks, first = piece % chunks * grain, most = std::min(first + grain, args.length(h));
        for (Index j = first; j < most; j += tile) {
          ScoreTile<float> part = args.score_tile(h, 0, rows, j, std::min(tile, most - j));
          part.scores = of(h) + j;
          part.row_stride = stride;
          part.token_stride = 1;
          f(part);
        }
      }
    });
  }
  /// Of every row, as attention's: (heads, n).
  void lse(Context& ctx, const AttentionArgs<float>& args, View<float, 2> to) const {
    for_each_chunk(ctx, args.kv_heads * rows, 1, [&](Context&, Index begin, Index end) {
      for (Index at = begin; at < end; ++at) {
        const Index h = at / rows, r = at % rows, seen = args.visible_to(h, r / args.group);
        const float* const row = of(h) + r * stride;
        constexpr float infinity = std::numeric_limits<float>::infinity();
        float most[8], sum[8] = {};  // independent, so that the steps overlap
        std::fill_n(most, 8, -infinity);
        for (Index j = 0; j < seen; ++j) most[j % 8] = std::max(most[j % 8], row[j]);
        const float top = *std::max_element(most, most + 8);
        for (Index j = 0; j < seen && top != -infinity; ++j) sum[j % 8] += std::exp(row[j] - top);
        float total = 0;
        for (const float part : sum) total += part;
        to(h * args.group + r % args.group, r / args.group) = total == 0 ? -infinity : top + std::log(total);
      }
    });
  }
};

struct TrackerChange {
  const KvTracker* tracker;
  const TokenPositions* tokens;
  static void run(const void* self, const ScoreTile<float>& tile) noexcept {
    const auto& [tracker, tokens] = *static_cast<const TrackerChange*>(self);
    tracker->change(tile, *tokens);
  }
};

inline void observe_all(const void* state, const WeightTile<float>& tile) noexcept {
  for (KvTracker* const one : *static_cast<const std::vector<KvTracker*>*>(state)) one->observe(tile);
}

}  // namespace detail

template <class Attend>
void KvTrackers::run(Context& ctx, AttentionArgs<float> args, const TokenPositions& tokens,
                     const Attend& attend) const {
  using detail::ScoreKeeper;
  using Tap = tessera::detail::WeightTap<float>;
  using Then = tessera::detail::HookThen<float>;
  Workspace::Scope scope(ctx.workspace);
  const Index heads = args.Q.extent(0), rows = args.rows();
  const auto statistic = [&] { return View<float, 2>(scope.take<float>(heads * args.n), {heads, args.n}); };
  if (args.lse.data() == nullptr) args.lse = statistic();
  std::vector<KvTracker*> plain;
  for (const auto& one : all_) {
    one->turn(shift_ + tokens.first, args.n);
    if (!one->changes()) plain.push_back(one.get());
  }
  const ScoreHook<float> hook = args.hook;
  Index most = 0;
  for (Index h = 0; h < args.kv_heads; ++h) most = std::max(most, args.length(h));
  const bool few = rows <= 8;
  const ScoreKeeper keeper{few ? scope.take<float>(args.kv_heads * rows * most) : nullptr, rows, most};
  const Then keeping{hook, &keeper, &ScoreKeeper::keep};
  if (few) {
    if (hook.meets != nullptr)  // tiles that no query meets are left out
      std::fill_n(keeper.scores, args.kv_heads * rows * most, -std::numeric_limits<float>::infinity());
    args.hook = keeping.hook();
  }
  attend(args);
  args.hook = hook;
  for (const auto& one : all_) {
    if (!one->changes()) continue;
    const View<float, 2> lse = statistic();
    const std::vector<KvTracker*> alone{one.get()};
    const detail::TrackerChange change{one.get(), &tokens};
    if (few) {
      const Index size = args.kv_heads * rows * most;
      const ScoreKeeper changed{scope.take<float>(size), rows, most};
      std::copy_n(keeper.scores, size, changed.scores);
      changed.for_each_tile(ctx, args, [&](const auto& tile) { detail::TrackerChange::run(&change, tile); });
      changed.lse(ctx, args, lse);
      const Tap tap(ctx, args, lse, {&alone, &detail::observe_all});
      changed.for_each_tile(ctx, args, [&](const auto& tile) { Tap::run(&tap, tile); });
    } else {
      const Then chain{hook, &change, &detail::TrackerChange::run};
      AttentionArgs<float> other = args;
      other.hook = chain.hook();
      attention_lse<float>(ctx, other, lse);
      visit_weights<float>(ctx, other, lse, {&alone, &detail::observe_all});
    }
  }
  if (plain.empty()) return;
  if (few) {
    const Tap tap(ctx, args, args.lse, {&plain, &detail::observe_all});
    keeper.for_each_tile(ctx, args, [&](const auto& tile) { Tap::run(&tap, tile); });
  } else {
    visit_weights<float>(ctx, args, args.lse, {&plain, &detail::observe_all});
  }
}

}  // namespace tessera::inline TESSERA_ABI::kv
