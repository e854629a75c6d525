/// CacheGen streams of whole caches: save, load, and go on with a load that was broken off.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kv/cache_base.hpp>
#include <tessera/kv/cachegen.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// The tokens at positions from `begin` on of the layers' caches, chunk by chunk. Throws shape_error unless the caches
/// have the same shape and tokens, and unsupported_error where some were evicted or merged.
inline Bytes cachegen_save(Context& ctx, std::span<const KvCacheBase* const> layers,
                           const CacheGenOptions& options = {}, Index begin = 0) {
  Bytes all;
  if (layers.empty()) return all;
  const Index heads = layers[0]->kv_heads(), d = layers[0]->head_dim(), end = layers[0]->next_position();
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const KvCacheBase& one = *layers[l];
    if (one.kv_heads() != heads || one.head_dim() != d || one.next_position() != end)
      throw shape_error(tessera::detail::concat("tessera: CacheGen: the cache of layer ", l, " has ", one.kv_heads(),
                                                " heads of ", one.head_dim(), " and ", one.next_position(),
                                                " tokens, that of layer 0 ", heads, " of ", d, " and ", end));
    bool counted = false;
    for (Index h = 0; h < heads; ++h) counted = counted || one.counted(h);
    if (one.tokens() != heads * end || counted)
      throw unsupported_error(tessera::detail::concat("tessera: CacheGen: the cache of layer ", l, " holds ",
                                                      one.tokens(), " of ", heads * end,
                                                      " tokens: expected none to be evicted or merged"));
  }
  if (options.chunk < 1 || options.chunk > detail::cachegen_most_tokens) detail::check_cachegen({}, options);
  const Unpack unpack = KvCacheBase::unpack_kernel(ctx);
  std::vector<float> numbers;
  for (Index at = std::max<Index>(begin, 0), t = 0; at < end; at += t) {
    t = std::min(options.chunk, end - at);
    numbers.resize(2 * layers.size() * static_cast<std::size_t>(heads * t * d));
    std::vector<LayerView> views;
    float* to = numbers.data();
    for (const KvCacheBase* one : layers) {
      for (const KvPart part : {KvPart::keys, KvPart::values})
        for (Index h = 0; h < heads; ++h, to += t * d) one->copy_rows(part, h, at, t, to, unpack);
      const float* const keys = to - 2 * heads * t * d;
      views.push_back({{keys, {heads, t, d}}, {keys + heads * t * d, {heads, t, d}}});
    }
    const Bytes chunk = cachegen_encode(ctx, views, at, options);
    all.insert(all.end(), chunk.begin(), chunk.end());
  }
  return all;
}

/// Appends to the layers' caches what a stream has of the tokens from their next position on, so that a load that was
/// broken off may go on with the same stream or the rest of it. Stops at a chunk of text, which is the caller's to
/// compute; gives the bytes that were read. Throws format_error, shape_error for other caches and unsupported_error
/// where tokens are missing; then the caches hold all chunks before.
inline std::size_t cachegen_load(Context& ctx, std::span<const std::uint8_t> stream,
                                 std::span<KvCacheBase* const> layers, std::string_view name = "CacheGen stream") {
  const std::size_t size = stream.size();
  if (layers.empty())
    throw shape_error(tessera::detail::concat("tessera: ", name, " into 0 caches; expected one for each layer"));
  Index most = 0;  // numbers of the longest chunk that cachegen_save writes of such caches
  for (const KvCacheBase* one : layers) most += 2 * one->kv_heads() * one->head_dim() * detail::cachegen_most_tokens;
  while (!stream.empty()) {
    auto rest = stream;
    const CacheGenChunk chunk = cachegen_decode(ctx, rest, name, most);
    if (chunk.is_text) break;
    if (static_cast<std::size_t>(chunk.layers) != layers.size())
      throw shape_error(
          tessera::detail::concat("tessera: ", name, ": ", chunk.layers, " layers for ", layers.size(), " caches"));
    for (const KvCacheBase* one : layers) {
      if (one->kv_heads() != chunk.kv_heads || one->head_dim() != chunk.head_dim)
        throw shape_error(tessera::detail::concat("tessera: ", name, ": ", chunk.kv_heads, " heads of ", chunk.head_dim,
                                                  " for a cache of ", one->kv_heads(), " of ", one->head_dim()));
      if (one->next_position() < chunk.begin)
        throw unsupported_error(tessera::detail::concat("tessera: ", name, ": tokens from ", chunk.begin,
                                                        " for a cache that ends at ", one->next_position()));
    }
    for (Index l = 0; l < chunk.layers; ++l) {
      KvCacheBase& cache = *layers[static_cast<std::size_t>(l)];
      const Index held = cache.next_position() - chunk.begin;
      if (held >= chunk.tokens) continue;
      const LayerView view = chunk.layer(l);
      cache.append(ctx, view.K.slice(1, held, chunk.tokens - held), view.V.slice(1, held, chunk.tokens - held));
    }
    stream = rest;
  }
  return size - stream.size();
}

}  // namespace tessera::inline TESSERA_ABI::kv
