/// Attention as a composition: storage of keys and values × masks and score-mods × what is returned beside the result.
#pragma once

#include <concepts>
#include <span>
#include <type_traits>

#include <tessera/attention/score_hook.hpp>
#include <tessera/core/types.hpp>
#include <tessera/kernels/attention/attention.hpp>
#include <tessera/kernels/attention/unpack/list.hpp>

namespace tessera::inline TESSERA_ABI {

/// Keys or values of (kv_heads, m, d) that a kernel reads by tiles. A storage of your own has these two members.
template <class S, class T>
concept TokenStorage = requires(const S& tokens) {
  { tokens.extents() } -> std::convertible_to<std::array<Index, 3>>;
  { tokens.source() } -> std::same_as<TileSource<T>>;
};

namespace detail {

/// T read in place.
template <class T>
struct PlainTokens {
  View<const T, 3> view;
  std::array<Index, 3> extents() const { return view.extents(); }
  TileSource<T> source() const { return tile_source(view); }
};

/// bf16 or f16, widened a tile at a time.
template <class H>
struct HalfTokens {
  View<const H, 3> view;
  void (*run)(const UnpackArgs&, RowRange) noexcept;

  std::array<Index, 3> extents() const { return view.extents(); }
  TileSource<float> source() const {
    return {this,
            [](const void* state, Index head, Index begin, Index count, float* scratch,
               Index& row_stride) noexcept -> const float* {
              const auto& self = *static_cast<const HalfTokens*>(state);
              UnpackArgs args;
              args.bits = 16;
              args.half = std::same_as<H, f16>;
              args.codes = reinterpret_cast<const std::uint8_t*>(self.view.data() + head * self.view.stride(0) +
                                                                 begin * self.view.stride(1));
              args.row_bytes = 2 * self.view.stride(1);
              args.rows = count;
              args.d = row_stride = self.view.extent(2);
              args.out = scratch;
              self.run(args, {0, count, 0});
              return scratch;
            },
            [](const void* state, Index head, Index begin) noexcept -> TokenCodes {
              const auto& of = static_cast<const HalfTokens*>(state)->view;
              return {std::same_as<H, f16> ? TokenCode::float16 : TokenCode::bfloat16,
                      of.data() + head * of.stride(0) + begin * of.stride(1), 2 * of.stride(1), of.extent(1) - begin};
            }};
  }
};

template <class T, class U>
auto token_storage(Context& ctx, const View<U, 3>& view) {
  using Element = std::remove_const_t<U>;
  check_contiguous("tokens", view);
  if constexpr (std::same_as<Element, T>) {
    return PlainTokens<T>{view};
  } else {
    static_assert(std::same_as<T, float> && (std::same_as<Element, bf16> || std::same_as<Element, f16>),
                  "tessera: keys and values of attention are of the queries' type, or bf16 or f16 for f32 queries");
    UnpackArgs args;
    args.bits = 16;
    args.half = std::same_as<Element, f16>;
    return HalfTokens<Element>{view, UnpackKernels::select(ctx, args).run};
  }
}

template <class T, TokenStorage<T> S>
const S& token_storage(Context&, const S& tokens) {
  return tokens;
}

template <class T, class Keys, class Values, class... Mods>
void attention_of(Context& ctx, View<const T, 3> Q, const Keys& K, const Values& V, View<T, 3> out,
                  const ScoreMods<Mods...>& mods, AttentionOptions options, const AttentionStatistics<T>& also,
                  Index batch) {
  decltype(auto) keys = token_storage<T>(ctx, K);
  decltype(auto) values = token_storage<T>(ctx, V);
  AttentionArgs<T> args = attention_args<T>(Q, keys.extents(), values.extents(), out, options, also);
  check_contiguous("queries, result", Q, out);
  mods.check_heads(Q.extent(0));
  if (out.extent(0) == 0 || out.extent(1) == 0) return;
  ScoreHookState<T, ScoreMods<Mods...>> state(mods, {}, batch);
  if constexpr (sizeof...(Mods) > 0) args.hook = state.hook(ctx);
  args.keys = keys.source();
  args.values = values.source();
  run_attention(ctx, args);
}

}  // namespace detail

/// attention(ctx, Q, K, V, out) of kernels/attention with masks and score-mods (score_mods(...), from left to right, on
/// scores that are scaled), over keys and values of any storage: views of the queries' type, of bf16 or f16 (widened to
/// f32 a tile at a time), or a TokenStorage. `causal` masks besides. Throws shape_error.
template <class T, class Keys, class Values, class... Mods>
requires std::floating_point<T>
void attention(Context& ctx, View<const std::type_identity_t<T>, 3> Q,  // (heads, n, d)
               const Keys& K,                                           // (kv_heads, m, d)
               const Values& V,                                         // (kv_heads, m, dv)
               View<T, 3> out,                                          // (heads, n, dv)
               const ScoreMods<Mods...>& mods, AttentionOptions options = {},
               AttentionStatistics<std::type_identity_t<T>> also = {}) {
  detail::attention_of<T>(ctx, Q, K, V, out, mods, options, also, 0);
}

/// Attention of sequences packed one after another: sequence s has queries [query_ends[s-1], query_ends[s]) and keys
/// [key_ends[s-1], key_ends[s]), with 0 before the first. Options and mods see each sequence by itself,
/// as `batch` s.
/// Throws shape_error unless ends ascend to the numbers of queries and keys. Sequences and threads: the same bits.
template <class T, class... Mods>
requires std::floating_point<T>
void attention_varlen(Context& ctx, View<const std::type_identity_t<T>, 3> Q,  // (heads, total queries, d)
                      View<const std::type_identity_t<T>, 3> K,                // (kv_heads, total keys, d)
                      View<const std::type_identity_t<T>, 3> V,                // (kv_heads, total keys, dv)
                      std::span<const Index> query_ends, std::span<const Index> key_ends,
                      View<T, 3> out,  // (heads, total queries, dv)
                      const ScoreMods<Mods...>& mods = ScoreMods<>(), AttentionOptions options = {},
                      AttentionStatistics<std::type_identity_t<T>> also = {}) {
  const auto refuse = [&](std::string_view what, std::span<const Index> ends, Index total) {
    Index before = 0;
    for (const Index end : ends) {
      if (end < before)
        throw shape_error(detail::concat("tessera: attention_varlen: ", what, " end at ", end, " after ", before,
                                         "; expected ends that ascend from 0"));
      before = end;
    }
    if (before != total || query_ends.size() != key_ends.size())
      throw shape_error(detail::concat("tessera: attention_varlen: ", ends.size(), " ends of ", what, ", the last ",
                                       before, ", for ", total, " of them and ", query_ends.size(), " sequences"));
  };
  refuse("queries", query_ends, Q.extent(1));
  refuse("keys", key_ends, K.extent(1));
  detail::attention_args<T>(Q, K.extents(), V.extents(), out, options, also);  // for its errors
  const auto one = [&](Context& worker, std::size_t s) {
    const Index q = s == 0 ? 0 : query_ends[s - 1], k = s == 0 ? 0 : key_ends[s - 1];
    const Index n = query_ends[s] - q, m = key_ends[s] - k;
    const auto part = [&](View<T, 2> of) { return of.data() == nullptr ? of : of.slice(1, q, n); };
    detail::attention_of<T>(worker, Q.slice(1, q, n), K.slice(1, k, m), V.slice(1, k, m), out.slice(1, q, n), mods,
                            options, {part(also.lse), part(also.entropy)}, static_cast<Index>(s));
  };
  detail::for_each_sequence(ctx, static_cast<Index>(query_ends.size()),
                            [&](Context& worker, Index s) { one(worker, static_cast<std::size_t>(s)); });
}

}  // namespace tessera::inline TESSERA_ABI
