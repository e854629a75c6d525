/// What every KV cache offers, whatever its codec and storage.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/attention/score_hook.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kv/detail/attend.hpp>
#include <tessera/kv/readable.hpp>
#include <tessera/kv/report.hpp>
#include <tessera/kv/stage.hpp>
#include <tessera/kv/tracker.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// The keys and values of one layer: for each kv head its own tokens, in the order of their positions. A token's
/// position is the number of tokens appended before it, for good: eviction leaves holes in the positions, and keys that
/// carry rotary embeddings keep the rotation they came with. Not for use by two threads at once.
class KvCacheBase : public KvReadable {
 public:
  virtual std::unique_ptr<KvCacheBase> clone() const = 0;
  /// A copy that shares the memory of what is there, as far as the storage can, until either changes it.
  virtual std::unique_ptr<KvCacheBase> fork() = 0;
  virtual std::string_view codec() const = 0;

  /// next_position(), had no move_end() ever been: what trackers take for the time.
  Index clock() const { return trackers_.shift() + next_position(); }
  /// The capacity of every buffer held, positions included.
  virtual std::size_t bytes() const = 0;

  /// Adds t tokens to every kv head. The same state whether tokens come one by one or together (but for spare
  /// capacity). Throws shape_error; if memory runs out no head has more tokens than before (but some that were exact
  /// may be coded).
  void append(Context& ctx, View<const float, 3> K,  // (kv_heads, t, d)
              View<const float, 3> V) {              // (kv_heads, t, d)
    const auto text = [](const auto& view) {
      return tessera::detail::concat('(', view.extent(0), ", ", view.extent(1), ", ", view.extent(2), ')');
    };
    if (K.extents() != V.extents() || K.extent(0) != kv_heads() || K.extent(2) != head_dim())
      throw shape_error(tessera::detail::concat("tessera: append of keys ", text(K), " and values ", text(V),
                                                " to a cache of ", kv_heads(), " kv heads of ", head_dim(),
                                                ": expected both (", kv_heads(), ", t, ", head_dim(), ')'));
    if ((K.extent(2) > 1 && K.stride(2) != 1) || (V.extent(2) > 1 && V.stride(2) != 1))
      throw shape_error(tessera::detail::concat("tessera: append: strides of d in keys and values are ", K.stride(2),
                                                ", ", V.stride(2), "; expected 1"));
    const Index t = K.extent(1);
    if (t > std::numeric_limits<std::int32_t>::max() - next_position())
      throw shape_error(tessera::detail::concat("tessera: append of ", t, " tokens to a cache at position ",
                                                next_position(), ": positions end at ",
                                                std::numeric_limits<std::int32_t>::max()));
    if (t == 0) return;
    const Index grain = t * head_dim() < 16384 ? kv_heads() : 1;
    std::vector<Index> held;
    for (Index h = 0; h < kv_heads(); ++h) held.push_back(size(h));
    try {
      for_each_chunk(ctx, kv_heads(), grain, [&](Context&, Index begin, Index end) {
        for (Index h = begin; h < end; ++h) {
          append_head(h, K[h], V[h]);
          trackers_.append(h, t, next_position());
        }
      });
    } catch (...) {
      for (Index h = 0; h < kv_heads(); ++h) shorten(h, held[static_cast<std::size_t>(h)]);
      throw;
    }
    move_next(next_position() + t);
  }

  /// Attention of the latest n positions over the cached tokens, codes read tile by tile (see attention()). Causal:
  /// query i has position next_position() - n + i and sees the tokens up to its own. Throws shape_error.
  void attend(Context& ctx, View<const float, 3> Q,  // (heads, n, d)
              View<float, 3> out,                    // (heads, n, d)
              AttentionOptions options = {.scale = {}, .causal = true}, View<float, 2> lse = {}) const {  // (heads, n)
    detail::attend(ctx, *this, trackers_, Q, out, options, {.lse = lse}, {});
  }

  /// The same with masks and score-mods, which see tokens at their positions.
  template <class... Mods>
  void attend(Context& ctx, View<const float, 3> Q, View<float, 3> out, const ScoreMods<Mods...>& mods,
              AttentionOptions options = {.scale = {}, .causal = true}, AttentionStatistics<float> also = {}) const {
    mods.check_heads(Q.extent(0));
    using State = tessera::detail::ScoreHookState<float, ScoreMods<Mods...>>;
    State state(mods, {static_cast<const KvReadable*>(this), &detail::token_position, next_position() - Q.extent(1)});
    detail::attend(ctx, *this, trackers_, Q, out, options, also, state.hook(ctx));
  }

