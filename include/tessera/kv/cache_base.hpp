/// What every KV cache offers, whatever its codec and storage.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
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
#include <tessera/kernels/attention/attention.hpp>
#include <tessera/kernels/attention/unpack/list.hpp>
#include <tessera/kv/codecs/codec.hpp>
#include <tessera/kv/count_bias.hpp>
#include <tessera/kv/report.hpp>
#include <tessera/kv/stage.hpp>
#include <tessera/kv/tracker.hpp>

namespace tessera::inline TESSERA_ABI::kv {

enum class KvPart { keys, values };
class KvCacheBase;

namespace detail {
void attend_latent(Context& ctx, const KvCacheBase& cache, const AttentionArgs<float>& whole, Unpack unpack);
}

/// The keys and values of one layer: for each kv head its own tokens, in the order of their positions. A token's
/// position is the number of tokens appended before it, for good: eviction leaves holes in the positions, and keys that
/// carry rotary embeddings keep the rotation they came with. Not for use by two threads at once.
class KvCacheBase {
 public:
  virtual ~KvCacheBase() = default;
  virtual std::unique_ptr<KvCacheBase> clone() const = 0;
  /// A copy that shares the memory of what is there, as far as the storage can, until either changes it.
  virtual std::unique_ptr<KvCacheBase> fork() = 0;
  virtual std::string_view codec() const = 0;

  Index kv_heads() const { return kv_heads_; }
  Index head_dim() const { return head_dim_; }
  /// Tokens appended since the beginning: the position of the next one.
  Index next_position() const { return next_; }
  /// next_position(), had no move_end() ever been: what trackers take for the time.
  Index clock() const { return trackers_.shift() + next_; }
  /// Tokens held by a kv head.
  virtual Index size(Index kv_head) const = 0;
  /// Tokens held by all kv heads.
  Index tokens() const {
    Index total = 0;
    for (Index h = 0; h < kv_heads_; ++h) total += size(h);
    return total;
  }
  /// Of token j of a kv head; ascending in j. Bounds are not checked.
  virtual Index position(Index kv_head, Index j) const = 0;
  /// Logarithm of how many tokens token j stands for since a merge; attend() adds it to the token's scores.
  virtual float count_bias(Index kv_head, Index j) const noexcept = 0;
  /// Whether any token of a kv head stands for other than one.
  virtual bool counted(Index kv_head) const noexcept = 0;
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
    if (K.extents() != V.extents() || K.extent(0) != kv_heads_ || K.extent(2) != head_dim_)
      throw shape_error(tessera::detail::concat("tessera: append of keys ", text(K), " and values ", text(V),
                                                " to a cache of ", kv_heads_, " kv heads of ", head_dim_,
                                                ": expected both (", kv_heads_, ", t, ", head_dim_, ')'));
    if ((K.extent(2) > 1 && K.stride(2) != 1) || (V.extent(2) > 1 && V.stride(2) != 1))
      throw shape_error(tessera::detail::concat("tessera: append: strides of d in keys and values are ", K.stride(2),
                                                ", ", V.stride(2), "; expected 1"));
    const Index t = K.extent(1);
    if (t > std::numeric_limits<std::int32_t>::max() - next_)
      throw shape_error(tessera::detail::concat("tessera: append of ", t, " tokens to a cache at position ", next_,
                                                ": positions end at ", std::numeric_limits<std::int32_t>::max()));
    if (t == 0) return;
    const Index grain = t * head_dim_ < 16384 ? kv_heads_ : 1;
    std::vector<Index> held;
    for (Index h = 0; h < kv_heads_; ++h) held.push_back(size(h));
    try {
      for_each_chunk(ctx, kv_heads_, grain, [&](Context&, Index begin, Index end) {
        for (Index h = begin; h < end; ++h) {
          append_head(h, K[h], V[h]);
          trackers_.append(h, t, next_);
        }
      });
    } catch (...) {
      for (Index h = 0; h < kv_heads_; ++h) shorten(h, held[static_cast<std::size_t>(h)]);
      throw;
    }
    next_ += t;
  }

  /// Attention of the latest n positions over the cached tokens, codes read tile by tile (see attention()). Causal:
  /// query i has position next_position() - n + i and sees the tokens up to its own. Throws shape_error.
  void attend(Context& ctx, View<const float, 3> Q,  // (heads, n, d)
              View<float, 3> out,                    // (heads, n, d)
              AttentionOptions options = {.scale = {}, .causal = true}, View<float, 2> lse = {}) const {  // (heads, n)
    attend(ctx, Q, out, options, {.lse = lse}, {});
  }

