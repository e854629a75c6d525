/// Attention over what a cache holds.
#pragma once

#include <algorithm>
#include <array>

#include <tessera/core/context.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/attention/attention.hpp>
#include <tessera/kv/count_bias.hpp>
#include <tessera/kv/detail/attend_latent.hpp>
#include <tessera/kv/detail/attend_tracked.hpp>
#include <tessera/kv/readable.hpp>
#include <tessera/kv/tracker.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

inline Index token_position(const void* cache, Index kv_head, Index token) noexcept {
  return static_cast<const KvReadable*>(cache)->position(kv_head, token);
}
inline const float* token_biases(const void* cache, Index kv_head) noexcept {
  return static_cast<const KvReadable*>(cache)->count_biases(kv_head);
}

/// All tokens, as kernels read them.
struct HeldTokens {
  const KvReadable* cache;
  Unpack unpack;

  template <KvPart Part>
  TileSource<float> source() const {
    return {this,
            [](const void* state, Index head, Index begin, Index count, float* scratch,
               Index& stride) noexcept -> const float* {
              const auto& self = *static_cast<const HeldTokens*>(state);
              return self.cache->tile(Part, head, begin, count, scratch, stride, self.unpack);
            },
            [](const void* state, Index head, Index begin) noexcept -> TokenCodes {
              return static_cast<const HeldTokens*>(state)->cache->codes(Part, head, begin);
            }};
  }
};

/// Of the latest n positions: causal, query i has position next_position() - n + i and sees the tokens up to its own.
/// Trackers see the weights of causal queries. Throws shape_error.
inline void attend(Context& ctx, const KvReadable& cache, const KvTrackers& trackers, View<const float, 3> Q,
                   View<float, 3> out, const AttentionOptions& options, const AttentionStatistics<float>& also,
                   const ScoreHook<float>& hook) {
  const Index kv_heads = cache.kv_heads();
  Index longest = 0;
  for (Index h = 0; h < kv_heads; ++h) longest = std::max(longest, cache.size(h));
  const std::array<Index, 3> held{kv_heads, longest, cache.head_dim()};
  AttentionArgs<float> args = tessera::detail::attention_args<float>(Q, held, held, out, options, also);
  tessera::detail::check_contiguous("queries, result", Q, out);
  const Index n = args.n, first = cache.next_position() - n;
  if (Q.extent(0) == 0 || n == 0) return;
  Workspace::Scope scope(ctx.workspace);
  Index* const lengths = scope.take<Index>(kv_heads);
  Index* const visible = options.causal ? scope.take<Index>(kv_heads * n) : nullptr;
  bool biased = false, latent = false;
  for (Index h = 0; h < kv_heads; ++h) {
    lengths[h] = cache.size(h);
    for (Index i = 0; options.causal && i < n; ++i) visible[h * n + i] = cache.tokens_up_to(h, first + i);
    biased = biased || cache.counted(h);
    latent = latent || cache.latent_tokens(h) > 0;
  }
  const HeldTokens tokens{&cache, KvReadable::unpack_kernel(ctx)};
  args.keys = tokens.source<KvPart::keys>();
  args.values = tokens.source<KvPart::values>();
  args.lengths = lengths;
  args.visible = visible;
  const CountBias bias(&cache, &token_biases, hook);
  args.hook = biased ? bias.hook() : hook;
  const auto run = [&](const AttentionArgs<float>& of) {
    if (latent)
      attend_latent(ctx, cache, of, tokens.unpack);
    else
      tessera::detail::run_attention(ctx, of);
  };
  if (trackers.empty() || !options.causal)
    run(args);
  else
    attend_tracked(ctx, trackers, args, {&cache, &token_position, first}, !latent, run);
}

}  // namespace tessera::inline TESSERA_ABI::kv::detail
