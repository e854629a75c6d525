/// A KV cache whose codec is chosen at run time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/kv/cache.hpp>
#include <tessera/kv/codecs/block_floating.hpp>
#include <tessera/kv/codecs/channel_shrunk.hpp>
#include <tessera/kv/codecs/gear.hpp>
#include <tessera/kv/codecs/int8.hpp>
#include <tessera/kv/codecs/kivi.hpp>
#include <tessera/kv/codecs/plain.hpp>
#include <tessera/kv/codecs/rotated.hpp>
#include <tessera/kv/codecs/staircase.hpp>
#include <tessera/kv/codecs/zip.hpp>
#include <tessera/kv/detail/named_codec.hpp>
#include <tessera/kv/observe.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Owns any cache; copies are deep. See KvCacheBase for what each call does.
class AnyKvCache {
 public:
  template <class C, class Storage>
  AnyKvCache(KvCache<C, Storage> cache)  // NOLINT(google-explicit-constructor): stands for the cache
      : cache_(std::make_unique<KvCache<C, Storage>>(std::move(cache))) {}
  AnyKvCache(const AnyKvCache& other) : cache_(other.cache_->clone()) {}
  AnyKvCache(AnyKvCache&&) noexcept = default;
  AnyKvCache& operator=(AnyKvCache other) noexcept {
    cache_.swap(other.cache_);
    return *this;
  }
  ~AnyKvCache() = default;
  AnyKvCache fork() { return AnyKvCache(cache_->fork()); }

  KvCacheBase& base() { return *cache_; }
  const KvCacheBase& base() const { return *cache_; }
  std::string_view codec() const { return cache_->codec(); }
  Index kv_heads() const { return cache_->kv_heads(); }
  Index head_dim() const { return cache_->head_dim(); }
  Index size(Index kv_head) const { return cache_->size(kv_head); }
  Index tokens() const { return cache_->tokens(); }
  Index position(Index kv_head, Index j) const { return cache_->position(kv_head, j); }
  Index next_position() const { return cache_->next_position(); }
  std::size_t bytes() const { return cache_->bytes(); }
  void append(Context& ctx, View<const float, 3> K, View<const float, 3> V) { cache_->append(ctx, K, V); }
  void attend(Context& ctx, View<const float, 3> Q, View<float, 3> out,
              AttentionOptions options = {.scale = {}, .causal = true}, View<float, 2> lse = {}) const {
    cache_->attend(ctx, Q, out, options, lse);
  }
  template <class... Mods>
  void attend(Context& ctx, View<const float, 3> Q, View<float, 3> out, const ScoreMods<Mods...>& mods,
              AttentionOptions options = {.scale = {}, .causal = true}, AttentionStatistics<float> also = {}) const {
    cache_->attend(ctx, Q, out, mods, options, also);
  }
  template <AttentionRule R>
  void track(R rule) {
    cache_->track(std::move(rule));
  }
  template <KvPolicy Policy>
  KvReport compress(Context& ctx, const Policy& policy, const KvProbe& probe = {}) {
    return cache_->compress(ctx, policy, probe);
  }
  void reserve(Index n) { cache_->reserve(n); }
  void truncate(Index end) { cache_->truncate(end); }
  void clear() { cache_->clear(); }

 private:
  explicit AnyKvCache(std::unique_ptr<KvCacheBase> cache) : cache_(std::move(cache)) {}

  std::unique_ptr<KvCacheBase> cache_;
};

/// Maps of channels to fewer, one for all kv heads or one each: cskv_calibrate's, or leading columns of Matryoshka
/// bases.
struct ChannelMaps {
  std::vector<LinearMap> keys, values;
};

namespace detail {
template <class Storage, class... Codecs>
AnyKvCache make_kv_cache_of(std::string_view codec, Index kv_heads, Index head_dim, const ChannelMaps& maps) {
  std::optional<AnyKvCache> made;
  const auto make = [&]<class C>(std::type_identity<C>) {
    if (made || !names_codec(codec, C::name)) return;
    C chosen;
    set_parameters(chosen, codec, C::name);
    if constexpr (requires { chosen.key_maps; }) {
      if (maps.keys.empty() || maps.values.empty())
        throw unsupported_error(tessera::detail::concat("tessera: KV codec '", codec,
                                                        "' without ChannelMaps; expected maps of keys and of values"));
      chosen.key_maps = maps.keys;
      chosen.value_maps = maps.values;
    }
    made.emplace(KvCache<C, Storage>(kv_heads, head_dim, std::move(chosen)));
  };
  (make(std::type_identity<Codecs>{}), ...);
  if (made) return *std::move(made);
  std::string names;
  ((names += tessera::detail::concat(names.empty() ? "" : ", ", Codecs::name)), ...);
  throw unsupported_error(tessera::detail::concat("tessera: KV codec '", codec, "'; expected one of ", names));
}
}  // namespace detail

/// An empty cache by its codec's name: f32, bf16, f16, int8, int4, int3, int2, bfp4, staircase (steps of 16, 8, 4
/// and 2 bits), zip, "rotated int4", "rotated int3", "rotated int2", "gear int4", "gear int3", "gear int2", or "shrunk
/// f16", which takes `maps`. Numbers of the codec may follow: "int2 group=64 recent=128", "gear int2 rank=2 chunk=64".
/// Throws unsupported_error for others, and what the codec throws.
template <class Storage = Contiguous>  // a template, so that only those who call it compile them all
AnyKvCache make_kv_cache(std::string_view codec, Index kv_heads, Index head_dim, const ChannelMaps& maps = {}) {
  return detail::make_kv_cache_of<Storage, F32, Bf16, F16, Int8, Kivi<4>, Kivi<3>, Kivi<2>, BlockFloating<4>,
                                  Staircase<16, 8, 4, 2>, Zip, Rotated<Kivi<4>>, Rotated<Kivi<3>>, Rotated<Kivi<2>>,
                                  Gear<Kivi<4>>, Gear<Kivi<3>>, Gear<Kivi<2>>, ChannelShrunk<F16>>(codec, kv_heads,
                                                                                                   head_dim, maps);
}

}  // namespace tessera::inline TESSERA_ABI::kv
