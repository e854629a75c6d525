/// Caches as byte streams: what is near in time is coded as differences, by layer and channel, in chunks that each have
/// their own level.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kv/cachegen/tensor.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// The keys and values of one layer.
struct LayerView {
  View<const float, 3> K;  // (kv_heads, t, d)
  View<const float, 3> V;
};

/// The steps of deltas are level_step[level] · {0.5, 1, 1.5} of the median channel's root mean square of deltas in the
/// first, second and last third of the layers.
struct CacheGenOptions {
  int level = 1;           // 0 … 3: the least error and the most bytes first
  Index group = 10;        // tokens, one of them an anchor; 1 codes tokens by themselves
  Index chunk = 1536;      // tokens; 4096 at most
  float step = 0;          // in place of a level's steps, all layers
  bool one_model = false;  // one distribution for all channels of a layer's keys or values: to compare
  static constexpr std::array<float, 4> level_step{0.5f, 1, 2, 4};
  static constexpr int levels = static_cast<int>(level_step.size());
};

/// A chunk as decoded: numbers, or the text that they are to be computed from.
struct CacheGenChunk {
  Index begin = 0, tokens = 0, layers = 0, kv_heads = 0, head_dim = 0;
  int level = 0;
  bool is_text = false;
  Bytes text;
  std::vector<float> numbers;  // (layers, keys and values, kv_heads, tokens, d)

  LayerView layer(Index l) const { return {tensor(2 * l), tensor(2 * l + 1)}; }

 private:
  View<const float, 3> tensor(Index i) const {
    return {numbers.data() + i * kv_heads * tokens * head_dim, {kv_heads, tokens, head_dim}};
  }
};

namespace detail {

inline constexpr std::uint32_t cachegen_magic = 0x31474354;  // TCG1
inline constexpr Index cachegen_most_tokens = 4096, cachegen_most_channels = Index{1} << 20, cachegen_header = 40;

struct CacheGenHeader {
  std::uint32_t magic = cachegen_magic, kind_level_group = 0, layers = 0, kv_heads = 0, head_dim = 0, begin = 0,
                tokens = 0, reserved = 0;
  std::uint64_t payload = 0;

  void write(Bytes& to) const {
    for (const std::uint32_t word : {magic, kind_level_group, layers, kv_heads, head_dim, begin, tokens, reserved})
      put(to, word);
    put(to, payload);
  }
};

inline float cachegen_bin(const CacheGenOptions& options, Index layer, Index layers) {
  return CacheGenOptions::level_step[static_cast<std::size_t>(options.level)] * 0.5f *
         static_cast<float>(1 + 3 * layer / layers);
}

inline void check_cachegen(std::span<const LayerView> layers, const CacheGenOptions& options) {
  if (options.level < 0 || options.level >= CacheGenOptions::levels || options.group < 1 || options.group > 4096 ||
      options.chunk < 1 || options.chunk > cachegen_most_tokens || !(options.step >= 0 && options.step < 0x1p100f))
    throw unsupported_error(tessera::detail::concat(
        "tessera: CacheGen at level ", options.level, " with groups of ", options.group, " tokens, chunks of ",
        options.chunk, " and steps of ", options.step, "; expected 0 to ", CacheGenOptions::levels - 1,
        ", 1 to 4096, 1 to 4096, and not negative"));
  const auto extents = layers.empty() ? std::array<Index, 3>{} : layers[0].K.extents();
  for (std::size_t l = 0; l < layers.size(); ++l)
    for (const auto& view : {layers[l].K, layers[l].V})
      if (view.extents() != extents)
        throw shape_error(tessera::detail::concat("tessera: CacheGen: layer ", l, " has (", view.extent(0), ", ",
                                                  view.extent(1), ", ", view.extent(2), "), layer 0 (", extents[0],
                                                  ", ", extents[1], ", ", extents[2], "): expected the same"));
  if (layers.empty() || extents[0] < 1 || extents[1] < 1 || extents[2] < 1 || extents[1] > cachegen_most_tokens)
    throw shape_error(tessera::detail::concat("tessera: CacheGen: a chunk of ", layers.size(), " layers of (",
                                              extents[0], ", ", extents[1], ", ", extents[2],
                                              "): expected some of each and 4096 tokens at most"));
  if (extents[0] > cachegen_most_channels / extents[2])
    throw unsupported_error(tessera::detail::concat("tessera: CacheGen: ", extents[0], " kv heads of ", extents[2],
                                                    " channels; expected at most ", cachegen_most_channels,
                                                    " channels in all"));
}

inline QuantizedTensor cachegen_tensor(std::span<const LayerView> layers, std::size_t i,
                                       const CacheGenOptions& options) {
  const auto& view = i % 2 == 0 ? layers[i / 2].K : layers[i / 2].V;
  return quantize_tensor(view, {options.group, view.extent(1)},
                         cachegen_bin(options, static_cast<Index>(i / 2), static_cast<Index>(layers.size())),
                         options.step);
}

}  // namespace detail