  /// The same with masks and score-mods, which see tokens at their positions.
  template <class... Mods>
  void attend(Context& ctx, View<const float, 3> Q, View<float, 3> out, const ScoreMods<Mods...>& mods,
              AttentionOptions options = {.scale = {}, .causal = true}, AttentionStatistics<float> also = {}) const {
    mods.check_heads(Q.extent(0));
    using State = tessera::detail::ScoreHookState<float, ScoreMods<Mods...>>;
    State state(mods, {this, &token_position, next_ - Q.extent(1)});
    attend(ctx, Q, out, options, also, state.hook(ctx));
  }

  /// From now on attend() keeps `rule`'s numbers of every token, in the place of an earlier rule of its type: queries
  /// at the latest positions (causal) add to them; others, which stand for no position, leave no trace. Tokens held
  /// start like those appended. They move and go with their tokens (in a rewrite by fewer or more, with positions),
  /// and count in bytes().
  template <AttentionRule R>
  void track(R rule) {
    KvTracker& added = trackers_.add(std::move(rule), kv_heads_);
    for (Index h = 0; h < kv_heads_; ++h) {
      added.heads[static_cast<std::size_t>(h)].append(size(h));
      for (Index j = 0; j < size(h); ++j) added.born(h, j, trackers_.shift() + position(h, j));
    }
  }
  template <AttentionRule R>
  void untrack() {
    trackers_.template remove<R>();
  }
  /// The rule and a kv head's numbers. Throw unsupported_error if R is not tracked.
  template <AttentionRule R>
  const R& tracker() const {
    return tracker_of<R>().rule;
  }
  template <AttentionRule R>
  const TrackedHead& tracked(Index kv_head) const {
    return std::as_const(tracker_of<R>().heads[static_cast<std::size_t>(kv_head)]);
  }

  /// Applies a policy, a chain of stages; says what it cost, and with probe queries how far attention moved.
  template <KvPolicy Policy>
  KvReport compress(Context& ctx, const Policy& policy, const KvProbe& probe = {}) {
    KvReport report;
    report.bytes_before = bytes();
    report.tokens_before = tokens();
    std::optional<KvObservation> before;
    if (!probe.queries.empty()) before = observe(ctx, *this, probe);
    std::vector<HeadDraft> drafts(static_cast<std::size_t>(kv_heads_));
    for (Index h = 0; h < kv_heads_; ++h) drafts[static_cast<std::size_t>(h)].reset(size(h));
    detail::as_chain(policy).run(StageContext{ctx, *this, drafts, probe});
    report.bytes_after = bytes();
    report.tokens_after = tokens();
    if (before) compare(*before, observe(ctx, *this, probe), report);
    return report;
  }

  /// Keeps tokens kept[0] < kept[1] < … of a kv head, with their positions, and frees the rest; but for room for
  /// `spare` more tokens, so that appending those moves nothing and the next eviction need not allocate. If memory runs
  /// out the head may be empty.
  virtual void retain(Index kv_head, std::span<const Index> kept, Index spare = 0) = 0;

  /// Takes the tokens of a kv head but kept[0] < kept[1] < … to the codec's fewer bits, where it has two widths.
  /// Throws unsupported_error.
  virtual void demote(Index kv_head, std::span<const Index> kept) = 0;