  /// From now on attend() keeps `rule`'s numbers of every token, in the place of an earlier rule of its type: queries
  /// at the latest positions (causal) add to them; others, which stand for no position, leave no trace. Tokens held
  /// start like those appended. They move and go with their tokens (in a rewrite by fewer or more, with positions),
  /// and count in bytes(). Throws unsupported_error for a rule without numbers, and what its check() throws.
  template <AttentionRule R>
  void track(R rule) {
    if constexpr (requires { rule.check(); }) rule.check();
    if (rule.channels() < 1)
      throw unsupported_error(tessera::detail::concat("tessera: track ", R::name, " of ", rule.channels(),
                                                      " numbers a token; expected at least one"));
    KvTracker& added = trackers_.add(std::move(rule), kv_heads());
    for (Index h = 0; h < kv_heads(); ++h) {
      added.heads[static_cast<std::size_t>(h)].append(size(h));
      for (Index j = 0; j < size(h); ++j) added.born(h, j, trackers_.shift() + position(h, j));
    }
  }
  template <AttentionRule R>
  void untrack() {
    trackers_.template remove<R>();
  }
  /// The rule and a kv head's numbers. Throw unsupported_error if R is not tracked, shape_error for no such head.
  template <AttentionRule R>
  const R& tracker() const {
    return tracker_of<R>().rule;
  }
  template <AttentionRule R>
  const TrackedHead& tracked(Index kv_head) const {
    if (kv_head < 0 || kv_head >= kv_heads())
      throw shape_error(tessera::detail::concat("tessera: tracked: kv head ", kv_head, " of ", kv_heads()));
    return std::as_const(tracker_of<R>().heads[static_cast<std::size_t>(kv_head)]);
  }

  /// Applies a policy, a chain of stages; says what it cost, and with probe queries how far attention moved. Throws
  /// what KvProbe::check and the stages' checks throw, before anything has changed.
  template <KvPolicy Policy>
  KvReport compress(Context& ctx, const Policy& policy, const KvProbe& probe = {}) {
    KvReport report{bytes(), 0, tokens(), 0, {}, {}};
    std::optional<KvObservation> before;
    probe.check(kv_heads(), head_dim());
    if (!probe.queries.empty() && probe.report) before = observe(ctx, *this, probe);
    std::vector<HeadDraft> drafts(static_cast<std::size_t>(kv_heads()));
    for (Index h = 0; h < kv_heads(); ++h) drafts[static_cast<std::size_t>(h)].reset(size(h));
    const Index end = next_position();
    Index compared = -1;  // tokens when attention was
    const std::function<void()> compare_now = [&] {
      if (compared >= 0) return;
      if (before) compare(*before, observe(ctx, *this, probe), report);
      compared = tokens();
    };
    detail::as_chain(policy).run(StageContext{ctx, *this, drafts, probe, &compare_now});
    report.bytes_after = bytes();
    report.tokens_after = tokens();
    if (compared < 0 && next_position() == end) compare_now();
    if (compared != tokens()) report.output_error = report.top_k_recall = std::nullopt;
    return report;
  }

  /// Keeps tokens kept[0] < kept[1] < … of a kv head, with their positions, and frees the rest; but for room for
  /// `spare` more tokens, so that appending those moves nothing and the next eviction need not allocate. If memory runs
  /// out the head may be empty. Throws shape_error unless they ascend and are held, and `spare` is 0 to 2^31 - 1.
  void retain(Index kv_head, std::span<const Index> kept, Index spare = 0) {
    check_kept("retain", kv_head, kept);
    check_spare("retain", spare);
    if (static_cast<Index>(kept.size()) == size(kv_head)) return;
    try {
      retain_head(kv_head, kept, spare);
    } catch (...) {
      shorten(kv_head, 0);
      throw;
    }
    trackers_.retain(kv_head, kept, spare);
  }

  /// Throws unsupported_error where the codec has one width.
  virtual void check_demotes() const = 0;
  /// Takes the tokens of a kv head but kept[0] < kept[1] < … to the codec's fewer bits, where it has two widths.
  /// Throws unsupported_error, and shape_error unless they ascend and are held. If memory runs out the head is empty.
  void demote(Index kv_head, std::span<const Index> kept) {
    check_kept("demote", kv_head, kept);
    check_demotes();
    demote_head(kv_head, kept);
  }

