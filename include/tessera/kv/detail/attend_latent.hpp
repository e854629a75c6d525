/// Attention over a cache whose leading tokens are coordinates: queries absorbed, results expanded, and joined with the
/// attention over the tokens after them.
#pragma once

#include <algorithm>

#include <tessera/core/context.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/attention/attention.hpp>
#include <tessera/kv/readable.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

/// Tokens from first[kv_head] on as tokens from 0 on.
struct LaterTokens {
  const AttentionArgs<float>* whole;
  const Index* first;

  ScoreTile<float> moved(const ScoreTile<float>& tile) const {
    ScoreTile<float> at = tile;
    at.begin += first[tile.kv_head];
    return at;
  }
  static const LaterTokens& of(const void* state) { return *static_cast<const LaterTokens*>(state); }

  template <TileSource<float> AttentionArgs<float>::*Which>
  TileSource<float> source() const {
    return {this,
            [](const void* state, Index head, Index begin, Index count, float* scratch,
               Index& stride) noexcept -> const float* {
              const auto& inner = of(state).whole->*Which;
              return inner.tile(inner.state, head, begin + of(state).first[head], count, scratch, stride);
            },
            [](const void* state, Index head, Index begin) noexcept -> TokenCodes {
              const auto& inner = of(state).whole->*Which;
              return inner.codes(inner.state, head, begin + of(state).first[head]);
            }};
  }
  ScoreHook<float> hook() const {
    ScoreHook<float> made = whole->hook;
    made.state = this;
    if (made.meets != nullptr)
      made.meets = [](const void* state, const ScoreTile<float>& tile) noexcept {
        return of(state).whole->meets(of(state).moved(tile));
      };
    if (made.change != nullptr)
      made.change = [](const void* state, const ScoreTile<float>& tile) noexcept {
        const auto& inner = of(state).whole->hook;
        inner.change(inner.state, of(state).moved(tile));
      };
    if (made.weigh != nullptr)
      made.weigh = [](const void* state, const ScoreTile<float>& tile) noexcept {
        const auto& inner = of(state).whole->hook;
        inner.weigh(inner.state, of(state).moved(tile));
      };
    return made;
  }
};

/// The leading tokens as their coordinates.
struct LatentTokens {
  const KvReadable* cache;
  Unpack unpack;
  Index key_width, value_width;  // 0: as they are

  template <KvPart Part>
  Index width() const {
    return Part == KvPart::keys ? key_width : value_width;
  }
  template <KvPart Part>
  TileSource<float> source() const {
    return {this,
            [](const void* state, Index head, Index begin, Index count, float* scratch,
               Index& stride) noexcept -> const float* {
              const auto& self = *static_cast<const LatentTokens*>(state);
              const Index width = self.width<Part>();
              if (width == 0) return self.cache->tile(Part, head, begin, count, scratch, stride, self.unpack);
              return self.cache->latent_tile(Part, head, begin, count, scratch, stride, width, self.unpack);
            },
            [](const void* state, Index head, Index begin) noexcept -> TokenCodes {
              const auto& self = *static_cast<const LatentTokens*>(state);
              const Index width = self.width<Part>();
              if (width == 0) return self.cache->codes(Part, head, begin);
              return self.cache->latent_codes(Part, head, begin, width);
            }};
  }
};

/// `whole` has lengths, and what the cache's tokens are as they are. O(heads·n·d·width) beside the attention itself.
inline void attend_latent(Context& ctx, const KvReadable& cache, const AttentionArgs<float>& whole, Unpack unpack) {
  const Index heads = whole.out.extent(0), n = whole.n, kv_heads = whole.kv_heads, group = whole.group;
  const LatentTokens coordinates{&cache, unpack, cache.latent_width(KvPart::keys), cache.latent_width(KvPart::values)};
  const Index width = coordinates.key_width > 0 ? coordinates.key_width : whole.d;
  const Index dv = coordinates.value_width > 0 ? coordinates.value_width : whole.dv();
  Workspace::Scope scope(ctx.workspace);
  Index* const leading = scope.take<Index>(kv_heads);
  Index* const later = scope.take<Index>(kv_heads);
  Index* const visible = whole.visible != nullptr ? scope.take<Index>(2 * kv_heads * n) : nullptr;
  bool rest = false;
  for (Index h = 0; h < kv_heads; ++h) {
    leading[h] = cache.latent_tokens(h);
    later[h] = whole.length(h) - leading[h];
    rest = rest || later[h] > 0;
    for (Index i = 0; visible != nullptr && i < n; ++i) {
      const Index seen = whole.visible[h * n + i];
      visible[h * n + i] = std::min(seen, leading[h]);
      visible[(kv_heads + h) * n + i] = std::max<Index>(seen - leading[h], 0);
    }
  }

  AttentionArgs<float> args = whole;
  args.lengths = leading;
  args.visible = visible;
  args.d = width;
  args.keys = coordinates.source<KvPart::keys>();
  args.values = coordinates.source<KvPart::values>();
  if (coordinates.key_width > 0) {
    const View<float, 3> absorbed(scope.take<float>(heads * n * width), {heads, n, width});
    for_each_chunk(ctx, heads, 1, [&](Context& worker, Index begin, Index end) {
      for (Index q = begin; q < end; ++q) {
        std::fill_n(&absorbed(q, Index{0}, Index{0}), n * width, 0.0f);
        cache.absorb(worker, q / group, whole.Q[q], absorbed[q]);
      }
    });
    args.Q = absorbed;
  }
  if (coordinates.value_width > 0) args.out = {scope.take<float>(heads * n * dv), {heads, n, dv}};
  View<float, 2> lse = whole.lse;
  if (rest && lse.data() == nullptr) lse = {scope.take<float>(heads * n), {heads, n}};
  args.lse = lse;
  tessera::detail::run_attention(ctx, args);
  if (coordinates.value_width > 0)
    for_each_chunk(ctx, heads, 1, [&](Context& worker, Index begin, Index end) {
      for (Index q = begin; q < end; ++q) cache.expand(worker, q / group, args.out[q], whole.out[q]);
    });
  if (!rest) return;

  const LaterTokens tail{&whole, leading};
  args = whole;
  args.lengths = later;
  args.visible = visible == nullptr ? nullptr : visible + kv_heads * n;
  args.keys = tail.source<&AttentionArgs<float>::keys>();
  args.values = tail.source<&AttentionArgs<float>::values>();
  args.hook = tail.hook();
  args.out = {scope.take<float>(heads * n * whole.dv()), {heads, n, whole.dv()}};
  args.lse = {scope.take<float>(heads * n), {heads, n}};
  if (whole.entropy.data() != nullptr) args.entropy = {scope.take<float>(heads * n), {heads, n}};
  tessera::detail::run_attention(ctx, args);
  if (whole.entropy.data() != nullptr)
    for (Index q = 0; q < heads; ++q)
      for (Index i = 0; i < n; ++i)
        whole.entropy(q, i) =
            tessera::detail::merged_entropy(args.entropy(q, i), args.lse(q, i), whole.entropy(q, i), lse(q, i));
  merge_states<float>(ctx, args.out, args.lse, whole.out, lse);
}

}  // namespace tessera::inline TESSERA_ABI::kv::detail
