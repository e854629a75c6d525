/// Any store of rows, in the coordinates of a channel map.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <limits>
#include <new>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/kv/codecs/channel_map.hpp>
#include <tessera/kv/codecs/codec.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Rows of d channels, kept by `Packed` as map.width() coordinates. Attention meets the coordinates alone: queries are
/// absorbed, results expanded. The map belongs to the model, not to the cache: its bytes are not counted.
template <ChannelMap Map, RowStore Packed>
class LatentRows {
 public:
  /// Throws shape_error unless the map is of d channels.
  LatentRows(Map map, Packed packed, Index d) : map_(std::move(map)), packed_(std::move(packed)) {
    if (map_.channels() != d)
      throw shape_error(tessera::detail::concat("tessera: a channel map of ", map_.channels(),
                                                " channels in a KV cache of ", d, " channels a head"));
  }

  void append(const float* rows, Index count, Index stride) {
    constexpr Index at_once = 256;
    Context& ctx = default_context();
    const Index d = map_.channels(), width = map_.width();
    for (Index t = 0; t < count; t += at_once) {
      const Index some = std::min(at_once, count - t);
      Workspace::Scope scope(ctx.workspace);
      const MatrixView<float> coordinates(scope.take<float>(some * width), some, width);
      map_.encode(ctx, {rows + t * stride, {some, d}, {stride, 1}}, coordinates);
      packed_.append(coordinates.data(), some, width);
    }
  }
  /// NaN if memory runs out for the coordinates or what the map needs: attention, which calls it, cannot throw.
  const float* tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    Context& ctx = default_context();
    const Index d = map_.channels(), width = map_.width();
    stride = d;
    try {
      Workspace::Scope scope(ctx.workspace);
      Index row_stride = 0;
      const float* const rows = packed_.tile(begin, count, scope.take<float>(count * width), row_stride, unpack);
      map_.decode(ctx, {rows, {count, width}, {row_stride, 1}}, MatrixView<float>(scratch, count, d));
    } catch (const std::bad_alloc&) {
      std::fill_n(scratch, count * d, std::numeric_limits<float>::quiet_NaN());
    }
    return scratch;
  }
  void retain(std::span<const Index> kept) { packed_.retain(kept); }
  void retain(std::span<const Index> kept, Index spare) requires requires(Packed& packed) {
    packed.retain(kept, spare);
  }
  { packed_.retain(kept, spare); }
  void demote(std::span<const Index> kept) requires requires(Packed& packed) { packed.demote(kept); }
  { packed_.demote(kept); }
  void truncate(Index n) { packed_.truncate(n); }
  void reserve(Index n) { packed_.reserve(n); }
  Index size() const { return packed_.size(); }
  std::size_t bytes() const { return packed_.bytes(); }

  Index latent() const { return packed_.size(); }
  Index width() const { return map_.width(); }
  const float* latent_tile(Index begin, Index count, float* scratch, Index& stride, Unpack unpack) const noexcept {
    return packed_.tile(begin, count, scratch, stride, unpack);
  }
  TokenCodes latent_codes(Index begin) const noexcept {
    if constexpr (requires { packed_.codes(begin); }) return packed_.codes(begin);
    return {};
  }
  void absorb(Context& ctx, MatrixView<const float> queries, MatrixView<float> out) const {
    map_.absorb(ctx, queries, out);
  }
  void expand(Context& ctx, MatrixView<const float> results, MatrixView<float> out) const {
    map_.decode(ctx, results, out);
  }

 private:
  Map map_;
  Packed packed_;
};

namespace detail {

/// A codec without an exact window of its own, for those that put one before it.
template <class C>
C windowless() {
  C codec{};
  if constexpr (requires { codec.recent; }) codec.recent = 0;
  return codec;
}

template <std::size_t N>
consteval std::array<char, N> joined(std::string_view a, std::string_view b) {
  std::array<char, N> text{};
  std::copy(b.begin(), b.end(), std::copy(a.begin(), a.end(), text.begin()));
  return text;
}

inline void check_maps(std::size_t maps, Index kv_heads, std::string_view what) {
  if (maps != 1 && static_cast<Index>(maps) != kv_heads)
    throw shape_error(tessera::detail::concat("tessera: ", maps, " maps of ", what, " for ", kv_heads,
                                              " kv heads; expected one for all, or one each"));
}
template <class Map>
const Map& map_of_head(const std::vector<Map>& maps, Index kv_head, std::string_view what) {
  if (maps.size() != 1 && kv_head >= static_cast<Index>(maps.size()))
    throw shape_error(tessera::detail::concat("tessera: ", maps.size(), " maps of ", what, " for kv head ", kv_head,
                                              ": expected one for all heads, or one each"));
  return maps[maps.size() == 1 ? 0 : static_cast<std::size_t>(kv_head)];
}

}  // namespace detail

}  // namespace tessera::inline TESSERA_ABI::kv