  /// Puts n other tokens in the place of those of a kv head, coded anew whatever the codec; token j at positions[j] and
  /// standing for counts[j] tokens, or for one; with room for `spare` more. K and V must not lie in the cache. Throws
  /// shape_error unless the shapes fit, positions ascend below next_position() and counts are positive and finite. If
  /// memory runs out the head is empty.
  void rewrite(Index kv_head, MatrixView<const float> K,  // (n, d)
               MatrixView<const float> V,                 // (n, d)
               std::span<const Index> positions,          // (n)
               std::span<const float> counts = {},        // (n)
               Index spare = 0) {
    using tessera::detail::concat;
    const Index n = K.rows();
    const auto listed = static_cast<Index>(positions.size());
    const bool contiguous = (K.col_stride() == 1 && V.col_stride() == 1) || head_dim() == 1;
    if (kv_head < 0 || kv_head >= kv_heads() || K.cols() != head_dim() || V.rows() != n || V.cols() != head_dim() ||
        listed != n || (!counts.empty() && static_cast<Index>(counts.size()) != n) || !contiguous)
      throw shape_error(concat("tessera: rewrite of kv head ", kv_head, " of ", kv_heads(), " by keys ", n, 'x',
                               K.cols(), " and values ", V.rows(), 'x', V.cols(), " at ", listed, " positions with ",
                               static_cast<Index>(counts.size()), " counts; expected rows of ", head_dim(),
                               " contiguous channels, a position for each, and a count for each or none"));
    check_spare("rewrite", spare);
    for (Index j = 0, next = 0; j < n; ++j) {
      const Index p = positions[static_cast<std::size_t>(j)];
      if (p < next || p >= next_position())
        throw shape_error(concat("tessera: rewrite: token ", j, " at position ", p,
                                 "; expected positions that ascend, ", next, " to ", next_position() - 1));
      next = p + 1;
    }
    for (const float count : counts)
      if (!(count > 0) || std::isinf(count))
        throw shape_error(concat("tessera: rewrite: a token that stands for ", count, "; expected a positive number"));
    std::vector<Index> same;  // one for one, or tokens at positions that stay, -1 where there was none
    if (!trackers_.empty())
      for (Index j = 0; const Index p : positions) {
        if (n == size(kv_head)) {
          same.push_back(j++);
          continue;
        }
        while (j < size(kv_head) && position(kv_head, j) < p) ++j;
        same.push_back(j < size(kv_head) && position(kv_head, j) == p ? j : -1);
      }
    try {
      rewrite_head(kv_head, K, V, positions, counts, spare);
      trackers_.gather(kv_head, same, spare);
    } catch (...) {
      shorten(kv_head, 0);
      throw;
    }
  }
  /// Makes `next` the position of the next token. Throws shape_error if a token stands there or later, or `next` is
  /// beyond 2^31 - 1.
  void move_end(Index next) {
    for (Index h = 0; h < kv_heads(); ++h)
      if (next < 0 || next > std::numeric_limits<std::int32_t>::max() ||
          (size(h) > 0 && position(h, size(h) - 1) >= next))
        throw shape_error(tessera::detail::concat("tessera: move_end(", next, "): kv head ", h, " holds ", size(h),
                                                  " tokens; expected a position after theirs, up to 2^31 - 1"));
    trackers_.set_shift(clock() - next);
    move_next(next);
  }

  /// Forgets what was appended from position `end` on; no-op if nothing was. Memory goes back when half is unused.
  void truncate(Index end) {
    end = std::clamp<Index>(end, 0, next_position());
    for (Index h = 0; h < kv_heads(); ++h) shorten(h, tokens_up_to(h, end - 1));
    move_next(end);
  }
  /// Forgets everything and frees it.
  void clear() {
    for (Index h = 0; h < kv_heads(); ++h) {
      retain_head(h, {}, 0);  // with what was reserved
      trackers_.retain(h, {}, 0);
    }
    trackers_.set_shift(0);
    move_next(0);
  }
  /// Room for n tokens in every kv head. Throws shape_error for more than there are positions.
  virtual void reserve(Index n) = 0;

 protected:
  using KvReadable::KvReadable;

  virtual void append_head(Index kv_head, MatrixView<const float> K, MatrixView<const float> V) = 0;
  /// Leaves n at most of its keys and of its values, whichever are more; does not throw.
  virtual void truncate_head(Index kv_head, Index n) = 0;
  virtual void rewrite_head(Index kv_head, MatrixView<const float> K, MatrixView<const float> V,
                            std::span<const Index> positions, std::span<const float> counts, Index spare) = 0;
  virtual void retain_head(Index kv_head, std::span<const Index> kept, Index spare) = 0;
  virtual void demote_head(Index kv_head, std::span<const Index> kept) = 0;
  void shorten(Index kv_head, Index n) {
    truncate_head(kv_head, n);
    trackers_.truncate(kv_head, n);
  }
  std::size_t tracked_bytes() const { return trackers_.bytes(); }

 private:
  static void check_spare(std::string_view what, Index spare) {
    constexpr Index most = std::numeric_limits<std::int32_t>::max();
    if (spare < 0 || spare > most)
      throw shape_error(
          tessera::detail::concat("tessera: ", what, " with room for ", spare, " more tokens; expected 0 to ", most));
  }
  void check_kept(std::string_view what, Index kv_head, std::span<const Index> kept) const {
    using tessera::detail::concat;
    if (kv_head < 0 || kv_head >= kv_heads())
      throw shape_error(concat("tessera: ", what, ": kv head ", kv_head, " of ", kv_heads()));
    Index next = 0;
    for (const Index j : kept) {
      if (j < next || j >= size(kv_head))
        throw shape_error(concat("tessera: ", what, ": token ", j, " of ", size(kv_head), " of kv head ", kv_head,
                                 "; expected tokens that ascend, each held"));
      next = j + 1;
    }
  }

  template <class R>
  TrackerOf<R>& tracker_of() const {
    TrackerOf<R>* const found = trackers_.template find<R>();
    if (found == nullptr)
      throw unsupported_error(tessera::detail::concat("tessera: this cache does not track ", R::name,
                                                      "; call track() before the attention that is to count"));
    return *found;
  }

  KvTrackers trackers_;  // attend() adds to what they point to
};

}  // namespace tessera::inline TESSERA_ABI::kv
