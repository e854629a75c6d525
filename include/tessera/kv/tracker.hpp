/// What a cache keeps of the attention it serves: some numbers a token.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/attention/score_hook.hpp>
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
  void gather(std::span<const Index> from, Index spare) {
    for (auto& one : channels_) {
      Contiguous::Array<float> next;
      next.reserve(static_cast<Index>(from.size()) + spare);
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
/// observed instead of the weights: the softmax of scores changed in place; tokens.first is the time of the first
/// query.
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
  void gather(Index kv_head, std::span<const Index> from, Index spare) {
    for (auto& one : all_) one->heads[static_cast<std::size_t>(kv_head)].gather(from, spare);
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

  /// f(tracker) of each.
  template <class F>
  void for_each(const F& f) const {
    for (const auto& one : all_) f(*one);
  }

 private:
  std::vector<std::unique_ptr<KvTracker>> all_;
  Index shift_ = 0;
};

}  // namespace tessera::inline TESSERA_ABI::kv