/// Y. Liu et al., "CacheGen: KV Cache Compression and Streaming for Fast Large Language Model Serving" (SIGCOMM 2024),
/// §5: all layers' keys and values of tokens at positions begin, begin + 1, … as one chunk. Groups of 10 tokens, deltas
/// to the first at steps that grow with the layer, the first at a quarter of these; entropy coding by distributions of
/// channels. Every number is within half its step as decoded (channels that would take more than 255 steps have them
/// doubled). Deviations: deltas are taken to anchors as decoded; channels alike share a table where that takes fewer
/// bytes; anchors are entropy-coded too. Two tensors a layer, coded in parallel, the same bytes for any number of
/// threads. Throws shape_error, and unsupported_error for numbers that are not finite or 2^110 and more.
inline Bytes cachegen_encode(Context& ctx, std::span<const LayerView> layers, Index begin,
                             const CacheGenOptions& options = {}) {
  detail::check_cachegen(layers, options);
  const Index t = layers[0].K.extent(1);
  if (begin < 0 || begin > std::numeric_limits<std::int32_t>::max() - t)
    throw unsupported_error(tessera::detail::concat("tessera: CacheGen: a chunk of ", t, " tokens at position ", begin,
                                                    "; expected 0 to 2^31 - 1 and their end there too"));
  std::vector<Bytes> parts(2 * layers.size());
  for_each_chunk(ctx, static_cast<Index>(parts.size()), 1, [&](Context&, Index from, Index to) {
    for (auto i = static_cast<std::size_t>(from); i < static_cast<std::size_t>(to); ++i)
      detail::encode_tensor(detail::cachegen_tensor(layers, i, options), {options.group, t}, options.one_model,
                            parts[i]);
  });
  detail::CacheGenHeader header;
  header.kind_level_group = static_cast<std::uint32_t>(options.level << 8 | static_cast<int>(options.group) << 16);
  header.layers = static_cast<std::uint32_t>(layers.size());
  header.kv_heads = static_cast<std::uint32_t>(layers[0].K.extent(0));
  header.head_dim = static_cast<std::uint32_t>(layers[0].K.extent(2));
  header.begin = static_cast<std::uint32_t>(begin);
  header.tokens = static_cast<std::uint32_t>(t);
  for (const Bytes& part : parts) header.payload += 8 + part.size();
  Bytes all;
  all.reserve(static_cast<std::size_t>(header.payload) + detail::cachegen_header);
  header.write(all);
  for (const Bytes& part : parts) {
    detail::put(all, std::uint64_t{part.size()});
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

/// A chunk of tokens that are to be computed from their text: what a controller falls back to.
inline Bytes cachegen_text(std::span<const std::uint8_t> text, Index begin, Index tokens) {
  if (tokens < 1 || tokens > detail::cachegen_most_tokens || begin < 0 ||
      begin > std::numeric_limits<std::int32_t>::max() - tokens)
    throw unsupported_error(tessera::detail::concat("tessera: CacheGen: text of ", tokens, " tokens from ", begin,
                                                    "; expected 1 to 4096 tokens"));
  detail::CacheGenHeader header;
  header.kind_level_group = 1;
  header.begin = static_cast<std::uint32_t>(begin);
  header.tokens = static_cast<std::uint32_t>(tokens);
  header.payload = text.size();
  Bytes all;
  header.write(all);
  all.insert(all.end(), text.begin(), text.end());
  return all;
}

/// What decoding of cachegen_encode's bytes gives.
inline CacheGenChunk cachegen_quantized(std::span<const LayerView> layers, Index begin,
                                        const CacheGenOptions& options = {}) {
  detail::check_cachegen(layers, options);
  const auto [heads, t, d] = layers[0].K.extents();
  CacheGenChunk chunk{begin, t, static_cast<Index>(layers.size()), heads, d, options.level, false, {}, {}};
  chunk.numbers.resize(2 * layers.size() * static_cast<std::size_t>(heads * t * d));
  for (std::size_t i = 0; i < 2 * layers.size(); ++i)
    detail::dequantize_tensor(detail::cachegen_tensor(layers, i, options), {options.group, t},
                              {chunk.numbers.data() + static_cast<Index>(i) * heads * t * d, {heads, t, d}});
  return chunk;
}

/// The first chunk of a stream, which then begins at the next. `name` is what errors call it. Throws format_error for
/// what no encoder wrote, with nothing allocated that a stream of this size could not hold (4096 numbers for each byte
/// or two), and unsupported_error for more than `most` numbers.
inline CacheGenChunk cachegen_decode(Context& ctx, std::span<const std::uint8_t>& stream,
                                     std::string_view name = "CacheGen stream", Index most = Index{1} << 28) {
  const auto refuse = [&](const auto&... what) {
    throw format_error(tessera::detail::concat("tessera: ", name, ": ", what...));
  };
  detail::ByteReader reader{stream};
  detail::CacheGenHeader h;
  for (std::uint32_t* word :
       {&h.magic, &h.kind_level_group, &h.layers, &h.kv_heads, &h.head_dim, &h.begin, &h.tokens, &h.reserved})
    *word = reader.get<std::uint32_t>();
  h.payload = reader.get<std::uint64_t>();
  if (reader.failed) refuse("a chunk's header of ", stream.size(), " bytes; expected ", detail::cachegen_header);
  if (h.magic != detail::cachegen_magic) refuse("a chunk that does not begin with TCG1");
  const std::uint32_t kind = h.kind_level_group & 0xff, level = h.kind_level_group >> 8 & 0xff,
                      group = h.kind_level_group >> 16;
  detail::ByteReader payload{reader.take(h.payload)};
  if (reader.failed) refuse("a chunk of ", h.payload, " bytes; ", reader.left.size(), " are left");
  if (kind > 1 || level >= CacheGenOptions::levels || group > 4096 || (kind == 0) != (group > 0) || h.reserved != 0 ||
      h.tokens < 1 || h.tokens > detail::cachegen_most_tokens || h.begin > 0x7fffffff - h.tokens)
    refuse("a chunk of kind ", kind, ", level ", level, ", groups of ", group, " and ", h.tokens, " tokens from ",
           h.begin);
  CacheGenChunk chunk{Index{h.begin},
                      Index{h.tokens},
                      Index{h.layers},
                      Index{h.kv_heads},
                      Index{h.head_dim},
                      static_cast<int>(level),
                      kind == 1,
                      {},
                      {}};
  if (kind == 1) {
    if (h.layers != 0 || h.kv_heads != 0 || h.head_dim != 0 || level != 0) refuse("text with layers");
    chunk.text.assign(payload.left.begin(), payload.left.end());
    stream = reader.left;
    return chunk;
  }
  // Every channel has three bytes of its own, and every tensor more than 16.
  constexpr std::uint64_t wide = detail::cachegen_most_channels;
  const std::uint64_t channels = std::uint64_t{h.kv_heads} * h.head_dim;
  if (h.layers < 1 || channels < 1 || h.layers > h.payload / 32 || channels > wide ||
      channels * 6 > h.payload / h.layers)
    refuse("a chunk of ", h.layers, " layers of ", h.kv_heads, " heads of ", h.head_dim, " channels in ", h.payload,
           " bytes");
  const std::uint64_t numbers = 2 * h.layers * channels * h.tokens;
  if (numbers > static_cast<std::uint64_t>(most))
    throw unsupported_error(tessera::detail::concat("tessera: ", name, ": a chunk of ", numbers, " numbers; at most ",
                                                    most, " are to be read"));
  std::vector<detail::ByteReader> parts(2 * std::size_t{h.layers});
  for (detail::ByteReader& part : parts) part.left = payload.take(payload.get<std::uint64_t>());
  if (payload.failed || !payload.left.empty()) refuse("a chunk whose parts do not have its length");
  chunk.numbers.resize(static_cast<std::size_t>(numbers));
  std::vector<const char*> wrong(parts.size());
  const detail::TokenGroups of{Index{group}, chunk.tokens};
  const std::array<Index, 3> extents{chunk.kv_heads, chunk.tokens, chunk.head_dim};
  for_each_chunk(ctx, static_cast<Index>(parts.size()), 1, [&](Context&, Index from, Index to) {
    for (Index i = from; i < to; ++i) {
      detail::QuantizedTensor q(static_cast<Index>(channels), of);
      const char*& why = wrong[static_cast<std::size_t>(i)];
      why = detail::decode_tensor(parts[static_cast<std::size_t>(i)], of, q);
      if (why == nullptr)
        detail::dequantize_tensor(q, of,
                                  {chunk.numbers.data() + i * static_cast<Index>(channels) * chunk.tokens, extents});
    }
  });
  for (std::size_t i = 0; i < wrong.size(); ++i)
    if (wrong[i] != nullptr) refuse(i % 2 == 0 ? "keys" : "values", " of layer ", i / 2, ' ', wrong[i]);
  stream = reader.left;
  return chunk;
}

}  // namespace tessera::inline TESSERA_ABI::kv