  /// Puts n other tokens in the place of those of a kv head, coded anew whatever the codec; token j at positions[j] and
  /// standing for counts[j] tokens, or for one. K and V must not lie in the cache. Throws shape_error unless the
  /// shapes fit, positions ascend below next_position() and counts are positive and finite. If memory runs out the head
  /// is empty.
  void rewrite(Index kv_head, MatrixView<const float> K,  // (n, d)
               MatrixView<const float> V,                 // (n, d)
               std::span<const Index> positions,          // (n)
               std::span<const float> counts = {}) {      // (n)
    using tessera::detail::concat;
    const Index n = K.rows();
    const auto listed = static_cast<Index>(positions.size());
    const bool contiguous = (K.col_stride() == 1 && V.col_stride() == 1) || head_dim_ == 1;
    if (kv_head < 0 || kv_head >= kv_heads_ || K.cols() != head_dim_ || V.rows() != n || V.cols() != head_dim_ ||
        listed != n || (!counts.empty() && static_cast<Index>(counts.size()) != n) || !contiguous)
      throw shape_error(concat("tessera: rewrite of kv head ", kv_head, " of ", kv_heads_, " by keys ", n, 'x',
                               K.cols(), " and values ", V.rows(), 'x', V.cols(), " at ", listed, " positions with ",
                               static_cast<Index>(counts.size()), " counts; expected rows of ", head_dim_,
                               " contiguous channels, a position for each, and a count for each or none"));
    for (Index j = 0, next = 0; j < n; ++j) {
      const Index p = positions[static_cast<std::size_t>(j)];
      if (p < next || p >= next_)
        throw shape_error(concat("tessera: rewrite: token ", j, " at position ", p,
                                 "; expected positions that ascend, ", next, " to ", next_ - 1));
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
      rewrite_head(kv_head, K, V, positions, counts);
      trackers_.gather(kv_head, same);
    } catch (...) {
      shorten(kv_head, 0);
      throw;
    }
  }
  /// Makes `next` the position of the next token. Throws shape_error if a token stands there or later.
  void move_end(Index next) {
    for (Index h = 0; h < kv_heads_; ++h)
      if (next < 0 || (size(h) > 0 && position(h, size(h) - 1) >= next))
        throw shape_error(tessera::detail::concat("tessera: move_end(", next, "): kv head ", h, " holds ", size(h),
                                                  " tokens, some at that position or later"));
    trackers_.set_shift(clock() - next);
    next_ = next;
  }

  /// Forgets what was appended from position `end` on; no-op if nothing was. Memory goes back when half is unused.
  void truncate(Index end) {
    end = std::clamp<Index>(end, 0, next_);
    for (Index h = 0; h < kv_heads_; ++h) shorten(h, tokens_up_to(h, end - 1));
    next_ = end;
  }
  /// Forgets everything and frees it.
  void clear() {
    for (Index h = 0; h < kv_heads_; ++h) retain(h, {});
    trackers_.set_shift(0);
    next_ = 0;
  }
  /// Room for n tokens in every kv head. Throws shape_error for more than there are positions.
  virtual void reserve(Index n) = 0;

  /// Rows [begin, begin + count) of a kv head as floats, in place or decoded into scratch (count, d).
  virtual const float* key_tile(Index kv_head, Index begin, Index count, float* scratch, Index& stride,
                                Unpack unpack) const noexcept = 0;
  virtual const float* value_tile(Index kv_head, Index begin, Index count, float* scratch, Index& stride,
                                  Unpack unpack) const noexcept = 0;
  virtual TokenCodes key_codes(Index kv_head, Index begin) const noexcept = 0;
  virtual TokenCodes value_codes(Index kv_head, Index begin) const noexcept = 0;

  /// A head's leading tokens that attention reads as coordinates: see LatentRowStore. Keys and values alike, or one of
  /// the two. `latent_width` is the most coordinates of any head, 0 for none; shorter rows of a tile are padded with 0.
  virtual Index latent_tokens(Index kv_head) const noexcept = 0;
  virtual Index latent_width(KvPart part) const noexcept = 0;
  virtual const float* latent_tile(KvPart part, Index kv_head, Index begin, Index count, float* scratch, Index& stride,
                                   Index width, Unpack unpack) const noexcept = 0;
  virtual TokenCodes latent_codes(KvPart part, Index kv_head, Index begin, Index width) const noexcept = 0;
  virtual void absorb(Context& ctx, Index kv_head, MatrixView<const float> queries,  // (n, d)
                      MatrixView<float> out) const = 0;                              // (n, width)
  virtual void expand(Context& ctx, Index kv_head, MatrixView<const float> results,  // (n, width)
                      MatrixView<float> out) const = 0;                              // (n, d)

  static Unpack unpack_kernel(const Context& ctx) {
    UnpackArgs any;
    any.bits = 8;
    return UnpackKernels::select(ctx, any).run;
  }

 protected:
  KvCacheBase(Index kv_heads, Index head_dim) : kv_heads_(kv_heads), head_dim_(head_dim) {
    if (kv_heads < 1 || head_dim < 1)
      throw shape_error(tessera::detail::concat("tessera: a KV cache of ", kv_heads, " kv heads of ", head_dim,
                                                " channels; expected at least one of each"));
  }
  KvCacheBase(const KvCacheBase&) = default;
  KvCacheBase& operator=(const KvCacheBase&) = default;

  virtual void append_head(Index kv_head, MatrixView<const float> K, MatrixView<const float> V) = 0;
  /// Leaves n at most of its keys and of its values, whichever are more; does not throw.
  virtual void truncate_head(Index kv_head, Index n) = 0;
  virtual void rewrite_head(Index kv_head, MatrixView<const float> K, MatrixView<const float> V,
                            std::span<const Index> positions, std::span<const float> counts) = 0;
  /// Tokens at positions up to `last`.
  virtual Index tokens_up_to(Index kv_head, Index last) const = 0;
  /// For retain() and bytes().
  void retain_tracked(Index kv_head, std::span<const Index> kept, Index spare) {
    trackers_.retain(kv_head, kept, spare);
  }
  void shorten(Index kv_head, Index n) {
    truncate_head(kv_head, n);
    trackers_.truncate(kv_head, n);
  }
  std::size_t tracked_bytes() const { return trackers_.bytes(); }

 private:
  template <class R>
  TrackerOf<R>& tracker_of() const {
    TrackerOf<R>* const found = trackers_.template find<R>();
    if (found == nullptr)
      throw unsupported_error(tessera::detail::concat("tessera: this cache does not track ", R::name,
                                                      "; call track() before the attention that is to count"));
    return *found;
  }

  struct Reader {
    const KvCacheBase* cache;
    Unpack unpack;
  };
  template <bool Keys>
  static const float* read_tile(const void* state, Index head, Index begin, Index count, float* scratch,
                                Index& stride) noexcept {
    const auto& reader = *static_cast<const Reader*>(state);
    if constexpr (Keys) return reader.cache->key_tile(head, begin, count, scratch, stride, reader.unpack);
    return reader.cache->value_tile(head, begin, count, scratch, stride, reader.unpack);
  }

  template <bool Keys>
  static TokenCodes read_codes(const void* state, Index head, Index begin) noexcept {
    const auto& cache = *static_cast<const Reader*>(state)->cache;
    return Keys ? cache.key_codes(head, begin) : cache.value_codes(head, begin);
  }
  static Index token_position(const void* state, Index kv_head, Index token) noexcept {
    return static_cast<const KvCacheBase*>(state)->position(kv_head, token);
  }
  static float token_bias(const void* state, Index kv_head, Index token) noexcept {
    return static_cast<const KvCacheBase*>(state)->count_bias(kv_head, token);
  }
  static bool head_counted(const void* state, Index kv_head) noexcept {
    return static_cast<const KvCacheBase*>(state)->counted(kv_head);
  }

  void attend(Context& ctx, View<const float, 3> Q, View<float, 3> out, AttentionOptions options,
              AttentionStatistics<float> also, ScoreHook<float> hook) const {
    const std::array<Index, 3> held{kv_heads_, tokens(), head_dim_};
    AttentionArgs<float> args = tessera::detail::attention_args<float>(Q, held, held, out, options, also);
    tessera::detail::check_contiguous("queries, result", Q, out);
    const Index n = args.n;
    if (Q.extent(0) == 0 || n == 0) return;
    Workspace::Scope scope(ctx.workspace);
    Index* const lengths = scope.take<Index>(kv_heads_);
    Index* const visible = options.causal ? scope.take<Index>(kv_heads_ * n) : nullptr;
    for (Index h = 0; h < kv_heads_; ++h) {
      lengths[h] = size(h);
      for (Index i = 0; options.causal && i < n; ++i) visible[h * n + i] = tokens_up_to(h, next_ - n + i);
    }
    const Reader reader{this, unpack_kernel(ctx)};
    args.keys = {&reader, &read_tile<true>, &read_codes<true>};
    args.values = {&reader, &read_tile<false>, &read_codes<false>};
    args.lengths = lengths;
    args.visible = visible;
    const detail::CountBias biased(this, &token_bias, &head_counted, hook);
    bool any = false;
    for (Index h = 0; h < kv_heads_; ++h) any = any || counted(h);
    args.hook = any ? biased.hook() : hook;
    bool latent = false;
    for (Index h = 0; h < kv_heads_; ++h) latent = latent || latent_tokens(h) > 0;
    const auto run = [&](const AttentionArgs<float>& of) {
      if (latent)
        detail::attend_latent(ctx, *this, of, reader.unpack);
      else
        tessera::detail::run_attention(ctx, of);
    };
    if (trackers_.empty() || !options.causal)
      run(args);
    else
      trackers_.run(ctx, args, {this, &token_position, next_ - n}, run);
  }

  KvTrackers trackers_;  // attend() adds to what they point to
  Index kv_heads_, head_dim_, next_ = 0;
};

}  // namespace tessera::inline TESSERA_ABI::kv
